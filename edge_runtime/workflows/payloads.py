"""Values that scripts hand to workflows and get from them: converted as at Cloudflare's boundary, then encoded.

What a script gets is always a decoded copy, also the first time, so that a replay cannot differ in type or identity.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from edge_runtime.limits import VALUE_DEPTH_MAX
from edge_runtime.store import values
from edge_runtime.workers.conversion import from_wire, to_wire
from edge_runtime.workflows.step_streams import MARK, KeptStream


def encode(value: Any) -> bytes:
    """Params, event payloads and the result of `run`. TypeError for what cannot be carried, tuples included."""
    return values.encode(to_wire(value))


def encode_result(value: Any) -> bytes:
    """The result of a step, where a tuple counts as a list; b"" for None."""
    if value is None:
        return b""
    try:
        return values.encode(to_wire(_without_tuples(value)))
    except Exception as error:
        place = "".join(f"[{part!r}]" for part in _find_refused(value, 0))
        raise TypeError(f"{error}{place and f' The value in question is at {place}.'}") from error


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


def _find_refused(value: Any, depth: int) -> tuple[object, ...]:
    """Where, inside of a value that cannot be carried, the part is that is to blame; () if it is the whole."""
    items: Iterable[tuple[object, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for place, item in items if depth < VALUE_DEPTH_MAX else ():
        try:
            values.encode(to_wire(_without_tuples(item)))
        except Exception:
            return (place, *_find_refused(item, depth + 1))
    return ()


def _without_tuples(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_without_tuples(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_tuples(item) for key, item in value.items()}
    return value
