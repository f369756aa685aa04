"""What an object has read lately, decoded: the next read of the same key neither asks the store nor decodes.

Values are held in plain form (`workers.conversion.to_wire`), of which every read makes a copy of its own. Pure.
"""

from __future__ import annotations

from typing import Any, Final

from edge_runtime.limits import OBJECT_CACHE_ENTRIES, OBJECT_CACHE_VALUE_MAX

MISSING: Final = object()
_IMMUTABLE: Final = frozenset({bool, int, str})
"""Types whose values are read as they were written, so that a write can leave them here."""


class ReadCache:
    """At most OBJECT_CACHE_ENTRIES values; the one that came first goes first."""

    __slots__ = ("_values", "get")

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self.get = self._values.get
        """`get(key, MISSING)`."""

    def keep(self, key: str, value: Any, size: int) -> None:
        """Remember what was read; `size` is that of its stored form in bytes."""
        if size > OBJECT_CACHE_VALUE_MAX:
            return
        values = self._values
        if len(values) >= OBJECT_CACHE_ENTRIES:
            del values[next(iter(values))]
        values[key] = value

    def written(self, key: str, value: Any, size: int) -> None:
        """The key has another value now."""
        self._values.pop(key, None)
        if type(value) in _IMMUTABLE:
            self.keep(key, value, size)

    def forget(self, key: str) -> None:
        self._values.pop(key, None)

    def clear(self) -> None:
        self._values.clear()
