"""One request served in the zygote, so that what first use costs is paid once and shared by every isolate.

First use fills caches (regular expressions, signatures, codecs) and lets the interpreter specialise the code of the
request path in place; done after the fork, each isolate would pay for it in time and in private memory.
"""

from __future__ import annotations

import inspect
import socket
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import get_args

import msgspec
import trio

from edge_runtime.config.model import WorkerLimits
from edge_runtime.control import FromSupervisor
from edge_runtime.isolate.asyncio_flavour import open_asyncio_flavour
from edge_runtime.isolate.events.lifecycle import IsolateEvents
from edge_runtime.isolate.handlers.entrypoints import fetch_handler
from edge_runtime.isolate.handlers.fetch import FetchHandler
from edge_runtime.isolate.http.open_connections import OpenConnections
from edge_runtime.isolate.http1.client_socket import ClientSocket
from edge_runtime.isolate.http1.server import Http1Server
from edge_runtime.isolate.hypercorn.server import HypercornServer
from edge_runtime.isolate.outgoing.net import open_net
from edge_runtime.isolate.outgoing.relay import Relay
from edge_runtime.isolate.script.loader import LoadedScript
from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.limits import BLOCKED_MS_DEFAULT, CPU_MS_DEFAULT, SUBREQUESTS_DEFAULT
from edge_runtime.metering.child_tasks import ChildTaskMeter
from edge_runtime.metering.ledger import Ledger
from edge_runtime.metering.tally import Owner, PrivateSegments
from edge_runtime.seams import Flavour, SystemClock
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.workers.entrypoints import WorkerEntrypoint
from edge_runtime.workers.environment import Env
from edge_runtime.workers.exports import Exports
from edge_runtime.workers.request import Request
from edge_runtime.workers.response import Response
from edge_runtime.workers.websocket_recipient import SocketFlags

_REQUEST = b"POST /path?query=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
_ROUNDS = 20
"""The interpreter specialises code after a few runs of it."""


class _Default(WorkerEntrypoint):
    async def fetch(self, request: Request) -> Response:
        facts = [str(request.method), request.url, request.headers.get("host"), await request.json()]
        return Response.from_json(facts)


def warm_up() -> None:
    """Serve requests to a worker of our own. Leaves no thread, no descriptor and no running loop behind."""
    with suppress(ImportError):
        import_module("lmdb._envid")  # which lmdb imports when it opens its first environment
    for message in get_args(FromSupervisor):
        with suppress(msgspec.ValidationError):
            msgspec.convert(None, message)  # msgspec analyses a type when it meets it
    inspect.getsource(warm_up)  # web frameworks read the source of their routes at the first request
    trio.run(_in_both_flavours, instruments=[ChildTaskMeter()])


async def _in_both_flavours() -> None:
    await _serve_requests(TrioFlavour())
    async with open_asyncio_flavour() as flavour:
        await _serve_requests(flavour)


async def _serve_requests(flavour: Flavour) -> None:
    script = LoadedScript(None, Exports(workers={"Default": _Default}), Env())
    clock = SystemClock()
    ours, theirs = socket.socketpair()
    async with open_net() as net, trio.open_nursery() as nursery:
        ledger = Ledger(MemoryStore(), clock, Owner("", "", "", 0), PrivateSegments())
        limits = WorkerLimits(CPU_MS_DEFAULT, SUBREQUESTS_DEFAULT, BLOCKED_MS_DEFAULT)
        events = IsolateEvents(nursery, flavour, clock, ledger, net, limits, SocketFlags())
        app = FetchHandler(fetch_handler(script), (), Relay("", Path(), nursery), events, development=False)
        connections = OpenConnections()
        server = Http1Server(app, connections, HypercornServer(app, connections), clock)
        await nursery.start(server.watch)
        nursery.start_soon(server.serve, ClientSocket(fileno=theirs.detach()))
        client = _stream(ours)
        for _ in range(_ROUNDS):
            await client.send_all(_REQUEST)
            await client.receive_some(65536)
        await client.aclose()
        await connections.wait_empty()
        nursery.cancel_scope.cancel()


def _stream(sock: socket.socket) -> trio.SocketStream:
    sock.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))
