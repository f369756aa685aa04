from workers import Response, WorkerEntrypoint

BODY = b"x" * 999_997 + b"end"


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.method == "POST":
            return Response(str(len(await request.bytes())))
        return Response(BODY)
