"""What was charged is found in the memory of the tally by those who look there after its owner's death."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edge_runtime.metering.ledger import Ledger, UsageRow, portions_written, read_usage
from edge_runtime.metering.left_usage import collect_left, unwritten
from edge_runtime.metering.tally import SEGMENT_BYTES, Charge, Owner, PrivateSegments, Tally, read_segment
from edge_runtime.metering.tally_files import TallyFile, read_tallies
from edge_runtime.seams import SystemClock
from edge_runtime.store.memory_store import MemoryStore

FETCH: Charge = ("worker", "fetch", "Default.fetch", "ok")
FAILED: Charge = ("worker", "fetch", "Default.fetch", "exception")
OWNER = Owner("shop", "v1", "5-1", 5)

KILLED = """
import sys, os
from pathlib import Path
from edge_runtime.metering.tally import Owner, Tally
from edge_runtime.metering.tally_files import TallyFile
tally = Tally(TallyFile(Path(sys.argv[1]), Owner("shop", "v1", "7-1", 7)), 7)
for _ in range(3):
    tally.charge(("worker", "fetch", "Default.fetch", "ok"), 1, 0.5, 1.0, {"kv_reads": 2})
print("charged", flush=True)
sys.stdin.read()
"""


class Kept(PrivateSegments):
    """Segments that can be looked at."""

    def __init__(self) -> None:
        self.all: list[memoryview[int]] = []

    def new(self, size: int) -> memoryview[int]:
        self.all.append(super().new(size))
        return self.all[-1]

    def rows(self) -> dict[int, dict[Charge, dict[str, float]]]:
        """By the numbers of portions."""
        found: dict[int, dict[Charge, dict[str, float]]] = {}
        for segment in self.all:
            left = read_segment(segment)
            if left.portion:
                found.setdefault(left.portion, {}).update(left.rows)
        return found


async def charged(directory: Path, store: MemoryStore, owner: Owner = OWNER) -> Ledger:
    """A ledger that has written one event and has another one in its file."""
    ledger = Ledger(store, SystemClock(), owner, TallyFile(directory, owner))
    ledger.charge_event(FETCH, 1, 0.001, 0.5)
    await ledger.flush()
    ledger.charge_event(FETCH, 1, 0.002, 0.5, {"kv_reads": 3})
    return ledger


def usage(store: MemoryStore, directory: Path | None = None) -> list[UsageRow]:
    tallies = [] if directory is None else read_tallies(directory)
    with store.snapshot() as snapshot:
        return read_usage(snapshot, unwritten=list(unwritten(tallies, snapshot)))


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_charges_add_up_in_place_and_by_outcome() -> None:
    memory = Kept()
    tally = Tally(memory, 5)
    tally.charge(FETCH, 1, 0.25, 1.5, {"kv_reads": 2, "subrequests": 1})
    tally.charge(FETCH, 1, 0.5, 0.5, {"kv_reads": 1})
    tally.charge(FAILED, 1, 0.125, 0.0)
    assert memory.rows() == {
        1: {
            FETCH: {"events": 2, "cpu_s": 0.75, "wall_s": 2.0, "kv_reads": 3, "subrequests": 1},
            FAILED: {"events": 1, "cpu_s": 0.125},
        }
    }


def test_a_portion_is_seen_until_it_is_durable_and_its_memory_is_used_again() -> None:
    memory = Kept()
    tally = Tally(memory, 5)
    for number in range(1, 6):
        tally.charge(FETCH, number, 0.0, 0.0)
        portion = tally.take(5)
        tally.charge(FAILED, 1, 0.0, 0.0)
        assert memory.rows()[number][FETCH] == {"events": number}
        assert memory.rows()[number + 1] == {FAILED: {"events": 1}}
        tally.free(portion)
        assert number not in memory.rows()
    assert len(memory.all) == 2


def test_there_is_room_for_any_number_of_names_of_any_length() -> None:
    memory = Kept()
    tally = Tally(memory, 5)
    names = [f"flow/step {number}" for number in range(2000)] + ["\ud800" * SEGMENT_BYTES, ""]
    for name in names:
        tally.charge(("workflow", "step", name, "ok"), 1, 0.0, 0.0)
    assert [row[2] for row in memory.rows()[1]] == names
    assert len(memory.all) > 2


@pytest.mark.parametrize(
    "damage", [struct.pack("=d", float("nan")), struct.pack("=d", 1e300), b"\xff" * 8, struct.pack("=d", 4.0)]
)
@pytest.mark.parametrize("place", [0, 8, 16, 24, 32])
def test_a_damaged_segment_is_refused_or_read_and_never_more(damage: bytes, place: int) -> None:
    memory = Kept()
    Tally(memory, 5).charge(FETCH, 1, 0.25, 1.5)
    memory.all[0][place : place + 8] = damage
    with suppress(ValueError):
        left = read_segment(memory.all[0])
        assert left.rows in ([], [(FETCH, {"events": 1, "cpu_s": 0.25, "wall_s": 1.5})])


async def test_what_the_ledger_does_not_have_is_shown_with_what_it_has(tmp_path: Path) -> None:
    store = MemoryStore()
    ledger = await charged(tmp_path, store)
    assert [row.events for row in usage(store)] == [1]
    (row,) = usage(store, tmp_path)
    assert (row.events, row.cpu_us, row.quantities) == (2, 3000, {"kv_reads": 3})
    await ledger.flush()
    assert usage(store) == usage(store, tmp_path) == [row]


async def test_what_a_dead_isolate_left_is_added_once(tmp_path: Path) -> None:
    store = MemoryStore()
    await charged(tmp_path, store)
    seen = usage(store, tmp_path)
    file = tmp_path / "5-1.tally"
    kept = file.read_bytes()
    await collect_left(tmp_path, "another", store)
    assert usage(store) == seen
    # The collector may have been killed before it removed the file.
    file.write_bytes(kept)
    await collect_left(tmp_path, "another", store)
    assert usage(store) == seen
    assert files(tmp_path) == []
    with store.snapshot() as snapshot:
        assert portions_written(snapshot, OWNER) == 2


@pytest.fixture
def other_process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "charged\n"
        yield process
        process.kill()


async def test_the_file_of_a_living_process_is_left_alone_until_it_is_killed(
    tmp_path: Path, other_process: subprocess.Popen[str]
) -> None:
    store = MemoryStore()
    await collect_left(tmp_path, "another", store)
    assert usage(store) == []
    (row,) = usage(store, tmp_path)
    other_process.kill()
    other_process.wait()
    await collect_left(tmp_path, "another", store)
    assert usage(store) == [row]
    assert (row.worker, row.events, row.cpu_us, row.wall_ms) == ("shop", 3, 1_500_000, 3000.0)
    assert row.quantities == {"kv_reads": 6}


async def test_what_cannot_be_read_is_kept_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, data in (("1-1.tally", b"something else"), ("2-1.tally", b"edgetal1" + b"\xff" * 5000)):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "3-1.tally").touch()
    await collect_left(tmp_path, "another", MemoryStore())
    assert files(tmp_path) == ["1-1.unreadable", "2-1.unreadable"]
    assert len(caplog.records) == 2


async def test_a_full_disk_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    store = MemoryStore()
    ledger = await charged(tmp_path, store)
    await ledger.flush()
    assert [row.events for row in usage(store, tmp_path)] == [2]
    assert files(tmp_path) == []


async def test_an_isolate_that_ends_leaves_no_file(tmp_path: Path) -> None:
    store = MemoryStore()
    file = TallyFile(tmp_path, OWNER)
    ledger = Ledger(store, SystemClock(), OWNER, file)
    ledger.charge_event(FETCH, 1, 0.0, 0.0)
    await ledger.flush()
    assert files(tmp_path) == ["5-1.tally"]
    file.remove()
    assert files(tmp_path) == []
