"""A user's session: what became of each ask, pushed to the page by server-sent events."""

import json

from js import TransformStream
from workers import DurableObject, Response


class Session(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.writers = set()

    async def progress(self, ask_id, text):
        """Text so far. Not stored: the final answer is, and the next piece replaces this one."""
        await self.push({"id": ask_id, "state": "running", "text": text})

    async def answered(self, ask_id, text):
        await self.settle({"id": ask_id, "state": "complete", "text": text})

    async def refused(self, ask_id, reason):
        await self.settle({"id": ask_id, "state": "refused", "text": reason})

    async def settle(self, message):
        await self.ctx.storage.put(f"ask/{message['id']}", message)
        await self.push(message)

    async def push(self, message):
        data = f"data: {json.dumps(message)}\n\n".encode()
        for writer in list(self.writers):
            try:
                await writer.write(data)
            except Exception:
                self.writers.discard(writer)

    async def fetch(self, request):
        """An event stream that begins with every settled ask."""
        stream = TransformStream.new()
        writer = stream.writable.getWriter()
        self.ctx.waitUntil(self.greet(writer))
        headers = {"content-type": "text/event-stream", "cache-control": "no-store"}
        return Response(stream.readable, headers=headers)

    async def greet(self, writer):
        settled = await self.ctx.storage.list(prefix="ask/")
        for message in settled.values():
            await writer.write(f"data: {json.dumps(message)}\n\n".encode())
        await writer.write(b": listening\n\n")
        self.writers.add(writer)
