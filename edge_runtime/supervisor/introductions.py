"""What isolates ask for to reach actors elsewhere: another worker's members, a socket to a certain isolate.

Sockets between isolates are made here, in pairs, and passed to the two; so each knows who the other one is, and no
other process can connect.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

import trio

from edge_runtime.control import (
    AskedBySomeIsolate,
    ConnectPeer,
    FindWorker,
    PeerConnected,
    PeerMissing,
    TimersWritten,
    WorkerMissing,
)
from edge_runtime.supervisor.isolate import IsolateHandle
from edge_runtime.supervisor.worker import Worker
from edge_runtime.supervisor.worker_records import WorkerUnavailable


class Introductions:
    """Answers `control.AskedBySomeIsolate` for all isolates of a server."""

    def __init__(
        self, workers: Mapping[str, Worker], nursery: trio.Nursery, timers_written: Callable[[Worker], None]
    ) -> None:
        self._workers = workers
        self._nursery = nursery
        self._timers_written = timers_written
        self._under_way: set[tuple[IsolateHandle, str, int]] = set()

    def asked(self, worker: Worker, isolate: IsolateHandle, message: AskedBySomeIsolate) -> None:
        wanted = self._workers.get(message.worker)
        match message:
            case TimersWritten():
                if wanted is not None:
                    self._timers_written(wanted)
            case FindWorker():
                if wanted is None:
                    isolate.tell(WorkerMissing(message.worker, "there is no such worker on this server", False))
                else:
                    self._find(wanted, worker, isolate)
            case ConnectPeer(isolate=number):
                other = None if wanted is None else wanted.members.find(number)
                key = (isolate, message.worker, number)
                if other is None:
                    isolate.tell(PeerMissing(message.worker, number))
                elif key not in self._under_way:
                    self._under_way.add(key)
                    self._nursery.start_soon(self._introduce, key, worker, other)

    def _find(self, wanted: Worker, asking: Worker, isolate: IsolateHandle) -> None:
        if wanted is not asking:
            wanted.members.follow(isolate)
        if not wanted.serving:
            self._nursery.start_soon(self._start, wanted, isolate)

    async def _start(self, wanted: Worker, isolate: IsolateHandle) -> None:
        try:
            await wanted.isolate()
        except WorkerUnavailable as error:
            isolate.tell(WorkerMissing(wanted.name, str(error), True))

    async def _introduce(self, key: tuple[IsolateHandle, str, int], asking: Worker, other: IsolateHandle) -> None:
        isolate, worker, number = key
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                await other.channel.send(PeerConnected(asking.name, isolate.number, False), (theirs.fileno(),))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                isolate.tell(PeerMissing(worker, number))
            else:
                try:
                    await isolate.channel.send(PeerConnected(worker, number, True), (ours.fileno(),))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return  # who asked is gone; the other one finds the socket closed
            finally:
                self._under_way.discard(key)
