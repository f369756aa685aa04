"""What `ctx.storage` and its transactions have in common: arguments, limits, conversion, results as promises."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, ParamSpec, TypeVar

from edge_runtime.actors.overlay import KeyRange, Overlay
from edge_runtime.actors.read_cache import MISSING
from edge_runtime.event import current_event
from edge_runtime.limits import (
    OBJECT_KEY_MAX,
    OBJECT_KEYS_PER_CALL_MAX,
    OBJECT_KV_VALUE_MAX,
    OBJECT_KV_VALUE_SPARE,
    OBJECT_VALUE_MAX,
    STORE_KEY_MAX,
)
from edge_runtime.metering.quantities import BYTES_PERSISTED, ROWS_READ, ROWS_WRITTEN
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock
from edge_runtime.store import values
from edge_runtime.workers.conversion import SAME, from_wire, to_wire
from edge_runtime.workers.js_values import JsDict

P = ParamSpec("P")
T = TypeVar("T")

Options = Mapping[str, Any] | None
UNDEFINED: Final = object()

_PUT_SHAPES: Final = (
    "put() may only be called with a single key-value pair and optional options as put(key, value, options) or with "
    "multiple key-value pairs and optional options as put(entries, options)"
)


def promised(method: Callable[P, T]) -> Callable[P, Promise[T]]:
    """Give a method's result as a settled promise, and its errors as a rejected one."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> Promise[T]:
        try:
            return Promise.resolved(method(*args, **kwargs))
        except Exception as error:
            return Promise.rejected(error)

    return call


class StorageOperations(ABC):
    """Options come as keyword arguments or as one trailing dict. A wrong argument rejects the promise and nothing is
    written: TypeError for a wrong shape or type, ValueError (JavaScript's RangeError) for what is too large."""

    def __init__(self, overlay: Overlay, clock: Clock, *, sqlite: bool) -> None:
        self._overlay = overlay
        self._clock = clock
        self._sqlite = sqlite

    def get(self, key: object, options: Options = None, **more: Any) -> Promise[Any]:
        """One value, None if the key is absent; for a list of keys a dict of those found, in key order."""
        try:
            if isinstance(key, str):
                self._begin("get", ROWS_READ)
                return Promise.resolved(self.read(key))
            self._begin("get", ROWS_READ, _size(key))
            return Promise.resolved(self._read_many(key))
        except Exception as error:
            return Promise.rejected(error)

    def _read_many(self, key: object) -> dict[str, Any]:
        found = JsDict()
        for name in sorted(set(self._keys(key))):
            data = self._overlay.read(name)
            if data is not None:
                found[name] = from_wire(values.decode(data))
        return found

    def put(self, key: object, value: Any = UNDEFINED, options: Options = None, **more: Any) -> Promise[None]:
        """Write one value, or each pair of a dict (`put(entries, options)`).

        Values are copied at the call. With `allowUnconfirmed` replies do not wait for the write.
        """
        try:
            if isinstance(key, str):
                self._begin("put", ROWS_WRITTEN)
                if value is UNDEFINED:
                    raise TypeError("put() called with undefined value.")
                confirmed = not (options or more) or not option(options, more, "allowUnconfirmed")
                self.write(key, value, confirmed=confirmed)
            else:
                self._write_many(key, value, more)
            return Promise.resolved(None)
        except Exception as error:
            return Promise.rejected(error)

    def _write_many(self, key: object, value: Any, more: Mapping[str, Any]) -> None:
        self._begin("put", ROWS_WRITTEN, _size(key))
        if value is UNDEFINED:
            value = None
        if not isinstance(key, Mapping) or not (value is None or isinstance(value, Mapping)):
            raise TypeError(_PUT_SHAPES)
        self._check_count(len(key))
        pairs = [(self._key(name), self._encode(name, item)) for name, item in key.items()]
        confirmed = not option(value, more, "allowUnconfirmed")
        for name, data in pairs:
            self._overlay.write(name, data, confirmed=confirmed)

    @promised
    def delete(self, key: object, options: Options = None, **more: Any) -> bool | int:
        """Whether the key existed; for a list of keys how many did."""
        self._begin("delete", ROWS_WRITTEN, _size(key))
        confirmed = not option(options, more, "allowUnconfirmed")
        if isinstance(key, str):
            return self.remove(self._key(key), confirmed=confirmed)
        return sum(self.remove(name, confirmed=confirmed) for name in self._keys(key))

    @promised
    def list(self, options: Options = None, **more: Any) -> dict[str, Any]:
        """Entries in the order of their keys' UTF-8 bytes, as a dict.

        Options: start (inclusive), startAfter (exclusive), end (exclusive), prefix, reverse, limit.
        """
        self._begin("list", ROWS_READ)
        found = JsDict(self.entries({**(options or {}), **more}))
        if len(found) > 1:
            count(ROWS_READ, len(found) - 1)
        return found

    @promised
    def getAlarm(self, options: Options = None, **more: Any) -> int | None:
        """When the alarm fires, in milliseconds; None without one, and while its handler runs."""
        self._begin("getAlarm", ROWS_READ)
        return self._alarm()

    @promised
    def setAlarm(self, scheduled: object, options: Options = None, **more: Any) -> None:
        """Set the object's one alarm, replacing another. Milliseconds since the epoch or a datetime (naive: local
        time); a past time means now.

        A class without `alarm()` may call this: Cloudflare's refusal does not reach Python classes, whose wrapper
        answers to every name. Its alarm is dropped with a warning when it is due.
        """
        self._begin("setAlarm", ROWS_WRITTEN)
        due_ms = _milliseconds(scheduled)
        if due_ms <= 0:
            raise TypeError("setAlarm() cannot be called with an alarm time <= 0")
        self._require_alarms()
        confirmed = not option(options, more, "allowUnconfirmed")
        self._overlay.write_alarm(max(due_ms, self._clock.now_ms()), confirmed=confirmed)

    @promised
    def deleteAlarm(self, options: Options = None, **more: Any) -> None:
        """Remove the alarm; inside its handler: do not retry it."""
        self._begin("deleteAlarm", ROWS_WRITTEN)
        self._overlay.write_alarm(None, confirmed=not option(options, more, "allowUnconfirmed"))

    get_alarm, set_alarm, delete_alarm = getAlarm, setAlarm, deleteAlarm

    @abstractmethod
    def _require_alarms(self) -> None: ...

    @abstractmethod
    def _alarm(self) -> int | None: ...

    def _begin(self, operation: str, counted: str, rows: int = 1) -> None:
        """Refuse an operation or count it: its rows read or written, or those beyond the first if more come up."""
        if (refusal := self._overlay.context.refusal) is not None:
            raise refusal.again()
        event = current_event.get()
        if event is not None:
            event.meter.quantities[counted] += rows

    def read(self, key: str) -> Any:
        overlay = self._overlay
        if overlay.in_transaction:
            data = overlay.read(self._key(key))
            return None if data is None else from_wire(values.decode(data))
        value = overlay.cache.get(key, MISSING)
        if value is MISSING:
            data = overlay.read(self._key(key))
            if data is None:
                return None
            value = values.decode(data)
            overlay.cache.keep(key, value, len(data))
        return value if type(value) in SAME else from_wire(value)

    def write(self, key: str, value: Any, *, confirmed: bool = True) -> None:
        self._key(key)
        data = self._encode(key, value)
        self._overlay.write(key, data, confirmed=confirmed)
        if not self._overlay.in_transaction:
            self._overlay.cache.written(key, value, len(data))

    def remove(self, key: str, *, confirmed: bool = True) -> bool:
        existed = self._overlay.read(self._key(key)) is not None
        if existed:
            self._overlay.write(key, None, confirmed=confirmed)
        return existed

    def entries(self, options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """What `list` asks for; to be used up without awaiting in between."""
        limit = options.get("limit")
        if limit is not None and not (isinstance(limit, (int, float)) and limit > 0):
            raise TypeError("List limit must be positive.")
        start, start_after = options.get("start"), options.get("startAfter")
        if start is not None and start_after is not None:
            raise TypeError("list() cannot be called with both start and startAfter values.")
        bounds = KeyRange(start, start_after, options.get("end"), options.get("prefix") or "")
        for bound in (bounds.start, bounds.start_after, bounds.end, bounds.prefix):
            if bound is not None and not isinstance(bound, str):
                raise TypeError(f"start, startAfter, end and prefix of list() are strings, not {type(bound).__name__}")
        return self._entries(bounds, bool(options.get("reverse")), math.inf if limit is None else limit)

    def _entries(self, bounds: KeyRange, reverse: bool, limit: float) -> Iterator[tuple[str, Any]]:
        for count, (key, data) in enumerate(self._overlay.scan(bounds, reverse=reverse), 1):
            yield key, from_wire(values.decode(data))
            if count >= limit:
                return

    def _key(self, key: object) -> str:
        if not isinstance(key, str):
            raise TypeError(f"a storage key is a string, not {type(key).__name__}")
        if len(key) * 4 > OBJECT_KEY_MAX:
            size = len(key.encode())
            # A zero byte takes two in the store.
            if size > OBJECT_KEY_MAX or len(self._overlay.stored_key(key)) > STORE_KEY_MAX:
                raise ValueError(
                    f"Keys cannot be larger than {OBJECT_KEY_MAX} bytes. A key of size {size} was provided."
                )
        return key

    def _keys(self, keys: object) -> tuple[str, ...]:
        if not isinstance(keys, (list, tuple)):
            raise TypeError(f"storage takes a key or a list of keys, not {type(keys).__name__}")
        self._check_count(len(keys))
        return tuple(self._key(key) for key in keys)

    def _check_count(self, count: int) -> None:
        if not self._sqlite and count > OBJECT_KEYS_PER_CALL_MAX:
            raise ValueError(
                f"Maximum number of key value pairs is {OBJECT_KEYS_PER_CALL_MAX}. {count} pairs were provided."
            )

    def _encode(self, key: str, value: Any) -> bytes:
        data = values.encode(to_wire(value))
        size, allowed, spare = len(data), OBJECT_KV_VALUE_MAX, OBJECT_KV_VALUE_SPARE
        if self._sqlite:
            size, allowed, spare = size + len(key), OBJECT_VALUE_MAX, 0
        if size > allowed + spare:
            raise ValueError(f"Values cannot be larger than {allowed} bytes. A value of size {size} was provided.")
        count(BYTES_PERSISTED, len(key) + len(data))
        return data


def count(quantity: str, amount: int) -> None:
    """Count something of an operation that has begun, on the event that it belongs to."""
    event = current_event.get()
    if event is not None:
        event.meter.quantities[quantity] += amount


def _size(keys: object) -> int:
    """Of how many keys an argument speaks, if it is one at all."""
    if isinstance(keys, str):
        return 1
    return max(1, len(keys)) if isinstance(keys, (list, tuple, Mapping)) else 1


def option(options: Options, more: Mapping[str, Any], name: str) -> bool:
    if options is not None and name in options:
        return bool(options[name])
    return bool(more.get(name))


def _milliseconds(moment: object) -> int:
    if isinstance(moment, datetime):
        return math.floor(moment.timestamp() * 1000)
    if isinstance(moment, (int, float)) and not isinstance(moment, bool) and math.isfinite(moment):
        return math.floor(moment)
    js_time = getattr(moment, "getTime", None)
    if callable(js_time):
        return math.floor(float(js_time()))
    raise TypeError(f"setAlarm() takes milliseconds since the epoch or a datetime, not {moment!r}")
