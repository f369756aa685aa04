"""The protocol of apps without HTTP: a line {"count", "together"} on the input has so many instances run, and is
answered by a line {"waited_ms", "elapsed_s"}."""

import asyncio
import json
import sys
import time


def say(**what):
    print(json.dumps(what), flush=True)


def serve(run):
    """Answer lines with the blocking `run()` of one instance, one after the other."""
    say(ready=True)
    for line in sys.stdin:
        waited_ms = []
        begun = time.perf_counter()
        for _ in range(json.loads(line)["count"]):
            one = time.perf_counter()
            run()
            waited_ms.append((time.perf_counter() - one) * 1000)
        say(waited_ms=waited_ms, elapsed_s=time.perf_counter() - begun)


async def serve_async(run):
    """Answer lines with the coroutine `run()` of one instance, so many at a time as the line says."""
    say(ready=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        begun = time.perf_counter()
        waited_ms = await _together(run, **json.loads(line))
        say(waited_ms=waited_ms, elapsed_s=time.perf_counter() - begun)


async def _together(run, count, together):
    waited_ms = []
    free = asyncio.Semaphore(together)

    async def one():
        async with free:
            begun = time.perf_counter()
            await run()
            waited_ms.append((time.perf_counter() - begun) * 1000)

    await asyncio.gather(*(one() for _ in range(count)))
    return waited_ms
