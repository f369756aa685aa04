"""KV against a plain dict: puts, deletes, expiry, sweeps and crashes in any order, with commits in any grouping."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from kv_fakes import StillClock

from bindings.kv import entries
from bindings.kv.namespace import KvNamespace
from bindings.kv.sweep import removal
from edge_runtime.limits import KV_INLINE_MAX
from edge_runtime.store.api import Batch, Table
from edge_runtime.store.memory_store import MemoryStore

KEYS = st.sampled_from(["a", "ab", "b", "b\0", "é", "k" * 512])
VALUES = st.sampled_from([b"", b"v", b"w" * KV_INLINE_MAX, b"x" * (KV_INLINE_MAX + 1), b"y" * 9000])
TTLS = st.none() | st.sampled_from([60, 61, 120])
METADATA = st.none() | st.sampled_from([{"m": 1}, [], "text", 0, False])


@dataclass(frozen=True)
class Expected:
    value: bytes
    expires_s: int | None
    metadata: object


class KvMachine(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.clock = StillClock()
        self.store = MemoryStore(manual=True)
        self.namespaces = {name: KvNamespace(name, self.store, self.clock) for name in ("n", "n2")}
        self.durable: dict[tuple[str, str], Expected] = {}
        self.queued: list[tuple[tuple[str, str], Expected | None]] = []
        self.removals: list[Batch] = []

    @rule(name=st.sampled_from(["n", "n2"]), key=KEYS, value=VALUES, ttl=TTLS, metadata=METADATA)
    def put(self, name, key, value, ttl, metadata):
        self.namespaces[name].put(key, value, expirationTtl=ttl, metadata=metadata)
        expires_s = None if ttl is None else self.clock.now_ms() // 1000 + ttl
        self.queued.append(((name, key), Expected(value, expires_s, metadata)))

    @rule(name=st.sampled_from(["n", "n2"]), key=KEYS)
    def delete(self, name, key):
        self.namespaces[name].delete(key)
        self.queued.append(((name, key), None))

    @rule(batches=st.integers(1, 3))
    def commit(self, batches):
        for _ in range(self.store.commit_group(batches)):
            if not self.queued:
                break
            place, expected = self.queued.pop(0)
            if expected is None:
                self.durable.pop(place, None)
            else:
                self.durable[place] = expected

    @rule()
    def commit_all(self):
        while self.store.queued:
            self.commit(3)

    @rule(ms=st.sampled_from([1, 500, 30_000, 60_000, 61_000]))
    def time_passes(self, ms):
        self.clock.advance(ms)

    @rule()
    def look_for_expired(self):
        """The first half of a sweep: what it decides may be committed much later, by another isolate."""
        with self.store.snapshot() as snapshot:
            for index_key in snapshot.keys(Table.KV, *entries.expired_range(self.clock.now_ms())):
                self.removals.append(removal(snapshot, index_key))

    @rule()
    def commit_removals(self):
        self.commit_all()
        for batch in self.removals:
            self.store.commit(batch)
        self.removals = []
        self.store.commit_group()

    @rule()
    def crash(self):
        self.store = self.store.crash()
        self.namespaces = {name: KvNamespace(name, self.store, self.clock) for name in self.namespaces}
        self.queued = []
        self.removals = []

    def live(self, name: str) -> dict[str, Expected]:
        now_ms = self.clock.now_ms()
        return {
            key: expected
            for (namespace, key), expected in self.durable.items()
            if namespace == name and (expected.expires_s is None or expected.expires_s * 1000 > now_ms)
        }

    @invariant()
    def reads_agree_with_the_model(self):
        for name, kv in self.namespaces.items():
            live = self.live(name)
            for key in ("a", "ab", "b", "b\0", "é", "k" * 512):
                expected = live.get(key)
                found = kv.getWithMetadata(key, "arrayBuffer").result()
                assert (None if found.value is None else bytes(found.value)) == (expected and expected.value)
                assert found.metadata == (expected and expected.metadata)
                text = kv.get(key).result()
                assert text == (expected and expected.value.decode())

    @invariant()
    def list_agrees_with_the_model(self):
        for name, kv in self.namespaces.items():
            rows, cursor = [], None
            while True:
                page = kv.list(limit=2, cursor=cursor).result()
                rows += page["keys"]
                cursor = page.get("cursor")
                if page.list_complete:
                    break
            live = self.live(name)
            assert [row.name for row in rows] == sorted(live, key=lambda key: key.encode())
            for row in rows:
                assert row.get("expiration") == live[row.name].expires_s
                assert row.get("metadata") == live[row.name].metadata

    @invariant()
    def store_holds_nothing_that_no_entry_needs(self):
        with self.store.snapshot() as snapshot:
            records = dict(snapshot.scan(Table.KV, b"\x02", b"\x03"))
            apart = list(snapshot.keys(Table.KV, b"\x01", b"\x02"))
            index = set(snapshot.keys(Table.KV, b"\x03"))
        assert len(apart) == sum(entries.decode_record(record).value is None for record in records.values())
        for (name, key), expected in self.durable.items():
            if entries.entry_key(name, key) in records and expected.expires_s is not None:
                assert entries.expiry_key(expected.expires_s, name, key) in index

    def teardown(self):
        """After everything has expired, sweeping leaves only what never expires.

        A second round is for index entries of earlier expirations, whose removal conflicts with the key's own.
        """
        self.commit_all()
        self.clock.advance(10**7)
        for _ in range(2):
            self.look_for_expired()
            self.commit_removals()
        kept = [place for place, expected in self.durable.items() if expected.expires_s is None]
        with self.store.snapshot() as snapshot:
            assert len(list(snapshot.keys(Table.KV, b"\x02", b"\x03"))) == len(kept)
            assert list(snapshot.keys(Table.KV, b"\x03")) == []


KvMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestKvAgainstAModel = KvMachine.TestCase
