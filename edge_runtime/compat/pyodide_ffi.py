"""What scripts import as `pyodide.ffi`: conversion to and from JavaScript values, and proxies.

Values given to `to_js` stay Python values that also answer as their JavaScript counterparts, so passing them on to
bindings is harmless and `.to_py()` works on the results.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from edge_runtime.compat.blocking import run_sync
from edge_runtime.compat.js_collections import JsMap, JsSet
from edge_runtime.compat.missing_names import refuse
from edge_runtime.promise import Promise as JsPromise
from edge_runtime.workers.buffers import ArrayBuffer, DataView, JsBytes, TypedArray
from edge_runtime.workers.js_object import JsException, JsNull, jsnull
from edge_runtime.workers.js_object import JsObject as JsProxy
from edge_runtime.workers.js_values import JsArray, JsDict, plain

__all__ = [
    "ConversionError", "JsArray", "JsBuffer", "JsCallable", "JsException", "JsMap", "JsNull", "JsPromise", "JsProxy",
    "create_once_callable", "create_proxy", "destroy_proxies", "jsnull", "run_sync", "to_js", "to_py",
]  # fmt: skip


class ConversionError(Exception):
    """A value that cannot become a JavaScript value."""


class JsBuffer(ABC):  # noqa: B024 - a name for isinstance()
    """Binary JavaScript values."""


for _binary in (ArrayBuffer, DataView, JsBytes, TypedArray):
    JsBuffer.register(_binary)


class Proxy(JsProxy):
    """A Python object as JavaScript holds it: calls and attributes go to the object until it is destroyed."""

    __slots__ = ("_target",)

    def __init__(self, target: Any) -> None:
        self._target = target

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.unwrap()(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unwrap(), name)

    def unwrap(self) -> Any:
        if self._target is _DESTROYED:
            raise JsException("Object has already been destroyed")
        return self._target

    def to_py(self, **_options: Any) -> Any:
        return self.unwrap()

    def copy(self) -> Proxy:
        return Proxy(self.unwrap())

    def destroy(self) -> None:
        self._target = _DESTROYED

    def __repr__(self) -> str:
        return f"<proxy of {self._target!r}>"


JsCallable = Proxy
_DESTROYED = object()


class _OnceCallable(Proxy):
    """Destroys itself when it was called."""

    __slots__ = ()

    def __call__(self, *args: Any, **options: Any) -> Any:
        target = self.unwrap()
        self.destroy()
        return target(*args, **options)


def create_proxy(obj: Any, /, *, capture_this: bool = False, roundtrip: bool = True) -> Proxy:
    """Wrap an object or function for JavaScript to keep."""
    return obj if isinstance(obj, Proxy) else Proxy(obj)


def create_once_callable(obj: Callable[..., Any], /, **_options: object) -> Proxy:
    """Wrap a function that may be called once."""
    return _OnceCallable(obj)


def destroy_proxies(proxies: Iterable[Any], /) -> None:
    for proxy in proxies:
        proxy.destroy()


def to_js(
    obj: Any,
    /,
    *,
    depth: int = -1,
    pyproxies: list[Any] | None = None,
    create_pyproxies: bool = True,
    dict_converter: Callable[[Iterable[Any]], Any] | None = None,
    default_converter: Callable[[Any, Callable[[Any], Any], Callable[[Any, Any], None]], Any] | None = None,
    eager_converter: Callable[..., Any] | None = None,
) -> Any:
    """The value with JavaScript's members added, down to `depth` levels (-1: all).

    Lists and tuples become arrays, dicts maps (or what `dict_converter` makes of their pairs), sets sets, binary data
    typed arrays. Other objects are passed through, or through `default_converter`.

    Raises:
        ConversionError: an object that cannot be converted, if `create_pyproxies` is false.
    """

    def convert(value: Any, left: int) -> Any:
        if value is None or isinstance(value, (str, bool, int, float, JsProxy)) or left == 0:
            return value
        if eager_converter is not None:
            return eager_converter(value, lambda inner: convert_plain(inner, left), remember)
        return convert_plain(value, left)

    def convert_plain(value: Any, left: int) -> Any:
        if isinstance(value, (list, tuple)):
            return JsArray([convert(item, left - 1) for item in value])
        if isinstance(value, dict):
            pairs = [JsArray((key, convert(item, left - 1))) for key, item in value.items()]
            return JsMap(pairs) if dict_converter is None else dict_converter(pairs)
        if isinstance(value, (set, frozenset)):
            return JsSet(convert(item, left - 1) for item in value)
        if (data := _buffer(value)) is not None:
            return JsBytes(data)
        if default_converter is not None:
            return default_converter(value, lambda inner: convert(inner, left), remember)
        if not create_pyproxies:
            raise ConversionError(f"No conversion known for {value!r}.")
        return value

    def remember(original: Any, converted: Any) -> None:
        """Part of Pyodide's converter protocol; values here need no cache against cycles of proxies."""

    return convert(obj, depth)


def to_py(value: Any, **_options: Any) -> Any:
    """The Python value of a JavaScript one; Python values are given back."""
    if isinstance(value, (JsDict, JsArray)):
        return plain(value)
    return value.to_py() if isinstance(value, JsProxy) else value


def _buffer(value: Any) -> bytes | None:
    if isinstance(value, Mapping):
        return None
    try:
        with memoryview(value) as view:
            return view.tobytes()
    except TypeError:
        return None


def __getattr__(name: str) -> NoReturn:
    refuse("pyodide.ffi", name, __all__)
