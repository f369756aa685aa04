"""Stored forms: entries in blocks, their chain, instance records and their index."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.limits import JOURNAL_BLOCK_SMALL
from edge_runtime.store.api import Batch, Table
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core.journal import (
    AttemptFailed,
    AttemptReleased,
    AttemptStarted,
    Backoff,
    Created,
    Drifted,
    Entry,
    EventReceived,
    Finished,
    StepConfig,
    StepFailed,
    StepKey,
    StepKind,
    StepStarted,
    StepSucceeded,
)
from edge_runtime.workflows.stored import blocks, inbox, instances
from edge_runtime.workflows.stored.blocks import JournalBroken
from edge_runtime.workflows.stored.instances import InstanceRecord, Status

KEY = StepKey(("task-1", "item-2"), "charge card", 3)
OOPS = ErrorRecord("ValueError", "oops", "Traceback ...")
CONFIG = StepConfig(None, None, Backoff.LINEAR, 600_000, sensitive=True)
ENTRIES: list[Entry] = [
    Created(seq=1, at_ms=10, params=b"\x00params", trigger="api"),
    StepStarted(
        seq=2, at_ms=11, key=KEY, step=StepKind.DO, position=4, fingerprint="", config=CONFIG, at_most_once=True
    ),
    AttemptFailed(seq=3, at_ms=12, key=KEY, attempt=1, error=OOPS, retry_at_ms=99),
    AttemptStarted(seq=4, at_ms=13, key=KEY, attempt=2),
    AttemptReleased(seq=5, at_ms=14, key=KEY, attempt=2),
    StepSucceeded(seq=6, at_ms=15, key=KEY, value=b"value"),
    StepStarted(seq=7, at_ms=16, key=KEY, step=StepKind.WAIT, position=5, fingerprint="t", due_ms=5, event_type="paid"),
    EventReceived(seq=8, at_ms=17, key=KEY, event_type="paid", payload=b"p", sent_ms=16),
    StepFailed(seq=9, at_ms=18, key=KEY, error=OOPS),
    Drifted(seq=10, at_ms=19, difference="changed"),
    Finished(seq=11, at_ms=20, status="complete"),
]


def chain() -> list[bytes]:
    digest, stored = blocks.FIRST_DIGEST, []
    for entry in ENTRIES:
        value, digest = blocks.encode([entry], digest)
        stored.append(value)
    return stored


async def loaded(stored: dict[int, bytes], seq: int) -> list[Entry]:
    store, batch = MemoryStore(manual=True), Batch()
    for number, value in stored.items():
        batch.put(Table.JOURNAL, blocks.key("w", "f", "i", number), value)
    batch.put(Table.JOURNAL, blocks.key("w", "f", "i2", 1), b"another instance")
    store.commit(batch)
    store.commit_group()
    with store.snapshot() as snapshot:
        return blocks.load(snapshot, "w", "f", "i", seq).entries


async def test_every_kind_of_entry_reads_back_as_written() -> None:
    assert await loaded(dict(enumerate(chain(), 1)), 11) == ENTRIES


async def test_stored_form_of_a_block_is_stable() -> None:
    stored, _ = blocks.encode(ENTRIES[3:5], blocks.FIRST_DIGEST)
    assert stored.hex() == STABLE


STABLE = (
    "03eed423d208740ccf9295a7617474656d7074040d9392a67461736b2d31a66974656d2d32ab63686172676520636172"
    "64030295b0617474656d70745f72656c6561736564050e9392a67461736b2d31a66974656d2d32ab6368617267652063"
    "6172640302"
)


async def test_entries_of_one_block_read_back_in_their_place() -> None:
    first, digest = blocks.encode(ENTRIES[:4], blocks.FIRST_DIGEST)
    second, _ = blocks.encode(ENTRIES[4:], digest)
    assert await loaded({1: first, 5: second}, 7) == ENTRIES


@pytest.mark.parametrize("number", range(1, 12))
async def test_changed_entry_breaks_the_chain(number: int) -> None:
    stored = dict(enumerate(chain(), 1))
    stored[number] = stored[number][:-1] + bytes((stored[number][-1] ^ 0x10,))
    with pytest.raises(JournalBroken, match=f"block of entry {number} is damaged"):
        await loaded(stored, 11)


@pytest.mark.parametrize("number", range(1, 12))
async def test_missing_entry_breaks_the_chain(number: int) -> None:
    stored = dict(enumerate(chain(), 1))
    del stored[number]
    with pytest.raises(JournalBroken):
        await loaded(stored, 11)


async def test_entry_of_another_place_breaks_the_chain() -> None:
    stored = dict(enumerate(chain(), 1))
    stored[3], stored[4] = stored[4], stored[3]
    with pytest.raises(JournalBroken, match="block of entry 3 is damaged"):
        await loaded(stored, 11)


async def test_instances_are_listed_newest_first_and_by_status() -> None:
    store, batch = MemoryStore(manual=True), Batch()
    for number, status in enumerate([Status.WAITING, Status.RUNNING, Status.WAITING]):
        record = InstanceRecord(Status.QUEUED, 1000 + number, 0, 1)
        address = instances.address_of("w", "f", f"i{number}")
        instances.write(batch, address, None, record)
        moved = InstanceRecord(status, record.created_ms, 5, 2, output=b"", error=OOPS)
        instances.write(batch, address, record, moved)
    instances.write(batch, instances.address_of("w", "g", "x"), None, record)
    store.commit(batch)
    store.commit_group()
    with store.snapshot() as snapshot:
        assert [id for id, _ in instances.scan(snapshot, "w", "f")] == ["i2", "i1", "i0"]
        assert [id for id, _ in instances.scan(snapshot, "w", "f", reverse=True)] == ["i0", "i1", "i2"]
        assert [id for id, _ in instances.scan(snapshot, "w", "f", Status.WAITING)] == ["i2", "i0"]
        assert list(instances.ids(snapshot, "w", "f", Status.QUEUED)) == []
        assert list(instances.workflows(snapshot)) == [("w", "f"), ("w", "g")]
        assert instances.read(snapshot, instances.address_of("w", "f", "i2")) == moved


async def test_deleting_an_instance_leaves_nothing_of_it() -> None:
    store, batch = MemoryStore(manual=True), Batch()
    address, record = instances.address_of("w", "f", "i"), InstanceRecord(Status.COMPLETE, 1, 1, 1)
    instances.write(batch, address, None, record)
    batch.put(Table.JOURNAL, blocks.key("w", "f", "i", 1), b"entry")
    inbox.put_event(batch, address, "1", "paid", b"", 0)
    instances.delete(batch, address, record)
    store.commit(batch)
    store.commit_group()
    with store.snapshot() as snapshot:
        assert [table for table in Table if any(True for _ in snapshot.keys(table))] == []


@settings(max_examples=30)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=30), st.integers(0, 29))
def test_small_blocks_are_written_as_one_and_read_back_after_any_commit(sizes: list[int], reload_at: int) -> None:
    """`reload_at`: the commit before which another activation has loaded what is stored."""
    store = MemoryStore(manual=True)
    tail, entries = blocks.FIRST, []
    for seq, size in enumerate(sizes, 1):
        entry = Created(seq=seq, at_ms=seq, params=bytes(size))
        entries.append(entry)
        if seq - 1 == reload_at:
            tail = whole_journal(store).tail
        first_seq, stored, tail = blocks.follow(tail, [entry])
        store.commit(Batch().put(Table.JOURNAL, blocks.key("w", "f", "i", first_seq), stored))
        store.commit_group()
        assert whole_journal(store).entries == entries
        assert whole_journal(store).tail == tail
    with store.snapshot() as snapshot:
        *whole, _ = [len(value) for _, value in snapshot.scan(Table.JOURNAL, *blocks.key_range("w", "f", "i"))]
    assert all(size >= JOURNAL_BLOCK_SMALL for size in whole)


def whole_journal(store: MemoryStore) -> blocks.Loaded:
    with store.snapshot() as snapshot:
        return blocks.load(snapshot, "w", "f", "i", 0)
