"""Count the words of many files: a step for each file, a few at once, each retried by itself, with progress.

POST /batches {"id", "files": [names]} starts a batch; GET /batches/ID shows status, progress and result. A file that
cannot be read at last is in "failed" and does not hold up the others.
"""

import asyncio
from urllib.parse import quote, urlparse

from workers import Response, WorkerEntrypoint, WorkflowEntrypoint, fetch
from workers.workflows import NonRetryableError

FILES_MAX = 1000
RETRIES = {"retries": {"limit": 4, "delay": "1 second", "backoff": "exponential"}, "timeout": "1 minute"}


class CountWords(WorkflowEntrypoint):
    async def run(self, event, step):
        batch, files = event["instanceId"], event["payload"]["files"]
        words, failed = {}, {}

        async def count(name):
            response = await fetch(f"{self.env.FILES_URL}/{quote(name)}")
            if response.status == 404:
                raise NonRetryableError(f"{name} is not there")
            response.raise_for_status()
            return len((await response.text()).split())

        async def show(done):
            await self.env.PROGRESS.put(batch, f"{done}/{len(files)}")

        # A group at a time: which steps run together is then the same at every replay.
        for start in range(0, len(files), self.env.AT_ONCE):
            group = files[start : start + self.env.AT_ONCE]
            begun = [step.do(f"count {name}", RETRIES, lambda name=name: count(name)) for name in group]
            for name, result in zip(group, await asyncio.gather(*begun, return_exceptions=True), strict=True):
                if isinstance(result, Exception):
                    failed[name] = str(result)
                elif isinstance(result, BaseException):
                    raise result
                else:
                    words[name] = result
            done = start + len(group)
            await step.do("progress", RETRIES, lambda done=done: show(done))
        return {"words": words, "failed": failed, "total": sum(words.values())}


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        parts = urlparse(request.url).path.strip("/").split("/")
        if request.method == "POST" and parts == ["batches"]:
            return await self.start(request)
        if request.method == "GET" and parts[0] == "batches" and len(parts) == 2:
            return await self.show(parts[1])
        return Response("Not Found\n", status=404)

    async def start(self, request):
        try:
            body = await request.json()
            files = list(dict.fromkeys(str(name) for name in body["files"]))
            batch = str(body["id"])
        except (ValueError, KeyError, TypeError):
            return Response.json({"error": 'send {"id": ..., "files": [...]} as JSON'}, status=400)
        if not 1 <= len(files) <= FILES_MAX:
            return Response.json({"error": f"a batch has 1 to {FILES_MAX} files"}, status=400)
        try:
            await self.env.BATCHES.create(id=batch, params={"files": files})
        except Exception as error:
            return Response.json({"error": str(error)}, status=409)
        return Response.json({"id": batch, "files": len(files)}, status=202)

    async def show(self, batch):
        try:
            instance = await self.env.BATCHES.get(batch)
        except Exception as error:
            return Response.json({"error": str(error)}, status=404)
        status = await instance.status()
        progress = await self.env.PROGRESS.get(batch)
        return Response.json({"status": status["status"], "progress": progress, "output": status["output"]})
