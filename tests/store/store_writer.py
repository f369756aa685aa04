"""A child process that writes pairs of entries and prints each number once both are acknowledged.

Arguments: path, name, number of tasks, pairs per task, map size. Prints "ack <task> <number>", at last "done" or
"failed <error>"; after a failed commit it tries once more and prints what came of it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import trio

from edge_runtime.errors import StoreError
from edge_runtime.store.api import Batch, Table
from edge_runtime.store.lmdb_store import open_store


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


async def main(path: str, name: str, tasks: str, pairs: str, map_size: str) -> None:
    async with open_store(Path(path), map_size=int(map_size)) as store:

        async def write(task: int) -> None:
            for number in range(int(pairs)):
                key = f"{name}-{task}-{number}".encode()
                value = key * (1 + number % 300)
                batch = Batch().put(Table.KV, key, value).put(Table.OBJECTS, b"o" * (number % 900) + key, value)
                await store.commit(batch.add_counters(Table.LEDGER, name.encode(), {"pairs": 1}))
                say(f"ack {task} {number}")

        try:
            async with trio.open_nursery() as nursery:
                for task in range(int(tasks)):
                    nursery.start_soon(write, task)
        except* StoreError as errors:
            say(f"failed {type(errors.exceptions[0]).__name__} settled={store.failed.settled}")
            try:
                await store.commit(Batch().put(Table.KV, b"after the failure", b""))
            except StoreError as error:
                say(f"refused {type(error).__name__}")
            else:
                say("accepted")
        else:
            say("done")


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
