"""Chat rooms, each a Durable Object that sleeps while nobody speaks; its sockets stay open meanwhile.

GET /            the page; the room is the part of its address after #
GET /rooms/NAME  a WebSocket: {"name": ..., "text": ...} in; history, messages and who is there out
"""

import json
import time
from pathlib import Path
from urllib.parse import unquote, urlparse

from js import WebSocketPair, WebSocketRequestResponsePair
from workers import DurableObject, Response, WorkerEntrypoint

HISTORY = 50
NAME_MAX, TEXT_MAX = 40, 2000
PAGE = (Path(__file__).parent / "page.html").read_text()


class Room(DurableObject):
    """Messages are stored under their number, so that the history outlives the object and the server."""

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        ctx.setWebSocketAutoResponse(WebSocketRequestResponsePair.new("ping", "pong"))

    async def fetch(self, request):
        client, server = WebSocketPair.new().object_values()
        self.ctx.acceptWebSocket(server)
        history = await self.ctx.storage.list(prefix="message:", reverse=True, limit=HISTORY)
        server.send(json.dumps({"type": "history", "messages": list(reversed(list(history.values())))}))
        self.tell({"type": "present", "count": len(self.ctx.getWebSockets())})
        return Response(None, status=101, web_socket=client)

    async def webSocketMessage(self, ws, message):
        try:
            said = json.loads(message)
            name, text = said["name"].strip(), said["text"].strip()
        except (AttributeError, KeyError, TypeError, ValueError):
            ws.send(json.dumps({"type": "error", "error": "send an object with name and text"}))
            return
        if not 0 < len(name) <= NAME_MAX or not 0 < len(text) <= TEXT_MAX:
            ws.send(json.dumps({"type": "error", "error": f"1 to {NAME_MAX} and 1 to {TEXT_MAX} characters"}))
            return
        number = (await self.ctx.storage.get("count") or 0) + 1
        entry = {"name": name, "text": text, "at_ms": int(time.time() * 1000)}
        self.ctx.storage.put({"count": number, f"message:{number:012}": entry})
        if number > HISTORY:
            self.ctx.storage.delete(f"message:{number - HISTORY:012}")
        # Nobody sees the message before it is stored: sending waits for the writes above.
        self.tell({"type": "message", **entry})

    async def webSocketClose(self, ws, code, reason, wasClean):
        self.tell({"type": "present", "count": len(self.ctx.getWebSockets())})

    def tell(self, event):
        text = json.dumps(event)
        for socket in self.ctx.getWebSockets():
            socket.send(text)


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = urlparse(request.url).path
        if path == "/":
            return Response(PAGE, headers={"content-type": "text/html;charset=utf-8"})
        folder, _, name = path.strip("/").partition("/")
        if folder != "rooms" or not name:
            return Response("Not Found\n", status=404)
        if (request.headers.get("Upgrade") or "").lower() != "websocket":
            return Response("A room is reached by WebSocket\n", status=426, headers={"upgrade": "websocket"})
        return await self.env.ROOMS.getByName(unquote(name)).fetch(request)
