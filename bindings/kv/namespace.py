"""`env.<binding>` of a KV namespace.

Reads settle at once: they are lookups in memory-mapped pages. Writes settle when they are durable and are visible to
reads from then on, in every isolate of the data directory; the last write wins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from bindings.kv import entries
from bindings.kv.cursor import BadCursor, decode_cursor, encode_cursor
from bindings.kv.validation import (
    KvError,
    ListOptions,
    check_bulk_keys,
    check_key,
    check_value_size,
    merge_options,
    read_bulk_type,
    read_list_options,
    read_type,
)
from bindings.kv.writes import Write, check_put, commit_deletes, commit_puts
from edge_runtime.errors import StoreCorrupt, StoreError
from edge_runtime.event import current_event, require_event
from edge_runtime.limits import KV_BULK_GET_BYTES_MAX, KV_LIST_SCAN_MAX, MIB
from edge_runtime.metering.quantities import BYTES_PERSISTED, KV_DELETES, KV_LISTS, KV_READS, KV_WRITES
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock
from edge_runtime.store import keys
from edge_runtime.store.api import Snapshot, Store, Table
from edge_runtime.workers.js_values import JsDict
from edge_runtime.workers.streams import DISTURBED, LOCKED, ReadableStream

_KV: Final = Table.KV
_QUICK_KEY_MAX: Final = 128
"""Characters of a key that need no look at its length in UTF-8."""

Keys = str | list[str]
_Names = list[object]


class KvNamespace:
    """One namespace, by its id; workers of a data directory that name the same id share it.

    Every method returns a Promise. Options are given as one trailing dict, as keyword arguments, or both; None is the
    same as none. Errors of any kind reject the promise, before anything is written. Source: workerd api/kv.c++.
    """

    __slots__ = ("_clock", "_id", "_prefix", "_store")

    def __init__(self, namespace: str, store: Store, clock: Clock) -> None:
        self._id = namespace
        self._store = store
        self._clock = clock
        self._prefix = entries.key_prefix(namespace)

    def get(self, key: Keys, options: str | Mapping[str, Any] | None = None, **named: Any) -> Promise[Any]:
        """The value of a key, or None; of a list of up to 100 keys a dict of all of them.

        `options` is a type or {type, cacheTtl}. Types: "text" (str), "json", "arrayBuffer" (memoryview), "stream"; of
        several keys the first two only, and at most 25 MiB together. Billed: one read a key.
        """
        if options is None and not named and type(key) is str and 2 < len(key) < _QUICK_KEY_MAX:
            event = current_event.get()
            if event is not None:
                event.meter.quantities[KV_READS] += 1
            try:
                record = self._store.get(_KV, self._prefix + entries.key_tail(key))
            except UnicodeEncodeError:
                return self._read(self._get, key, options, named)
            if record is None:
                return Promise.resolved(None)
            if record[0] == entries.PLAIN:
                return Promise.resolved(record[1:].decode("utf-8", "replace"))
            return self._read(self._text, key, record)
        _count(KV_READS, len(key) if isinstance(key, list) else 1)
        return self._read(self._get, key, options, named)

    def getWithMetadata(self, key: Keys, options: str | Mapping[str, Any] | None = None, **named: Any) -> Promise[Any]:
        """As `get`, with {value, metadata, cacheStatus} in place of each value; value and metadata are None for a
        key that is not there."""
        _count(KV_READS, len(key) if isinstance(key, list) else 1)
        return self._read(self._get_with_metadata, key, options, named)

    get_with_metadata = getWithMetadata

    def put(self, key: str, value: object, options: Mapping[str, Any] | None = None, **named: Any) -> Promise[None]:
        """Write a value: a str, bytes or another buffer, or a stream of them.

        Options: expiration (seconds since the epoch), expirationTtl (seconds, wins over expiration), both at least 60
        seconds away, and metadata (JSON of up to 1024 bytes).

        Durable: when the promise resolves. From within an actor the write takes its place after the actor's earlier
        writes. A stream is read to its end first; if it fails nothing is written.
        """
        _count(KV_WRITES)
        try:
            if isinstance(value, ReadableStream):
                return self._begin_stream(key, value, options, named)
            write = check_put(key, value, merge_options("put", options, named), self._now_s())
        except (TypeError, KvError) as error:
            return Promise.rejected(error)
        _count(BYTES_PERSISTED, len(write.key) + len(write.value))
        return commit_puts(self._store, self._id, (write,))

    def delete(self, key: str) -> Promise[None]:
        """Delete a key; one that is not there is no error. Durable: when the promise resolves."""
        _count(KV_DELETES)
        try:
            name = check_key("DELETE", key)
        except (TypeError, KvError) as error:
            return Promise.rejected(error)
        return commit_deletes(self._store, self._id, (name,))

    def list(self, options: Mapping[str, Any] | None = None, **named: Any) -> Promise[JsDict]:
        """Keys in the order of their UTF-8: {keys: [{name, expiration?, metadata?}], list_complete, cursor?,
        cacheStatus}.

        Options: prefix, limit (1 to 1000, the default), cursor (of the page before). A page may hold fewer keys than
        its limit, or none, and yet not be the last: `list_complete` tells.
        """
        _count(KV_LISTS)
        return self._read(self._list, options, named)

    def _read(self, work: Any, *args: Any) -> Promise[Any]:
        try:
            return Promise.resolved(work(*args))
        except (TypeError, ValueError, KvError, StoreError) as error:
            return Promise.rejected(error)

    def _get(self, key: object, options: object, named: Mapping[str, Any]) -> object:
        if isinstance(key, list):
            found = self._bulk("get", key, options, named)
            return JsDict({name: None if pair is None else pair[0] for name, pair in found.items()})
        pair = self._single("get", key, options, named)
        return None if pair is None else pair[0]

    def _get_with_metadata(self, key: object, options: object, named: Mapping[str, Any]) -> JsDict:
        if isinstance(key, list):
            found = self._bulk("getWithMetadata", key, options, named)
            return JsDict({name: _with_metadata(pair) for name, pair in found.items()})
        return _with_metadata(self._single("getWithMetadata", key, options, named))

    def _single(
        self, call: str, key: object, options: object, named: Mapping[str, Any]
    ) -> tuple[object, bytes | None] | None:
        """The decoded value and the metadata of one key."""
        name = check_key("GET", key)
        kind = read_type("GET", merge_options(call, {"type": options} if isinstance(options, str) else options, named))
        record = self._store.get(_KV, self._prefix + entries.key_tail(name))
        if record is None:
            return None
        found = self._complete(name, record)
        if found is None:
            return None
        entry, value = found
        if kind == "json":
            return _parse_json(value, f"the value of KV key {name!r}"), entry.metadata
        return _decoded(kind, value), entry.metadata

    def _text(self, name: str, record: bytes) -> str | None:
        found = self._complete(name, record)
        return None if found is None else found[1].decode("utf-8", "replace")

    def _complete(self, name: str, record: bytes) -> tuple[entries.Entry, bytes] | None:
        """The live entry of a record just read, with its value; one that lies apart is read with its record anew."""
        entry = entries.decode_record(record)
        now_ms = self._clock.now_ms()
        if entry.expired(now_ms):
            return None
        if entry.value is not None:
            return entry, entry.value
        with self._store.snapshot() as snapshot:
            return entries.read_entry(snapshot, self._id, name, now_ms)

    def _bulk(
        self, call: str, given: _Names, options: object, named: Mapping[str, Any]
    ) -> dict[str, tuple[object, bytes | None] | None]:
        operation = "GET_BULK"
        names = check_bulk_keys(operation, given)
        merged = merge_options(call, {"type": options} if isinstance(options, str) else options, named)
        kind = read_bulk_type(operation, merged)
        now_ms = self._clock.now_ms()
        size = 0
        found: dict[str, tuple[object, bytes | None] | None] = {}
        with self._store.snapshot() as snapshot:
            for name in names:
                read = entries.read_entry(snapshot, self._id, name, now_ms)
                if read is None:
                    found[name] = None
                    continue
                entry, value = read
                size += len(value)
                if size > KV_BULK_GET_BYTES_MAX:
                    limit = KV_BULK_GET_BYTES_MAX // MIB
                    raise KvError(operation, 413, f"Total size of request exceeds the limit of {limit}MB")
                try:
                    decoded = _parse_json(value, name) if kind == "json" else _decoded(kind, value)
                except ValueError:
                    raise KvError(
                        operation, 400, "At least one of the requested keys corresponds to a non-json value"
                    ) from None
                found[name] = decoded, entry.metadata
        return found

    def _list(self, options: object, named: Mapping[str, Any]) -> JsDict:
        asked = read_list_options(merge_options("list", options, named))
        with self._store.snapshot() as snapshot:
            found, cursor = scan_page(snapshot, self._id, asked, self._clock.now_ms())
        page = JsDict({"keys": found, "list_complete": cursor is None})
        if cursor is not None:
            page["cursor"] = cursor
        page["cacheStatus"] = None
        return page

    def _begin_stream(
        self, key: object, stream: ReadableStream, options: object, named: Mapping[str, Any]
    ) -> Promise[None]:
        write = check_put(key, b"", merge_options("put", options, named), self._now_s())
        if stream.locked or stream.disturbed:
            raise TypeError(LOCKED if stream.locked else DISTURBED)
        return require_event("KV put of a stream").spawn(self._put_stream, write, stream)

    async def _put_stream(self, write: Write, stream: ReadableStream) -> None:
        pieces: list[bytes] = []
        size = 0

        async def keep(piece: bytes) -> None:
            nonlocal size
            size += len(piece)
            check_value_size("PUT", size)
            pieces.append(piece)

        await stream.write_to(keep)
        _count(BYTES_PERSISTED, len(write.key) + size)
        await commit_puts(self._store, self._id, (Write(write.key, b"".join(pieces), write.options),))

    def _now_s(self) -> int:
        return self._clock.now_ms() // 1000

    def __repr__(self) -> str:
        return f"<KvNamespace {self._id}>"


def scan_page(snapshot: Snapshot, namespace: str, asked: ListOptions, now_ms: int) -> tuple[list[JsDict], str | None]:
    """One page of live keys, and the cursor of the next page, None after the last. Raises KvError for a bad cursor."""
    start, end = keys.prefix_range(namespace, partial=asked.prefix)
    if asked.cursor is not None:
        try:
            start = keys.after(entries.entry_key(namespace, decode_cursor(namespace, asked.prefix, asked.cursor)))
        except BadCursor:
            raise KvError("GET", 400, "Invalid cursor.") from None
    found: list[JsDict] = []
    prefix_size = len(entries.key_prefix(namespace))
    last = ""
    for scanned, (key, record) in enumerate(snapshot.scan(_KV, start, end)):
        entry = entries.decode_record(record)
        if entry.expired(now_ms) and scanned < KV_LIST_SCAN_MAX:
            last = entries.key_of_tail(key[prefix_size:])
            continue
        if len(found) == asked.limit or scanned >= KV_LIST_SCAN_MAX:
            return found, encode_cursor(namespace, asked.prefix, last)
        last = entries.key_of_tail(key[prefix_size:])
        row = JsDict({"name": last})
        if entry.expires_s is not None:
            row["expiration"] = entry.expires_s
        if entry.metadata is not None:
            row["metadata"] = _stored_metadata(entry.metadata)
        found.append(row)
    return found, None


def _count(quantity: str, amount: int = 1) -> None:
    event = current_event.get()
    if event is not None:
        event.meter.quantities[quantity] += amount


def _with_metadata(pair: tuple[object, bytes | None] | None) -> JsDict:
    value, metadata = (None, None) if pair is None else pair
    parsed = None if metadata is None else _stored_metadata(metadata)
    return JsDict({"value": value, "metadata": parsed, "cacheStatus": None})


def _stored_metadata(metadata: bytes) -> Any:
    try:
        return _parse_json(metadata, "stored KV metadata")
    except ValueError as error:
        raise StoreCorrupt(str(error)) from None


def _decoded(kind: str, value: bytes) -> object:
    if kind == "text":
        return value.decode("utf-8", "replace")
    if kind == "arrayBuffer":
        return memoryview(value)
    return ReadableStream.of_bytes(value)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_JSON: Final = json.JSONDecoder(object_hook=JsDict, parse_constant=_refuse_constant)


def _parse_json(value: bytes, what: str) -> Any:
    """Objects become JsDict. Raises ValueError saying `what` is no JSON."""
    try:
        return _JSON.decode(value.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is not JSON: {error}") from None
