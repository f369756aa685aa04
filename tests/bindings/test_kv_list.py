from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kv_fakes import StillClock

from bindings.kv import namespace as namespace_module
from bindings.kv.cursor import BadCursor, decode_cursor, encode_cursor
from bindings.kv.namespace import KvNamespace
from bindings.kv.validation import KvError
from edge_runtime.store.api import Table
from edge_runtime.store.keys import prefix_range
from edge_runtime.store.memory_store import MemoryStore


def opened(*keys: str, **options: object) -> tuple[KvNamespace, MemoryStore]:
    store = MemoryStore(manual=True)
    kv = KvNamespace("ns", store, StillClock())
    for key in keys:
        kv.put(key, "v", **options)
    store.commit_group()
    return kv, store


def names(page) -> list[str]:
    return [row["name"] for row in page["keys"]]


def test_keys_come_in_the_order_of_their_utf8():
    keys = ["", "~", "\x7f", "\x80", "\uffff", "\U0001f600", "Z", "a", "aa", "a\0", "a\0b", "ab", "é"][1:]
    kv, _ = opened(*keys)
    assert names(kv.list().result()) == sorted(keys, key=lambda key: key.encode())


def test_pages_follow_one_another_without_gap_or_repetition():
    keys = [f"k{i:03}" for i in range(25)]
    kv, _ = opened(*keys)
    seen: list[str] = []
    cursor = None
    sizes = []
    while True:
        page = kv.list(limit=10, cursor=cursor).result()
        seen += names(page)
        sizes.append(len(page["keys"]))
        if page.list_complete:
            assert "cursor" not in page
            break
        cursor = page.cursor
    assert seen == keys
    assert sizes == [10, 10, 5]


def test_last_full_page_is_complete():
    kv, _ = opened("a", "b")
    page = kv.list(limit=2).result()
    assert names(page) == ["a", "b"]
    assert page.list_complete is True


def test_prefix_selects_and_pages():
    kv, _ = opened("a:1", "a:2", "a", "b:1", "a;", "A:1")
    assert names(kv.list(prefix="a:").result()) == ["a:1", "a:2"]
    first = kv.list({"prefix": "a", "limit": 1}).result()
    assert names(first) == ["a"]
    assert names(kv.list(prefix="a", cursor=first.cursor).result()) == ["a:1", "a:2", "a;"]
    nothing = kv.list(prefix="zzz").result()
    assert (nothing["keys"], nothing.list_complete) == ([], True)


def test_default_page_holds_a_thousand_keys():
    kv, _ = opened(*(f"{i:04}" for i in range(1001)))
    page = kv.list().result()
    assert len(page["keys"]) == 1000
    assert names(kv.list(cursor=page.cursor).result()) == ["1000"]


def test_cursor_holds_while_keys_are_written_and_deleted():
    kv, store = opened("b", "d", "f", "h")
    page = kv.list(limit=2).result()
    kv.delete("d")
    kv.put("a", "v")
    kv.put("e", "v")
    store.commit_group()
    assert names(kv.list(cursor=page.cursor).result()) == ["e", "f", "h"]


def test_large_values_are_not_read_by_list():
    kv, store = opened()
    kv.put("big", "x" * 1_000_000, metadata={"m": 1})
    kv.put("small", "y")
    store.commit_group()
    with store.snapshot() as snapshot:
        records = [record for _, record in snapshot.scan(Table.KV, *prefix_range("ns"))]
    assert len(records) == 2
    assert max(map(len, records)) < 2048
    assert names(kv.list().result()) == ["big", "small"]


def test_page_of_many_expired_keys_ends_early_but_goes_on(monkeypatch):
    monkeypatch.setattr(namespace_module, "KV_LIST_SCAN_MAX", 5)
    store, clock = MemoryStore(manual=True), StillClock()
    kv = KvNamespace("ns", store, clock)
    for i in range(12):
        kv.put(f"old{i:02}", "v", expirationTtl=60)
    kv.put("young", "v")
    store.commit_group()
    clock.advance(60_000)
    pages = []
    cursor = None
    while cursor is not None or not pages:
        page = kv.list(cursor=cursor).result()
        pages.append(names(page))
        cursor = page.get("cursor")
        assert page.list_complete is (cursor is None)
    assert pages[0] == []
    assert [name for page in pages for name in page] == ["young"]
    assert len(pages) == 3


def test_expired_keys_do_not_count_towards_the_limit():
    store, clock = MemoryStore(manual=True), StillClock()
    kv = KvNamespace("ns", store, clock)
    kv.put("a", "v", expirationTtl=60)
    kv.put("b", "v")
    kv.put("c", "v", expirationTtl=60)
    store.commit_group()
    clock.advance(60_000)
    page = kv.list(limit=1).result()
    assert names(page) == ["b"]
    assert page.list_complete is True


def test_cursor_of_another_question_is_refused():
    kv, store = opened("a1", "a2", "b1")
    cursor = kv.list(prefix="a", limit=1).result().cursor
    other = KvNamespace("other", store, StillClock())
    for promise in (kv.list(cursor=cursor), kv.list(prefix="b", cursor=cursor), other.list(prefix="a", cursor=cursor)):
        with pytest.raises(KvError, match="400 Invalid cursor"):
            promise.result()


def test_empty_cursor_is_the_beginning():
    kv, _ = opened("a")
    assert names(kv.list(cursor="").result()) == ["a"]


@given(st.text() | st.text("ABCDEFabcdef0123456789-_=", max_size=60))
def test_no_text_but_our_own_is_a_cursor(text):
    with pytest.raises(BadCursor):
        decode_cursor("ns", "", text)


@given(st.text(), st.text(max_size=5), st.integers(0, 200), st.integers(1, 255))
def test_damaged_cursor_is_refused(key, prefix, place, change):
    try:
        cursor = encode_cursor("ns", prefix, prefix + key)
    except UnicodeEncodeError:
        return
    assert decode_cursor("ns", prefix, cursor) == prefix + key
    at = place % len(cursor)
    damaged = cursor[:at] + chr(ord(cursor[at]) ^ change) + cursor[at + 1 :]
    try:
        assert decode_cursor("ns", prefix, damaged) == prefix + key  # unused bits of the last character
    except BadCursor:
        pass
