"""Plain data as Cloudflare's SDK hands it to scripts: dicts with attribute access, lists with `to_py`."""

from __future__ import annotations

from typing import Any

from edge_runtime.workers.js_object import JsObject


class JsDict(dict[str, Any]):
    """A dict whose keys are attributes too, unless a dict method has that name."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(name) from None

    def to_py(self, **_options: Any) -> dict[str, Any]:
        return {key: plain(value) for key, value in self.items()}

    def object_keys(self) -> list[str]:
        return list(self)

    def object_values(self) -> list[Any]:
        return list(self.values())

    def object_entries(self) -> list[list[Any]]:
        return [[key, value] for key, value in self.items()]


class JsArray(JsObject, list[Any]):
    """A list that also answers as a JavaScript array."""

    __slots__ = ()
    js_name = "Array"

    @classmethod
    def new(cls, *items: Any, **_options: Any) -> JsArray:
        if len(items) == 1 and isinstance(items[0], int) and not isinstance(items[0], bool):
            return cls([None] * items[0])
        return cls(items)

    @classmethod
    def from_(cls, items: Any) -> JsArray:
        return cls(items)

    @classmethod
    def of(cls, *items: Any) -> JsArray:
        return cls(items)

    @staticmethod
    def isArray(value: object) -> bool:
        return isinstance(value, list)

    @property
    def length(self) -> int:
        return len(self)

    def push(self, *items: Any) -> int:
        self.extend(items)
        return len(self)

    def join(self, separator: str = ",") -> str:
        return separator.join(str(item) for item in self)

    def to_py(self, **_options: Any) -> list[Any]:
        return [plain(item) for item in self]

    def object_values(self) -> list[Any]:
        return list(self)


def plain(value: Any) -> Any:
    """The value with JsDict and JsArray replaced by dict and list, all the way down."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
