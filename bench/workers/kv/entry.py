import itertools
from urllib.parse import parse_qs, urlsplit

from workers import Response, WorkerEntrypoint

KEYS = [f"key-{i}" for i in range(100)]
VALUE = "x" * 1024
counter = itertools.count()


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        url = urlsplit(request.url)
        if url.path == "/get":
            for key in KEYS[: int(parse_qs(url.query)["n"][0])]:
                assert len(await self.env.KV.get(key)) == 1024
        elif url.path == "/put":
            await self.env.KV.put(f"put-{next(counter)}", VALUE)
        else:
            for key in KEYS:
                await self.env.KV.put(key, VALUE)
        return Response("ok")
