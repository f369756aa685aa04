"""What may cross a boundary (RPC, storage, workflow parameters and results), and what arrives on the other side.

`to_wire` checks a script's value and brings it to a plain form; `from_wire` makes of that what Cloudflare's SDK would
hand to a script. Between them the value may be kept in memory or go through `store.values`.

What goes by reference (functions, RpcTargets) is lent, and a stub arrives; their calls convert in their turn, so both
get their conversions here (`lending` and `stubs` have the rest of them).

Beyond Cloudflare, dates without time, UUIDs and Decimals cross unchanged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from edge_runtime.event import EventContext, current_event
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workers.body import BodyReader
from edge_runtime.workers.buffers import ArrayBuffer, DataView, JsBytes, TypedArray
from edge_runtime.workers.js_date import whole_milliseconds
from edge_runtime.workers.js_object import JsException, JsNull, JsObject, data_clone_error
from edge_runtime.workers.js_values import JsDict
from edge_runtime.workers.lending import Lent, RpcTarget, Target
from edge_runtime.workers.rpc_size import require_rpc_size
from edge_runtime.workers.stubs import Stub

_PLAIN = frozenset({type(None), bool, int, float, str, bytes, UUID, Decimal, date})
SAME = frozenset({type(None), bool, int, str})
"""Types of values that scripts get as they are."""
SMALL = SAME - {str}
"""Those of them that are never large."""
_SAFE_INTEGER = 2**53 - 1


def to_wire(value: Any) -> Any:
    """The value in plain form: a copy made of None, bool, int, float, str, bytes, list, dict with string keys, set,
    datetime (aware, UTC, whole milliseconds), Exception, and whole objects (Request, Response, Blob, FormData,
    functions), which cross by reference.

    Raises:
        TypeError: a tuple, a bytearray, an awaitable, a RegExp, anywhere inside.
        JsException: DataCloneError, for objects of other classes.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list:
        return [to_wire(item) for item in value]
    if kind is dict or kind is JsDict:
        return {key if type(key) is str else _key(key): to_wire(item) for key, item in value.items()}
    return _other_to_wire(value)


def _other_to_wire(value: Any) -> Any:
    if isinstance(value, memoryview):
        return value.tobytes()
    if isinstance(value, (ArrayBuffer, TypedArray, DataView, JsBytes)):
        return value.to_bytes()
    if isinstance(value, JsNull):
        return None
    if isinstance(value, (tuple, bytearray)):
        raise TypeError(f"{type(value)} cannot be sent over RPC.")
    if isinstance(value, dict):
        return {_key(key): to_wire(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_wire(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return {to_wire(item) for item in value}
    if isinstance(value, datetime):
        return whole_milliseconds(value)
    if isinstance(value, BaseException):
        return Exception(value.message if isinstance(value, JsException) else str(value))
    if isinstance(value, BodyReader):
        return value
    if isinstance(value, JsObject):
        return _js_to_wire(value)
    if isinstance(value, Awaitable):
        raise TypeError(f"Awaitable {type(value)} cannot be sent over RPC.")
    if isinstance(value, (str, int, float, bytes)):
        return _base_value(value)
    if isinstance(value, type):
        raise data_clone_error(value)
    return _target(value)


def _target(value: Any) -> Any:
    """What crosses by reference: functions, RpcTargets, stubs."""
    if (own := getattr(type(value), "_rpc_target", None)) is not None:
        return own(value)
    if isinstance(value, RpcTarget) or callable(value):
        return lend(value)
    raise data_clone_error(value)


def _js_to_wire(value: JsObject) -> Any:
    return _target(value) if callable(value) else value._to_wire()


def _base_value(value: Any) -> Any:
    """The value of a subclass of a plain type (an enum's member, a Secret) as that type."""
    plain = value.value if isinstance(value, Enum) else value
    # The base's own conversion, whatever the subclass shows of itself.
    if isinstance(plain, str):
        return str.__str__(plain)
    if isinstance(plain, int):
        return int.__int__(plain)
    if isinstance(plain, float):
        return float.__float__(plain)
    if isinstance(plain, bytes):
        return bytes(plain)
    raise data_clone_error(value)


def _key(key: object) -> str:
    if isinstance(key, str):
        return str.__str__(key.value if isinstance(key, Enum) else key)
    if isinstance(key, bool) or key is None:
        return {True: "true", False: "false", None: "null"}[key]
    if isinstance(key, int):
        return str(key)
    if isinstance(key, float):
        return str(int(key)) if key.is_integer() else repr(key)
    raise TypeError(f"{type(key)} cannot be a key of an object sent over RPC; keys are strings")


def from_wire(value: Any) -> Any:
    """What a script gets of a plain value: JsDict for dict, memoryview for bytes, naive local time for datetime, int
    for a float without fraction, a stub for a function; everything inside likewise."""
    kind = type(value)
    if kind is str or kind is int or value is None or kind is bool:
        return value
    if kind is dict or kind is JsDict:
        copy = JsDict(value)
        for key, item in value.items():
            if type(item) not in SAME:
                copy[key] = from_wire(item)
        return copy
    if kind is list:
        return [item if type(item) in SAME else from_wire(item) for item in value]
    if kind is float:
        return int(value) if value.is_integer() and abs(value) <= _SAFE_INTEGER else value
    if isinstance(value, bytes):
        return memoryview(value)
    return _other_from_wire(value)


def _other_from_wire(value: Any) -> Any:
    if isinstance(value, JsNull):
        return None
    if isinstance(value, datetime):
        return value.astimezone().replace(tzinfo=None) if value.tzinfo is not None else value
    if isinstance(value, set):
        return {item if isinstance(item, bytes) else from_wire(item) for item in value}
    if isinstance(value, dict):
        return JsDict({_key(key): from_wire(item) for key, item in value.items()})
    if isinstance(value, list):
        return [from_wire(item) for item in value]
    if isinstance(value, (ArrayBuffer, TypedArray, DataView)):
        return memoryview(value.to_bytes())
    if isinstance(value, JsException):
        return Exception(str(value))
    if isinstance(value, Exception):
        return Exception(f"Error: {value}")
    if isinstance(value, ErrorRecord):
        return Exception(f"Error: {value.message}")
    if isinstance(value, JsObject) and not callable(value):
        return value._from_wire()
    if hasattr(value, "invoke") or (callable(value) and not isinstance(value, type)):
        if isinstance(value, RpcStub):
            return value
        return RpcStub(value if hasattr(value, "invoke") else lend(value))
    return value


python_to_rpc = to_wire
python_from_rpc = from_wire


def to_wire_args(args: Iterable[Any], options: dict[str, Any]) -> list[Any]:
    """Arguments of a call in plain form; keyword arguments become one trailing object. JsException for more than 32 MiB
    of them."""
    wired = [to_wire(arg) for arg in args]
    if options:
        wired.append(to_wire(options))
    require_rpc_size(wired)
    return wired


def to_wire_result(result: Any) -> Any:
    """The result of a call in plain form. JsException for more than 32 MiB."""
    if type(result) in SMALL:
        return result
    plain = to_wire(result)
    require_rpc_size((plain,))
    return plain


def received(event: EventContext, plain: Any) -> Any:
    """What a script gets of a result that arrived in `event`."""
    token = current_event.set(event)
    try:
        return from_wire(plain)
    finally:
        current_event.reset(token)


class _Lent(Lent):
    _from_wire = staticmethod(from_wire)
    _to_wire_result = staticmethod(to_wire_result)


def lend(value: Any) -> Target:
    """The target of a function or RpcTarget that the current event passes on."""
    return _Lent(value, current_event.get())


class RpcStub(Stub):
    """A function or object that arrived by RPC; see `Stub`."""

    __slots__ = ()
    _to_wire_args = staticmethod(to_wire_args)
    _received = staticmethod(received)

    def _another(self) -> RpcStub:
        return RpcStub(self._target)
