"""Values that scripts hand to workflows and get from them: converted as at Cloudflare's boundary, then encoded.

What a script gets is always a decoded copy, also the first time, so that a replay cannot differ in type or identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from edge_runtime.store import values
from edge_runtime.workers.conversion import from_wire, to_wire
from edge_runtime.workers.js_object import JsException
from edge_runtime.workflows.core.kept_stream import MARK, KeptStream

_PLACE_DEPTH_MAX: Final = 16


def encode(value: Any) -> bytes:
    """Params, event payloads and the result of `run`. Raises for what cannot be carried, tuples included, with the
    place of it inside of the value: a TypeError, a ValueError, or a JsException named DataCloneError."""
    try:
        return values.encode(to_wire(value))
    except Exception as error:
        raise _with_place(error, _find_refused(value, to_wire, 0)) from error


def encode_result(value: Any) -> bytes:
    """The result of a step, where a tuple counts as a list; b"" for None. Raises as `encode`."""
    if value is None:
        return b""
    try:
        return values.encode(_result_to_wire(value))
    except Exception as error:
        raise _with_place(error, _find_refused(value, _result_to_wire, 0)) from error


def decode(data: bytes) -> Any:
    """What a script gets; None for b""."""
    return from_wire(decode_plain(data))


def decode_plain(data: bytes) -> Any:
    """The stored value, unconverted; of a stream that is kept elsewhere, what it is shown as."""
    if data[:1] == MARK:
        return str(KeptStream.decode(data))
    return values.decode(data) if data else None


def instant(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _with_place(error: Exception, place: tuple[object, ...]) -> Exception:
    if not place:
        return error
    within = f" The value in question is at {''.join(f'[{part!r}]' for part in place)}."
    if isinstance(error, JsException):
        return JsException(error.message + within, error.name)
    return (ValueError if isinstance(error, ValueError) else TypeError)(f"{error}{within}")


def _find_refused(value: Any, prepare: Callable[[Any], Any], depth: int) -> tuple[object, ...]:
    """Where, inside of a value that cannot be carried, the part is that is to blame; () if it is the whole. Not
    followed further than people read."""
    items: Iterable[tuple[object, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for place, item in items if depth < _PLACE_DEPTH_MAX else ():
        try:
            values.encode(prepare(item))
        except Exception:
            return (place, *_find_refused(item, prepare, depth + 1))
    return ()


def _result_to_wire(value: Any) -> Any:
    return to_wire(_without_tuples(value))


def _without_tuples(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_without_tuples(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_tuples(item) for key, item in value.items()}
    return value
