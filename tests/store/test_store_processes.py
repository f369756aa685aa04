"""The store under kill -9, failing disks and other processes: every acknowledged write is there, whole, afterwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest
import trio
from lmdb.verify import verify as verify_file

from edge_runtime.limits import MAP_SIZE
from edge_runtime.store import lmdb_environment, values
from edge_runtime.store.api import Batch, Snapshot, Table
from edge_runtime.store.lmdb_environment import Environment
from edge_runtime.store.lmdb_store import open_store

WRITER = str(Path(__file__).with_name("store_writer.py"))
TINY_MAP = 256 * 1024


@contextmanager
def writing(
    path: Path, name: str, *, tasks: int, pairs: int, map_size: int = MAP_SIZE, trace: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    command = [*trace, sys.executable, WRITER, str(path), name, str(tasks), str(pairs), str(map_size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def read_acks(
    process: subprocess.Popen[bytes], *, at_most: int | None = None
) -> tuple[set[tuple[int, int]], list[str]]:
    """The acknowledged pairs and the other lines, up to the end or to so many acknowledgements."""
    acks: set[tuple[int, int]] = set()
    others: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        word, *rest = line.decode().split()
        if not line.endswith(b"\n"):
            break
        if word == "ack":
            acks.add((int(rest[0]), int(rest[1])))
        else:
            others.append(line.decode().strip())
        if at_most is not None and len(acks) >= at_most:
            break
    return acks, others


def pairs_of(snapshot: Snapshot, name: str) -> set[tuple[int, int]]:
    """The pairs stored, each checked to be whole."""
    found = set()
    for key, value in snapshot.scan(Table.KV, f"{name}-".encode(), f"{name}.".encode()):
        _, task, number = key.decode().split("-")
        assert value == key * (1 + int(number) % 300)
        assert snapshot.get(Table.OBJECTS, b"o" * (int(number) % 900) + key) == value
        found.add((int(task), int(number)))
    counters = snapshot.get(Table.LEDGER, name.encode())
    assert (values.decode(counters)["pairs"] if counters else 0) == len(found)
    return found


async def check(path: Path, name: str, acks: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Reopen as the next process would; the pairs stored, which hold all that were acknowledged."""
    assert verify_file(str(path)) == []
    async with open_store(path) as store:
        with store.snapshot() as snapshot:
            found = pairs_of(snapshot, name)
            assert acks <= found
            assert len(list(snapshot.keys(Table.OBJECTS))) == len(list(snapshot.keys(Table.KV)))
            assert snapshot.get(Table.KV, b"after the failure") is None
        store.verify()
        return found


@pytest.mark.parametrize("map_size", [MAP_SIZE, TINY_MAP], ids=["roomy", "growing"])
async def test_acknowledged_writes_survive_kills_at_random(tmp_path: Path, map_size: int) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for round_ in range(4):
        name = f"r{round_}"
        with writing(tmp_path, name, tasks=8, pairs=100_000, map_size=map_size) as process:
            acks, _ = read_acks(process, at_most=chance.randrange(1, 400))
            os.killpg(process.pid, signal.SIGKILL)
            late, _ = read_acks(process)
        assert process.returncode == -signal.SIGKILL
        await check(tmp_path, name, acks | late)


@pytest.mark.needs("ptrace")
@pytest.mark.parametrize("when", [2, 5])
@pytest.mark.parametrize("call", ["writev", "fdatasync", "pwrite64"])
async def test_acknowledged_writes_survive_a_kill_at_any_call_of_a_commit(tmp_path: Path, call: str, when: int) -> None:
    trace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={when}")
    with writing(tmp_path, "w", tasks=3, pairs=300, trace=trace) as process:
        acks, others = read_acks(process)
    assert others == []
    found = await check(tmp_path, "w", acks)
    assert len(found) <= len(acks) + 3


@pytest.mark.needs("ptrace")
@pytest.mark.parametrize("fault", ["error=EIO:when=3", "error=ENOSPC:when=2+"])
@pytest.mark.parametrize("call", ["writev", "fdatasync", "pwrite64"])
async def test_nothing_is_acknowledged_after_the_disk_failed(tmp_path: Path, call: str, fault: str) -> None:
    async with open_store(tmp_path):
        pass
    trace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:{fault}")
    with writing(tmp_path, "w", tasks=3, pairs=300, trace=trace) as process:
        acks, others = read_acks(process)
    assert others == ["failed StoreFailed settled=True", "refused StoreFailed"]
    assert (tmp_path / "failed").exists()
    await check(tmp_path, "w", acks)
    assert not (tmp_path / "failed").exists()


async def test_processes_write_and_grow_one_store_while_another_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "store"
    acks: dict[str, set[tuple[int, int]]] = {}

    async def follow(name: str, process: subprocess.Popen[bytes]) -> None:
        acks[name], others = await trio.to_thread.run_sync(read_acks, process)
        assert process.stderr is not None
        assert others == ["done"], process.stderr.read().decode()

    async with open_store(path, readonly=True, map_size=TINY_MAP) as store:
        with store.snapshot() as snapshot:
            seen = [len(pairs_of(snapshot, "a")) + len(pairs_of(snapshot, "b"))]
        with (
            writing(path, "a", tasks=4, pairs=60, map_size=TINY_MAP) as first,
            writing(path, "b", tasks=4, pairs=60, map_size=TINY_MAP) as second,
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow, "a", first)
                nursery.start_soon(follow, "b", second)
                while len(acks) < 2:
                    with store.snapshot() as snapshot:
                        seen.append(len(pairs_of(snapshot, "a")) + len(pairs_of(snapshot, "b")))
                    await trio.sleep(0.01)
        with store.snapshot() as snapshot:
            seen.append(len(pairs_of(snapshot, "a")) + len(pairs_of(snapshot, "b")))
        assert seen == sorted(seen)
        assert (seen[0], seen[-1]) == (0, 480)
        assert store.statistics().map_bytes > TINY_MAP
    for name in ("a", "b"):
        assert len(await check(path, name, acks[name])) == 240


async def test_a_store_that_grows_while_it_is_opened_is_opened_as_it_has_become(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tables = lmdb_environment._make_tables

    def grow_first(env: lmdb.Environment, path: Path) -> Environment:
        monkeypatch.setattr(lmdb_environment, "_make_tables", make_tables)
        with writing(path, "a", tasks=4, pairs=120, map_size=TINY_MAP) as process:
            assert read_acks(process)[1] == ["done"]
        return make_tables(env, path)

    monkeypatch.setattr(lmdb_environment, "_make_tables", grow_first)
    async with open_store(tmp_path, map_size=TINY_MAP) as store:
        assert store.statistics().map_bytes > TINY_MAP
        with store.snapshot() as snapshot:
            assert len(pairs_of(snapshot, "a")) == 480


READER = """
import sys, time
from pathlib import Path
import trio
from edge_runtime.store.lmdb_store import open_store

async def main():
    async with open_store(Path(sys.argv[1]), readonly=True) as store:
        with store.snapshot():
            print("reading", flush=True)
            time.sleep(60)

trio.run(main)
"""


@contextmanager
def reading(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", READER, str(path)], stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_a_killed_reader_is_swept_at_the_next_opening(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.commit(Batch().put(Table.KV, b"a", b"1"))
    async with open_store(tmp_path, readonly=True) as store:
        with reading(tmp_path) as reader:
            assert reader.stdout is not None
            assert await trio.to_thread.run_sync(reader.stdout.readline) == b"reading\n"
            assert store.statistics().readers == 1
        assert store.statistics().readers == 1
    async with open_store(tmp_path) as store:
        assert store.statistics().readers == 0
