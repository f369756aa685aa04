"""Where clients come in: accepts connections, finds out for which worker they are, hands over the socket.

The supervisor reads nothing from a connection: it peeks, so the isolate finds every byte still there. A connection
that waits for its isolate to start costs a task and a descriptor here, and nothing else.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping, Sequence
from typing import Final

import trio

from edge_runtime.control import Routes, WorkerRoutes
from edge_runtime.limits import INGRESS_PENDING_MAX, PEEK_MAX, PEEK_TIMEOUT_S
from edge_runtime.routing import RoutingTable
from edge_runtime.supervisor.isolate import IsolateHandle
from edge_runtime.supervisor.last_answers import last_answer, send_now
from edge_runtime.supervisor.peek import Head, Peeked, look
from edge_runtime.supervisor.refusal import plain_answer, refuse
from edge_runtime.supervisor.report import Report
from edge_runtime.supervisor.untouched import has_unread, is_untouched
from edge_runtime.supervisor.worker import Worker
from edge_runtime.supervisor.worker_records import WorkerUnavailable

_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_EXHAUSTED_WAIT_S: Final = 0.1
_LISTENER_GONE: Final = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK)
_POLL_S: Final = 0.01

_BAD_REQUEST: Final = plain_answer(400, "This is not an HTTP request.\n")
_NOT_TLS: Final = plain_answer(400, "This port speaks HTTP, not HTTPS.\n")
_HEAD_TOO_LARGE: Final = plain_answer(431, "The request's headers are too large to find its host.\n")
_NO_WORKER: Final = plain_answer(404, "There is no worker for this host and path.\n")


class Ingress:
    def __init__(self, workers: Mapping[str, Worker], report: Report, *, development: bool) -> None:
        self._workers = workers
        self._report = report
        self._development = development
        self._undecided: dict[trio.CancelScope, None] = {}
        self._exhausted = False
        self._nursery: trio.Nursery | None = None
        """While it serves."""
        self.table = RoutingTable({})

    def routes_changed(self) -> None:
        """Read the routes of the workers again, and tell all of them."""
        reachable = {name: each for name, each in self._workers.items() if each.version.config.pinned is None}
        self.table = RoutingTable({name: worker.version.config.routes for name, worker in reachable.items()})
        routes = Routes(
            tuple(
                WorkerRoutes(
                    name,
                    tuple((route.host, route.path, route.exact) for route in worker.version.config.routes),
                    worker.version.classes,
                )
                for name, worker in reachable.items()
            )
        )
        for worker in self._workers.values():
            worker.routes_changed(routes)

    async def serve(self, listeners: Sequence[socket.socket]) -> None:
        """Accept until cancelled; closes the listeners."""
        async with trio.open_nursery() as self._nursery:
            for listener in listeners:
                self._nursery.start_soon(self._accept, trio.socket.from_stdlib_socket(listener), self._nursery)
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def take_back(self, worker: Worker, isolate: IsolateHandle) -> None:
        """Answer the clients whose requests a killed isolate had begun, and have its idle connections served by the
        next one."""
        for left in isolate.left:
            answer = None if left.idle else last_answer(left, isolate, development=self._development)
            rest = send_now(left.client, answer) if answer is not None else b""
            if self._nursery is None or (answer is None and not left.idle):
                left.client.close()
                continue
            client = trio.socket.from_stdlib_socket(left.client)
            if left.idle:
                self._nursery.start_soon(self._serve_elsewhere, client, worker)
            else:
                self._nursery.start_soon(refuse, client, rest)

    async def _serve_elsewhere(self, client: trio.socket.SocketType, worker: Worker) -> None:
        """Bring a connection on which nothing is owed to the next isolate. If there is none, a client that has asked
        for something is told; another finds its connection closed."""
        with client:
            try:
                answer = await self._hand_over(client, worker)
                if answer is not None and has_unread(client):
                    await refuse(client, answer)
            except OSError:
                return  # the client has gone

    async def _accept(self, listener: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        with listener:
            while True:
                try:
                    client, _ = await listener.accept()
                except OSError as error:
                    if error.errno in _LISTENER_GONE:
                        raise
                    if error.errno in _EXHAUSTED:
                        await self._wait_for_descriptors(error)
                    continue  # otherwise the client has gone already
                self._exhausted = False
                nursery.start_soon(self._serve, client)

    async def _wait_for_descriptors(self, error: OSError) -> None:
        if not self._exhausted:
            self._exhausted = True
            self._report.notice(f"cannot accept connections for now: {error.strerror}")
        await trio.sleep(_EXHAUSTED_WAIT_S)

    async def _serve(self, client: trio.socket.SocketType) -> None:
        """Bring one connection to its worker. Whatever is wrong with it is answered to its client alone."""
        with client:
            try:
                choice = await self._choose(client)
                if isinstance(choice, Worker):
                    choice = await self._hand_over(client, choice)
                if choice is not None:
                    await refuse(client, choice)
            except OSError:
                return  # the client has gone

    async def _choose(self, client: trio.socket.SocketType) -> Worker | bytes | None:
        """The worker for a connection, or the answer for its client, or None when it is just to be closed."""
        with trio.move_on_after(PEEK_TIMEOUT_S) as scope:
            self._undecided[scope] = None
            if len(self._undecided) > INGRESS_PENDING_MAX:
                # The one that has been silent longest makes room.
                next(iter(self._undecided)).cancel()
            try:
                return await self._look(client)
            finally:
                self._undecided.pop(scope, None)
        return None

    async def _look(self, client: trio.socket.SocketType) -> Worker | bytes | None:
        seen = 0
        while True:
            if seen:
                await trio.lowlevel.wait_readable(client)
            data = await client.recv(1 if self.table.sole else PEEK_MAX, socket.MSG_PEEK)
            if not data:
                return None
            if self.table.sole is not None:
                return self._workers[self.table.sole]
            peeked = look(data)
            if peeked is Peeked.INCOMPLETE:
                if len(data) >= PEEK_MAX:
                    return _HEAD_TOO_LARGE
                if len(data) == seen and client.family != socket.AF_UNIX:
                    return _BAD_REQUEST  # readable without anything new: the client has half-closed
                seen = len(data)
                await self._wait_for_more(client, seen)
                continue
            _expect_more_than(client, 0)
            return self._place(peeked)

    async def _wait_for_more(self, client: trio.socket.SocketType, seen: int) -> None:
        """What was peeked at stays readable, so the kernel is told to wait for more than that."""
        if client.family == socket.AF_UNIX:
            await trio.sleep(_POLL_S)  # Unix sockets do not know of that
        else:
            _expect_more_than(client, seen)

    def _place(self, peeked: Head | Peeked) -> Worker | bytes:
        if peeked is Peeked.TLS:
            return _NOT_TLS
        if peeked is Peeked.GARBAGE:
            return _BAD_REQUEST
        name = self.table.choose(peeked.host, peeked.path) if isinstance(peeked, Head) else self.table.default
        return _NO_WORKER if name is None else self._workers[name]

    async def _hand_over(self, client: trio.socket.SocketType, worker: Worker) -> bytes | None:
        """Pass the socket to the worker's isolate; returns an answer for the client when there is none.

        An isolate that dies with the connection still waiting before it does not take it along: the next one gets it.
        """
        while True:
            try:
                isolate = await worker.isolate()
            except WorkerUnavailable as error:
                return self._unavailable(error)
            try:
                if await isolate.hand_over(client.fileno()) or not is_untouched(client):
                    return None
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await isolate.leaving.wait()
            except OSError as error:
                # Too many descriptors in flight or no memory: as when accepting.
                await self._wait_for_descriptors(error)

    def _unavailable(self, error: WorkerUnavailable) -> bytes:
        if self._development:
            text = f"{error}\n\n{error.detail}" if error.detail else str(error)
            return plain_answer(500, f"{text}\n")
        return plain_answer(503, "The worker is not available.\n", retry_after_s=error.retry_after_s)


def _expect_more_than(client: trio.socket.SocketType, count: int) -> None:
    if client.family != socket.AF_UNIX:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count + 1)
