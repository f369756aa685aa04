"""How much private memory does an isolate keep after its first requests?"""

from __future__ import annotations

from collections.abc import Iterator

import trio

from bench.figure import Figure
from bench.isolates import isolates_of, request
from bench.processes import HERE, private_mb
from edge_runtime.supervisor.zygote import ZygoteHandle, start_zygote


def run() -> Iterator[Figure]:
    for worker in ("hello_trio", "hello_asyncio", "kv"):
        used_mb = trio.run(_idle, worker, start_zygote())
        yield Figure(f"private memory of an idle isolate, {worker}", used_mb, "MB", bound=10)


async def _idle(worker: str, zygote: ZygoteHandle) -> float:
    async with isolates_of(HERE / "workers" / worker, zygote) as isolates:
        isolate = await isolates.fork()
        for _ in range(10):
            await request(isolate)
        await trio.sleep(2)
        return private_mb(isolate.pid)
