"""Load: requests over kept connections, or instances of a workflow; each returns how long every one took, in ms."""

from __future__ import annotations

import http.client
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from edge_runtime.benchmark.server import BenchServer
from edge_runtime.errors import UsageError
from edge_runtime.limits import CREATE_BATCH_MAX
from edge_runtime.seams import SystemClock, SystemRandomness
from edge_runtime.store.api import Batch, Store
from edge_runtime.supervisor import admin_client
from edge_runtime.workflows import control, instances
from edge_runtime.workflows.instances import FINAL, Status

_REQUEST_S: Final = 60.0
_INSTANCE_S: Final = 600.0
_LOOK_S: Final = 0.01
_SHOWN_MAX: Final = 200


class Load(Protocol):
    kind: str
    """Of the events that are one operation each: requests, steps."""
    last: str
    """The kind of the event that ends what is sent; one at least for each."""

    async def send(self, server: BenchServer, store: Store, count: int) -> list[float]:
        """Have `count` requests answered, or instances ended. Raises UsageError at the first that fails."""


@dataclass(frozen=True, slots=True)
class Requests:
    """One request again and again, over `connections` that each wait for the answer before they send the next."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    connections: int

    kind = "fetch"
    last = "fetch"

    async def send(self, server: BenchServer, store: Store, count: int) -> list[float]:
        return await trio.to_thread.run_sync(self._send, server.port, count)

    def _send(self, port: int, count: int) -> list[float]:
        shares = [count // self.connections + (i < count % self.connections) for i in range(self.connections)]
        with ThreadPoolExecutor(self.connections) as pool:
            parts = [pool.submit(self._connection, port, share) for share in shares if share]
            return [took for part in parts for took in part.result()]

    def _connection(self, port: int, count: int) -> list[float]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_REQUEST_S)
        took = []
        try:
            for _ in range(count):
                begun = time.perf_counter()
                connection.request(self.method, self.target, self.body, dict(self.headers))
                answer = connection.getresponse()
                content = answer.read()
                took.append((time.perf_counter() - begun) * 1000)
                if answer.status >= 400:
                    text = content[:_SHOWN_MAX].decode("utf-8", "replace")
                    raise UsageError(
                        f"cannot measure {self.method} {self.target}: it was answered with {answer.status}: {text}"
                    )
        except (OSError, http.client.HTTPException) as error:
            raise UsageError(f"cannot measure {self.method} {self.target}: {error!r}") from None
        finally:
            connection.close()
        return took


@dataclass(frozen=True, slots=True)
class Instances:
    """Instances of one workflow, up to `together` at a time, each from creation to its end."""

    worker: str
    workflow: str
    params: bytes
    """Encoded as `workflows.payloads` does."""
    together: int

    kind = "step"
    last = "workflow"

    async def send(self, server: BenchServer, store: Store, count: int) -> list[float]:
        took: list[float] = []
        while len(took) < count:
            took += await self._run(server, store, min(self.together, count - len(took), CREATE_BATCH_MAX))
        return took

    async def _run(self, server: BenchServer, store: Store, count: int) -> list[float]:
        random, clock = SystemRandomness(), SystemClock()
        ids = [random.uuid() for _ in range(count)]
        batch = Batch()
        with store.snapshot() as snapshot:
            for id in ids:
                new = control.NewInstance(id, self.params, trigger="api")
                control.create(batch, snapshot, self.worker, self.workflow, new, clock=clock, random=random)
        await store.commit(batch)
        await trio.to_thread.run_sync(admin_client.poke_timers, server.data, self.worker)
        with trio.move_on_after(_INSTANCE_S):
            while (ended := self._ended(store, ids)) is None:
                await trio.sleep(_LOOK_S)
            return ended
        raise UsageError(f"cannot measure workflow {self.workflow}: not all instances ended within {_INSTANCE_S:.0f} s")

    def _ended(self, store: Store, ids: Sequence[str]) -> list[float] | None:
        took = []
        with store.snapshot() as snapshot:
            for id in ids:
                record = control.find(snapshot, instances.address_of(self.worker, self.workflow, id))
                if record.status not in FINAL:
                    return None
                if record.status is not Status.COMPLETE:
                    why = f": {record.error.message}" if record.error else ""
                    raise UsageError(f"cannot measure workflow {self.workflow}: an instance ended {record.status}{why}")
                took.append(float((record.ended_ms or record.updated_ms) - record.created_ms))
        return took
