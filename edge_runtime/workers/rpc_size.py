"""The largest value that goes over RPC in one piece, within an isolate too. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from edge_runtime.limits import RPC_VALUE_MAX
from edge_runtime.workers.js_object import JsException

_UTF8_MAX: Final = 4
"""Bytes of a character."""
_SCALAR: Final = 8
"""Bytes that stand for anything else."""
_encode: Final = msgspec.msgpack.Encoder(enc_hook=lambda _: None).encode


def require_rpc_size(values: Iterable[Any]) -> None:
    """JsException (an Error, in workerd's words) if values in plain form take more than 32 MiB together. What goes by
    reference does not count."""
    size = sum(map(_size, values))
    if size > RPC_VALUE_MAX:
        raise too_large(size)


def too_large(size: int) -> JsException:
    return JsException(
        f"Serialized RPC arguments or return values are limited to {RPC_VALUE_MAX >> 20}MiB, but the size of this "
        f"value was: {size} bytes."
    )


def _size(value: Any) -> int:
    kind = type(value)
    if kind is str:
        length = len(value)
        return length if length * _UTF8_MAX <= RPC_VALUE_MAX else len(value.encode("utf-8", "surrogatepass"))
    if kind is bytes:
        return len(value)
    if kind is dict or kind is list:
        try:
            return len(_encode(value))
        except (OverflowError, UnicodeEncodeError, RecursionError, TypeError):
            # What MessagePack has no form for: a large int, a lone surrogate.
            return sum(map(_size, value)) + (sum(map(_size, value.values())) if kind is dict else 0)
    return sum(map(_size, value)) if kind is set else _SCALAR
