"""How long from the fork of an isolate to its first response, for a FastAPI worker whose template is ready?"""

from __future__ import annotations

import time
from collections.abc import Iterator

import trio

from bench.figure import Figure
from bench.isolates import isolates_of, request
from bench.processes import HERE
from edge_runtime.supervisor.zygote import ZygoteHandle, start_zygote

ROUNDS = 21


def run() -> Iterator[Figure]:
    for worker, bound in (("hello_trio", None), ("fastapi_app", 30.0)):
        times_ms = sorted(trio.run(_starts, worker, start_zygote()))
        yield Figure(
            f"isolate of {worker}, fork to first response, median", times_ms[ROUNDS // 2], "ms", bound, cpu_bound=True
        )


async def _starts(worker: str, zygote: ZygoteHandle) -> list[float]:
    times_ms = []
    async with isolates_of(HERE / "workers" / worker, zygote) as isolates:
        for _ in range(ROUNDS):
            started = time.perf_counter()
            isolate = await isolates.fork()
            answer = await request(isolate)
            times_ms.append((time.perf_counter() - started) * 1000)
            assert answer.startswith(b"HTTP/1.1 200"), answer
            isolate.kill("it was measured")
            await isolate.dead.wait()
    return times_ms
