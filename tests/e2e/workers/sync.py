"""Handlers that are plain functions."""

from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    def fetch(self, request, env, ctx):
        return Response(f"{request.method} {env.FLAVOUR}", headers={"x-same": str(ctx is not None and env is self.env)})
