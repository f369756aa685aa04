"""Puts and deletes, checked first and then committed together: all or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bindings.kv import entries
from bindings.kv.validation import PutOptions, check_key, check_value_size, read_put_options, utf8
from edge_runtime.promise import Promise
from edge_runtime.store.api import Batch, Store, Table
from edge_runtime.workers.buffers import as_bytes

_BAD_VALUE: Final = "KV put() accepts only strings, ArrayBuffers, ArrayBufferViews, and ReadableStreams as values."


@dataclass(frozen=True, slots=True)
class Write:
    """One put, checked."""

    key: str
    value: bytes
    options: PutOptions


def check_put(key: object, value: object, options: Mapping[str, Any], now_s: int) -> Write:
    """A put that may be committed. Raises TypeError or KvError."""
    name = check_key("PUT", key)
    content = utf8(value) if isinstance(value, str) else as_bytes(value)
    if content is None:
        raise TypeError(_BAD_VALUE)
    checked = read_put_options(options, now_s)
    check_value_size("PUT", len(content))
    return Write(name, content, checked)


def commit_puts(store: Store, namespace: str, writes: Iterable[Write]) -> Promise[None]:
    batch = Batch()
    for write in writes:
        old = store.get(Table.KV, entries.entry_key(namespace, write.key))
        options = write.options
        entries.put_entry(batch, namespace, write.key, write.value, options.expires_s, options.metadata, old)
    return store.commit(batch)


def commit_deletes(store: Store, namespace: str, names: Iterable[str]) -> Promise[None]:
    batch = Batch()
    for name in names:
        entries.delete_entry(batch, namespace, name, store.get(Table.KV, entries.entry_key(namespace, name)))
    return store.commit(batch)
