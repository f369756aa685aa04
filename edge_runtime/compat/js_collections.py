"""JavaScript's Object, Map, Set, RegExp, Number and error classes, as far as scripts use them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from edge_runtime.workers.js_object import JsException, JsObject
from edge_runtime.workers.js_values import JsArray, JsDict, plain


class JsRecord(JsObject, JsDict):
    """A plain JavaScript object: items are attributes."""

    __slots__ = ()
    js_name = "Object"

    def to_py(self, **_options: Any) -> dict[str, Any]:
        return {key: plain(value) for key, value in self.items()}


class Object:
    """`js.Object`: functions on plain objects."""

    @staticmethod
    def new() -> JsRecord:
        return JsRecord()

    @staticmethod
    def fromEntries(entries: Any) -> JsRecord:
        return JsRecord(entries.items() if isinstance(entries, Mapping) else entries)

    @staticmethod
    def entries(value: Mapping[str, Any]) -> JsArray:
        return JsArray([JsArray(pair) for pair in value.items()])

    @staticmethod
    def keys(value: Mapping[str, Any]) -> JsArray:
        return JsArray(value)

    @staticmethod
    def values(value: Mapping[str, Any]) -> JsArray:
        return JsArray(value.values())

    @staticmethod
    def assign(target: dict[str, Any], *sources: Mapping[str, Any]) -> dict[str, Any]:
        for source in sources:
            target.update(source)
        return target

    @staticmethod
    def freeze(value: Any) -> Any:
        return value


class JsMap(JsObject, JsDict):
    """`js.Map`. Text keys are attributes too, as Pyodide's `to_js` makes them for dicts."""

    __slots__ = ()
    js_name = "Map"

    def __init__(self, entries: Any = ()) -> None:
        super().__init__(entries if isinstance(entries, Mapping) else ((key, value) for key, value in entries))

    def set(self, key: Any, value: Any) -> JsMap:
        self[key] = value
        return self

    def has(self, key: Any) -> bool:
        return key in self

    def delete(self, key: Any) -> bool:
        if key in self:
            del self[key]
            return True
        return False

    def entries(self) -> list[tuple[Any, Any]]:
        return list(self.items())

    @property
    def size(self) -> int:
        return len(self)

    def to_py(self, **_options: Any) -> dict[Any, Any]:
        return {key: plain(value) for key, value in self.items()}


class JsSet(JsObject, set[Any]):
    """`js.Set`."""

    js_name = "Set"

    def has(self, value: Any) -> bool:
        return value in self

    def delete(self, value: Any) -> bool:
        present = value in self
        self.discard(value)
        return present

    @property
    def size(self) -> int:
        return len(self)

    def to_py(self, **_options: Any) -> set[Any]:
        return set(self)


class JsNumber(float):
    """`js.Number.new`: a boxed number."""

    __slots__ = ()
    MAX_SAFE_INTEGER = 2**53 - 1
    MIN_SAFE_INTEGER = 1 - 2**53

    @classmethod
    def new(cls, value: object = 0) -> JsNumber:
        return cls(value)  # type: ignore[arg-type]

    @staticmethod
    def isInteger(value: object) -> bool:
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())

    def valueOf(self) -> int | float:
        return int(self) if self.is_integer() else float(self)

    def to_py(self, **_options: Any) -> int | float:
        return self.valueOf()


class RegExp(JsObject):
    """`js.RegExp`: the pattern, run by Python's `re`; syntax that JavaScript alone has is refused by that."""

    __slots__ = ("_compiled", "flags", "source")

    def __init__(self, source: str, flags: str = "") -> None:
        self.source = source
        self.flags = flags
        options = re.IGNORECASE * ("i" in flags) | re.MULTILINE * ("m" in flags) | re.DOTALL * ("s" in flags)
        named_groups = re.sub(r"\(\?<(?=[A-Za-z_])", "(?P<", source)
        self._compiled = re.compile(named_groups, options)

    def test(self, text: str) -> bool:
        return self._compiled.search(text) is not None

    def exec(self, text: str) -> JsArray | None:
        match = self._compiled.search(text)
        return None if match is None else JsArray([match.group(), *match.groups()])

    def _to_wire(self) -> NoReturn:
        raise TypeError("RegExp cannot be sent over RPC.")

    def __repr__(self) -> str:
        return f"/{self.source}/{self.flags}"


class ErrorClass(NamedTuple):
    """A JavaScript error class. `new` makes the exception that a script can raise or send."""

    name: str

    def new(self, message: object = "", *_options: object) -> JsException:
        return JsException(str(message), self.name)

    def __call__(self, message: object = "", *_options: object) -> JsException:
        return self.new(message)
