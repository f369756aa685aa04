"""The baseline: a hello on hypercorn with trio and nothing else."""

from __future__ import annotations

from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain;charset=UTF-8"), (b"content-length", b"13")],
}
BODY = {"type": "http.response.body", "body": b"Hello, world!"}


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send(START)
    await send(BODY)


async def main() -> None:
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(serve, application, config))
        print(bound[0], flush=True)


if __name__ == "__main__":
    trio.run(main)
