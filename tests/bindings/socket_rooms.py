"""A room of hibernatable sockets, and clients that join it."""

import trio
import trio.testing
from client_connection import ClientConnection

from edge_runtime.workers.buffers import ArrayBuffer
from edge_runtime.workers.entrypoints import DurableObject
from edge_runtime.workers.response import Response
from edge_runtime.workers.websocket_pair import WebSocketPair, WebSocketRequestResponsePair

settled = trio.testing.wait_all_tasks_blocked


class Room(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.seen = []

    async def fetch(self, request):
        client, server = WebSocketPair.new().object_values()
        tags = [tag for tag in request.url.partition("?")[2].split(",") if tag]
        self.ctx.acceptWebSocket(server, tags)
        server.send("welcome")
        return Response(None, status=101, web_socket=client)

    async def webSocketMessage(self, ws, message):
        self.seen.append(message)
        if isinstance(message, ArrayBuffer):
            ws.send(bytes(message)[::-1])
        elif message == "die":
            self.ctx.abort("told to")
        elif message == "fail":
            raise KeyError("told to")
        elif message.startswith("mark "):
            ws.serializeAttachment({"mark": message[5:]})
            ws.nickname = message[5:]
        elif message == "mark?":
            ws.send(f"{ws.deserializeAttachment()} {getattr(ws, 'nickname', None)}")
        else:
            for socket in self.ctx.getWebSockets():
                socket.send(f"{len(self.seen)}:{message}")

    async def webSocketClose(self, ws, code, reason, wasClean):
        await self.ctx.storage.put("closed", [code, reason, wasClean, ws.readyState])
        ws.close(code, reason)

    async def webSocketError(self, ws, error):
        await self.ctx.storage.put("error", str(error))

    async def stored(self, key):
        return await self.ctx.storage.get(key)

    def sockets(self, tag=None):
        return [self.ctx.getTags(socket) for socket in self.ctx.getWebSockets(tag)]

    def answer_pings(self):
        self.ctx.setWebSocketAutoResponse(WebSocketRequestResponsePair.new("ping", "pong"))

    def answers(self):
        pair = self.ctx.getWebSocketAutoResponse()
        when = [self.ctx.getWebSocketAutoResponseTimestamp(socket) for socket in self.ctx.getWebSockets()]
        return [pair and pair.request, [moment and moment.getTime() for moment in when]]


async def join(here, name="red", query="", of=None):
    async def script():
        return await here.ns[of or next(iter(here.ns))].getByName(name).fetch("http://room/?" + query)

    return ClientConnection(await here.run(script))
