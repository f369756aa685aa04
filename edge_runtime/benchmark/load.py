"""Load: requests over kept connections, or instances of a workflow; each returns how long every one took, in ms."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from edge_runtime.benchmark.server import BenchServer
from edge_runtime.errors import UsageError
from edge_runtime.limits import CREATE_BATCH_MAX
from edge_runtime.seams import SystemClock, SystemRandomness
from edge_runtime.store.api import Batch, Store
from edge_runtime.supervisor import admin_client
from edge_runtime.workflows.control import asking, creation
from edge_runtime.workflows.stored import instances
from edge_runtime.workflows.stored.instances import FINAL, Status

_REQUEST_S: Final = 60.0
_INSTANCE_S: Final = 600.0
_LOOK_S: Final = 0.01
_SHOWN_MAX: Final = 200


class Sender(Protocol):
    """What sends to one server, for as long as `Load.begin` has it open."""

    async def send(self, count: int) -> list[float]:
        """Have `count` requests answered, or instances ended. Raises UsageError at the first that fails."""


class Load(Protocol):
    @property
    def kind(self) -> str:
        """Of the events that are one operation each: requests, steps."""

    @property
    def last(self) -> str:
        """The kind of the event that ends what is sent; one at least for each."""

    @property
    def together(self) -> int:
        """How many are in progress at a time."""

    def begin(self, server: BenchServer, store: Store) -> AbstractContextManager[Sender]: ...


@dataclass(frozen=True, slots=True)
class Requests:
    """One request again and again, over `together` connections that each wait for the answer before they send the
    next."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    together: int

    kind = "fetch"
    last = "fetch"

    @contextmanager
    def begin(self, server: BenchServer, store: Store) -> Iterator[Sender]:
        connections = [
            http.client.HTTPConnection("127.0.0.1", server.port, timeout=_REQUEST_S) for _ in range(self.together)
        ]
        pool = ThreadPoolExecutor(self.together)
        try:
            yield _Connections(self, connections, pool)
        finally:
            for connection in connections:
                if connection.sock is not None:
                    # Wakes a thread that still waits for an answer, which closing would not.
                    with suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)
            pool.shutdown(cancel_futures=True)
            for connection in connections:
                connection.close()


class _Connections:
    def __init__(self, load: Requests, connections: list[http.client.HTTPConnection], pool: ThreadPoolExecutor) -> None:
        self._load = load
        self._connections = connections
        self._pool = pool

    async def send(self, count: int) -> list[float]:
        # Whoever cancels ends the block of `begin` next, and with it the connections.
        return await trio.to_thread.run_sync(self._send, count, abandon_on_cancel=True)

    def _send(self, count: int) -> list[float]:
        together = self._load.together
        shares = [count // together + (i < count % together) for i in range(together)]
        parts = [
            self._pool.submit(self._exchange, connection, share)
            for connection, share in zip(self._connections, shares, strict=True)
            if share
        ]
        return [took for part in parts for took in part.result()]

    def _exchange(self, connection: http.client.HTTPConnection, count: int) -> list[float]:
        load = self._load
        took = []
        try:
            for _ in range(count):
                begun = time.perf_counter()
                connection.request(load.method, load.target, load.body, dict(load.headers))
                answer = connection.getresponse()
                content = answer.read()
                took.append((time.perf_counter() - begun) * 1000)
                if answer.status >= 400:
                    text = content[:_SHOWN_MAX].decode("utf-8", "replace")
                    raise UsageError(
                        f"cannot measure {load.method} {load.target}: it was answered with {answer.status}: {text}"
                    )
        except (OSError, http.client.HTTPException) as error:
            raise UsageError(f"cannot measure {load.method} {load.target}: {error!r}") from None
        return took


@dataclass(frozen=True, slots=True)
class Instances:
    """Instances of one workflow, up to `together` at a time, each from creation to its end."""

    workflow: str
    params: bytes
    """Encoded as `workflows.script.payloads` does."""
    together: int

    kind = "step"
    last = "workflow"

    @contextmanager
    def begin(self, server: BenchServer, store: Store) -> Iterator[Sender]:
        yield _Instances(self, server, store)


class _Instances:
    def __init__(self, load: Instances, server: BenchServer, store: Store) -> None:
        self._load = load
        self._server = server
        self._store = store
        self._worker = server.subject.config.name

    async def send(self, count: int) -> list[float]:
        took: list[float] = []
        while len(took) < count:
            took += await self._run(min(self._load.together, count - len(took), CREATE_BATCH_MAX))
        return took

    async def _run(self, count: int) -> list[float]:
        random, clock = SystemRandomness(), SystemClock()
        ids = [random.uuid() for _ in range(count)]
        batch = Batch()
        with self._store.snapshot() as snapshot:
            for id in ids:
                new = creation.NewInstance(id, self._load.params, trigger="api")
                creation.create(batch, snapshot, self._worker, self._load.workflow, new, clock=clock, random=random)
        await self._store.commit(batch)
        await trio.to_thread.run_sync(admin_client.poke_timers, self._server.data, self._worker)
        with trio.move_on_after(_INSTANCE_S):
            while (ended := self._ended(ids)) is None:
                await trio.sleep(_LOOK_S)
            return ended
        raise UsageError(
            f"cannot measure workflow {self._load.workflow}: not all instances ended within {_INSTANCE_S:.0f} s"
        )

    def _ended(self, ids: Sequence[str]) -> list[float] | None:
        took = []
        with self._store.snapshot() as snapshot:
            for id in ids:
                record = asking.find(snapshot, instances.address_of(self._worker, self._load.workflow, id))
                if record.status not in FINAL:
                    return None
                if record.status is not Status.COMPLETE:
                    why = f": {record.error.message}" if record.error else ""
                    raise UsageError(
                        f"cannot measure workflow {self._load.workflow}: an instance ended {record.status}{why}"
                    )
                took.append(float((record.ended_ms or record.updated_ms) - record.created_ms))
        return took
