"""What KV accepts, and the error texts for the rest. Pure.

Keys are checked by Cloudflare's client (TypeError), sizes and options by its service (KvError, whose text carries the
operation and an HTTP status). Source: workerd api/kv.c++, miniflare workers/kv.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from edge_runtime.limits import (
    KV_BULK_GET_MAX,
    KV_CACHE_TTL_MIN_S,
    KV_KEY_MAX,
    KV_LIST_MAX,
    KV_METADATA_MAX,
    KV_TTL_MIN_S,
    KV_VALUE_MAX,
)
from edge_runtime.workers.js_object import JsException

TYPES: Final = ("text", "json", "arrayBuffer", "stream")

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")
_MEANT: Final = {"expiration_ttl": "expirationTtl", "cache_ttl": "cacheTtl"}


class KvError(JsException):
    """The KV service refused an operation; a plain Error in JavaScript. `message` reads as Cloudflare's:
    "KV PUT failed: 413 Value length of ..."."""

    def __init__(self, operation: str, status: int, reason: str) -> None:
        self.operation, self.status, self.reason = operation, status, reason
        super().__init__(f"KV {operation} failed: {status} {reason}")


@dataclass(frozen=True, slots=True)
class PutOptions:
    expires_s: int | None = None
    metadata: bytes | None = None
    """JSON, UTF-8."""


@dataclass(frozen=True, slots=True)
class ListOptions:
    prefix: str = ""
    limit: int = KV_LIST_MAX
    cursor: str | None = None


def check_key(operation: str, key: object) -> str:
    """The key as it is stored. Raises TypeError or KvError (414)."""
    if not isinstance(key, str):
        raise TypeError(f"KV key names are strings, found {type(key).__name__}")
    if key == "":
        raise TypeError("Key name cannot be empty.")
    if key in (".", ".."):
        raise TypeError(f'"{key}" is not allowed as a key name.')
    return _check_length(operation, key)


def check_bulk_keys(operation: str, names: list[object]) -> list[str]:
    """The keys of a bulk read, in order, without repetition."""
    if len(names) > KV_BULK_GET_MAX:
        raise KvError(operation, 400, f"You can request a maximum of {KV_BULK_GET_MAX} keys")
    if not names:
        raise KvError(operation, 400, "You must request a minimum of 1 key")
    return list(dict.fromkeys(check_key(operation, name) for name in names))


def merge_options(call: str, options: object, named: Mapping[str, Any]) -> dict[str, Any]:
    """One dict of a trailing options object and keyword arguments; None counts as not given.

    Cloudflare ignores names it does not know; so do we, except for spellings that would lose an expiration unnoticed.
    """
    if options is None:
        merged = dict(named)
    elif isinstance(options, Mapping):
        merged = {**options, **named}
    else:
        raise TypeError(
            f"KV {call}() takes its options as a dict or as keyword arguments, not {type(options).__name__}"
        )
    for name, meant in _MEANT.items():
        if merged.get(name) is not None:
            raise TypeError(f"KV {call}() has no option {name!r}; it is spelled {meant!r}")
    return merged


def read_type(operation: str, options: Mapping[str, Any]) -> str:
    """The value type of a read; also checks cacheTtl, which has no effect here: there is one place, no cache."""
    cache_ttl = options.get("cacheTtl")
    if cache_ttl is not None:
        ttl_s = _integer(cache_ttl)
        if ttl_s is None or ttl_s < KV_CACHE_TTL_MIN_S:
            raise KvError(
                operation, 400, f"Invalid cache_ttl of {cache_ttl}. Cache TTL must be at least {KV_CACHE_TTL_MIN_S}."
            )
    kind = options.get("type")
    if kind is None:
        return "text"
    if kind not in TYPES:
        raise TypeError('Unknown response type. Possible types are "text", "arrayBuffer", "json", and "stream".')
    return str(kind)


def read_bulk_type(operation: str, options: Mapping[str, Any]) -> str:
    kind = options.get("type")
    if kind is not None and kind not in ("text", "json"):
        raise KvError(operation, 400, f'"{kind}" is not a valid type. Use "json" or "text"')
    return read_type(operation, options)


def read_put_options(options: Mapping[str, Any], now_s: int) -> PutOptions:
    """expirationTtl wins over expiration. Raises KvError (400, 413), TypeError for metadata that is not JSON."""
    operation = "PUT"
    expires_s = None
    ttl, expiration = options.get("expirationTtl"), options.get("expiration")
    if ttl is not None:
        ttl_s = _integer(ttl)
        if ttl_s is None or ttl_s <= 0:
            raise KvError(operation, 400, f"Invalid expiration_ttl of {ttl}. Please specify integer greater than 0.")
        if ttl_s < KV_TTL_MIN_S:
            raise KvError(
                operation, 400, f"Invalid expiration_ttl of {ttl}. Expiration TTL must be at least {KV_TTL_MIN_S}."
            )
        expires_s = now_s + ttl_s
    elif expiration is not None:
        expires_s = _integer(expiration)
        if expires_s is None or expires_s <= now_s:
            raise KvError(
                operation,
                400,
                f"Invalid expiration of {expiration}. Please specify integer greater than the current number of "
                "seconds since the UNIX epoch.",
            )
        if expires_s < now_s + KV_TTL_MIN_S:
            raise KvError(
                operation,
                400,
                f"Invalid expiration of {expiration}. Expiration times must be at least {KV_TTL_MIN_S} seconds in the "
                "future.",
            )
    if expires_s is not None and expires_s >= 2**53:
        raise KvError(operation, 400, f"Invalid expiration of {expires_s}. Please specify a time before 2**53 seconds.")
    metadata = None
    if options.get("metadata") is not None:
        metadata = encode_metadata(options["metadata"])
        if len(metadata) > KV_METADATA_MAX:
            raise KvError(operation, 413, f"Metadata length of {len(metadata)} exceeds limit of {KV_METADATA_MAX}.")
    return PutOptions(expires_s, metadata)


def encode_metadata(metadata: object) -> bytes:
    """Metadata as JSON. Raises TypeError for what has no JSON form."""
    try:
        return msgspec.json.encode(metadata)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"KV metadata must be a value that JSON can hold: {error}") from None


def check_value_size(operation: str, size: int) -> None:
    if size > KV_VALUE_MAX:
        raise KvError(operation, 413, f"Value length of {size} exceeds limit of {KV_VALUE_MAX}.")


def read_list_options(options: Mapping[str, Any]) -> ListOptions:
    operation = "GET"
    limit = KV_LIST_MAX
    given = options.get("limit")
    if given is not None:
        number = _integer(given)
        if number is None or number < 1:
            raise KvError(
                operation, 400, f"Invalid key_count_limit of {given}. Please specify an integer greater than 0."
            )
        if number > KV_LIST_MAX:
            raise KvError(
                operation,
                400,
                f"Invalid key_count_limit of {given}. Please specify an integer less than {KV_LIST_MAX}.",
            )
        limit = number
    prefix = _check_length(operation, _text(options, "prefix"))
    return ListOptions(prefix, limit, _text(options, "cursor") or None)


def utf8(text: str) -> bytes:
    """UTF-8 of `text`, lone surrogates replaced as JavaScript does when it hands a string to the outside."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _check_length(operation: str, key: str) -> str:
    raw = utf8(key)
    if len(raw) > KV_KEY_MAX:
        raise KvError(operation, 414, f"UTF-8 encoded length of {len(raw)} exceeds key length limit of {KV_KEY_MAX}.")
    return raw.decode()


def _text(options: Mapping[str, Any], name: str) -> str:
    text = options.get(name)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise TypeError(f"KV list() option {name!r} must be a string, found {type(text).__name__}")
    return text


def _integer(value: object) -> int | None:
    """A whole number as JavaScript would take it from a number or a text; None if there is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return math.trunc(value) if math.isfinite(value) else None
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    return None
