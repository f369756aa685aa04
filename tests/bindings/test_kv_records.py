from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kv_fakes import StillClock

from bindings.kv import entries
from bindings.kv.namespace import KvNamespace
from edge_runtime.errors import StoreCorrupt
from edge_runtime.limits import KV_INLINE_MAX
from edge_runtime.store.api import Batch, Table
from edge_runtime.store.memory_store import MemoryStore


@given(st.none() | st.integers(0, 2**53), st.none() | st.binary(max_size=1024), st.binary(max_size=KV_INLINE_MAX + 2))
def test_record_decodes_to_what_was_encoded(expires_s, metadata, value):
    record, apart = entries.encode_record(expires_s, metadata, value)
    assert apart is (len(value) > KV_INLINE_MAX)
    assert entries.decode_record(record) == entries.Entry(expires_s, metadata, None if apart else value)


@given(st.binary(max_size=40))
def test_any_bytes_decode_or_are_reported_corrupt(record):
    try:
        entries.decode_record(record)
    except StoreCorrupt:
        pass


@given(st.text(max_size=20), st.text(max_size=20))
def test_key_parts_agree_with_the_key_codec(namespace, key):
    try:
        whole = entries.entry_key(namespace, key)
    except UnicodeEncodeError:
        return
    assert entries.key_prefix(namespace) + entries.key_tail(key) == whole
    assert entries.key_of_tail(whole[len(entries.key_prefix(namespace)) :]) == key


@given(st.integers(0, 2**53), st.text(st.characters(codec="utf-8"), max_size=9))
def test_index_sorts_by_time_and_reads_back(expires_s, key):
    index_key = entries.expiry_key(expires_s, "ns", key)
    assert entries.decode_expiry_key(index_key) == (expires_s, "ns", key)
    start, end = entries.expired_range(expires_s * 1000)
    assert start <= index_key < end
    assert entries.expired_range(expires_s * 1000 - 1)[1] <= index_key


def test_damaged_entry_rejects_the_read_with_store_corrupt():
    store = MemoryStore(manual=True)
    kv = KvNamespace("ns", store, StillClock())
    batch = Batch()
    batch.put(Table.KV, entries.entry_key("ns", "bad flags"), b"\xff")
    batch.put(Table.KV, entries.entry_key("ns", "value missing"), b"\x04")
    batch.put(Table.KV, entries.entry_key("ns", "bad metadata"), b"\x02\x00\x01{v")
    store.commit(batch)
    store.commit_group()
    for promise in (kv.get("bad flags"), kv.get("value missing"), kv.getWithMetadata("bad metadata"), kv.list()):
        with pytest.raises(StoreCorrupt):
            promise.result()
