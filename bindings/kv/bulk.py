"""Many entries at once, for the command line: files of pairs or keys, written in one transaction."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import msgspec

from bindings.kv.namespace import KvNamespace
from bindings.kv.validation import KvError, check_key
from bindings.kv.writes import Write, check_put
from edge_runtime.errors import UsageError
from edge_runtime.limits import KV_BULK_GET_MAX, KV_BULK_PUT_MAX


class Pair(msgspec.Struct, frozen=True):
    """One item of a `kv bulk put` file, with wrangler's names."""

    key: str
    value: str
    base64: bool = False
    expiration: int | None = None
    expiration_ttl: int | None = None
    metadata: Any = None


class _Named(msgspec.Struct, frozen=True):
    name: str


def decode_pairs(data: bytes, file: str) -> list[Pair]:
    return _decode(data, file, list[Pair], "a list of {key, value, base64?, expiration?, expiration_ttl?, metadata?}")


def decode_keys(data: bytes, file: str) -> list[str]:
    """A list of keys, or of {name} as `kv key list` prints them."""
    items = _decode(data, file, list[str | _Named], 'a list of keys, ["key", ...]')
    return [item if isinstance(item, str) else item.name for item in items]


def _decode(data: bytes, file: str, type: Any, shape: str) -> list[Any]:
    try:
        items: list[Any] = msgspec.json.decode(data, type=type)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} does not hold {shape}: {error}") from None
    if len(items) > KV_BULK_PUT_MAX:
        raise UsageError(f"{file} holds {len(items)} items; at most {KV_BULK_PUT_MAX} are taken at once")
    return items


def check_pairs(pairs: Sequence[Pair], now_s: int) -> list[Write]:
    """The writes of a file; if one pair may not be written, UsageError naming it."""
    writes = []
    for index, pair in enumerate(pairs):
        options = {"expiration": pair.expiration, "expirationTtl": pair.expiration_ttl, "metadata": pair.metadata}
        try:
            value = base64.b64decode(pair.value, validate=True) if pair.base64 else pair.value
            writes.append(check_put(pair.key, value, options, now_s))
        except binascii.Error as error:
            raise UsageError(f"item {index} (key {pair.key!r}): the value is not base64: {error}") from None
        except (TypeError, KvError) as error:
            raise UsageError(f"item {index} (key {pair.key!r}): {reason(error)}") from None
    return writes


def check_names(names: Sequence[str]) -> list[str]:
    checked = []
    for index, name in enumerate(names):
        try:
            checked.append(check_key("DELETE", name))
        except (TypeError, KvError) as error:
            raise UsageError(f"item {index} (key {name!r}): {reason(error)}") from None
    return checked


def reason(error: Exception) -> str:
    """An error's text for a person, without JavaScript's name of its class."""
    return error.message if isinstance(error, KvError) else str(error)


async def get_all(namespace: KvNamespace, names: Sequence[str]) -> dict[str, Any]:
    """{key: {value, metadata?}}; the value of a missing key is None."""
    found: dict[str, Any] = {}
    for start in range(0, len(names), KV_BULK_GET_MAX):
        part = await namespace.getWithMetadata(list(names[start : start + KV_BULK_GET_MAX]))
        for name, pair in part.items():
            found[name] = {"value": pair["value"]}
            if pair["metadata"] is not None:
                found[name]["metadata"] = pair["metadata"]
    return found
