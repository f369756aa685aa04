"""The key codec: tuples of strings, bytes and integers as byte strings of the same order.

Every key in the store is written by `encode`; the tables' owners document which parts they use. Layout, part by part:

    bytes   0x01, the bytes with each 0x00 written as 0x00 0xFF, then 0x00
    str     0x02, its UTF-8 with each 0x00 written as 0x00 0xFF, then 0x00
    int     0x0B + n for a positive one of n bytes, then these, big-endian; 0x0B for 0; 0x0B - n for a negative one
            of n bytes, then those of its magnitude, each complemented

So keys compare as their tuples do: strings by code point, bytes bytewise, integers by value, a tuple before its
extensions, and in one position bytes before strings before integers. No part's encoding begins with 0x00 or 0xFF.
"""

from __future__ import annotations

import re
from typing import Final

from edge_runtime.errors import StoreCorrupt
from edge_runtime.memory import remembered

Part = str | bytes | int

_BYTES: Final = b"\x01"
_STR: Final = b"\x02"
_ZERO_INT: Final = 0x0B
_INT_BYTES: Final = 8
_INTS: Final = tuple(bytes((_ZERO_INT + count,)) for count in range(_INT_BYTES + 1))
_END: Final = b"\x00"
_ZERO: Final = b"\x00\xff"
_SIGN: Final = 1 << 63
_REMEMBERED: Final = 1024
_UUID: Final = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def encode(*parts: Part) -> bytes:
    """The key of a tuple.

    Raises TypeError for a part of another type (bool included), ValueError for an integer beyond 64 bits signed or a
    string with lone surrogates.
    """
    out = b""
    for part in parts:
        kind = type(part)
        if kind is str:
            out += encode_str(part)  # type: ignore[arg-type]
        elif kind is int:
            out += _encode_int(part)  # type: ignore[arg-type]
        else:
            out += _encode_other(part)
    return out


@remembered(_REMEMBERED, typed=True)
def head(*parts: Part) -> bytes:
    """As `encode`, for parts that many keys begin with, or that are needed again soon: the last ones are remembered."""
    return encode(*parts)


def encode_str(part: str) -> bytes:
    """`encode` of one string."""
    return _STR + part.encode().replace(_END, _ZERO) + _END


def decode(key: bytes) -> tuple[Part, ...]:
    """The tuple that `encode` made the key from. Raises StoreCorrupt for bytes that `encode` cannot have made."""
    parts: list[Part] = []
    at = 0
    while at < len(key):
        tag = key[at : at + 1]
        count = key[at] - _ZERO_INT
        if -_INT_BYTES <= count <= _INT_BYTES:
            parts.append(_decode_int(key, at, count))
            at += 1 + abs(count)
        elif tag in (_STR, _BYTES):
            end = _find_end(key, at + 1)
            raw = key[at + 1 : end].replace(_ZERO, _END)
            if tag == _STR:
                try:
                    parts.append(raw.decode())
                except UnicodeDecodeError as error:
                    raise StoreCorrupt(f"key {key!r} holds a string at byte {at} that is not UTF-8") from error
            else:
                parts.append(raw)
            at = end + 1
        else:
            raise StoreCorrupt(f"key {key!r} has no known part at byte {at}")
    return tuple(parts)


def prefix_range(*parts: Part, partial: str | bytes | None = None) -> tuple[bytes, bytes]:
    """(start, end) such that start <= key < end for the keys that begin with these parts, the bare tuple included.

    With `partial`, the part that follows must be of that type and begin with it: `prefix_range("w", partial="ab")`
    covers ("w", "ab"), ("w", "abc", 1) and not ("w", "b").
    """
    start = encode(*parts)
    if partial is None:
        return start, start + b"\xff"
    start += encode(partial)[:-1]
    return start, _successor_of_prefix(start)


@remembered(_REMEMBERED)
def short(id: str) -> str | bytes:
    """The part that stands for an id where there are many: 16 bytes for a UUID in its canonical form. See `long`.

    In one position all UUIDs come before other ids; among themselves both keep their order.
    """
    if len(id) == 36 and _UUID.fullmatch(id) is not None:
        return bytes.fromhex(id.replace("-", ""))
    return id


@remembered(_REMEMBERED)
def encode_id(id: str) -> bytes:
    """`encode(short(id))`, which several keys of an id have at one place or another."""
    return encode(short(id))


def long(part: Part) -> str:
    """The id that `short` made the part from. Raises StoreCorrupt for a part that it cannot have made."""
    if isinstance(part, str):
        return part
    if isinstance(part, bytes) and len(part) == 16:
        digits = part.hex()
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
    raise StoreCorrupt(f"a key holds {part!r} where an id belongs")


def after(key: bytes) -> bytes:
    """The smallest byte string greater than `key`: the start of a range that excludes it."""
    return key + b"\x00"


def _encode_int(part: int) -> bytes:
    if not -_SIGN <= part < _SIGN:
        raise ValueError(f"an integer in a key must fit 64 bits with its sign, found {part}")
    count = (part.bit_length() + 7) >> 3
    if part >= 0:
        return _INTS[count] + part.to_bytes(count, "big")
    return bytes((_ZERO_INT - count,)) + (part + (1 << 8 * count) - 1).to_bytes(count, "big")


def _decode_int(key: bytes, at: int, count: int) -> int:
    """The integer of `count` bytes at `at`; of -`count` if it is negative."""
    digits = key[at + 1 : at + 1 + abs(count)]
    if len(digits) != abs(count):
        raise StoreCorrupt(f"key {key!r} ends inside the integer at byte {at}")
    value = int.from_bytes(digits, "big")
    if count < 0:
        value -= (1 << 8 * -count) - 1
    if (value.bit_length() + 7) >> 3 != abs(count) or not -_SIGN <= value < _SIGN:
        raise StoreCorrupt(f"key {key!r} holds an integer at byte {at} in a form that integers are not written in")
    return value


def _encode_other(part: object) -> bytes:
    if isinstance(part, bytes):
        return _BYTES + part.replace(_END, _ZERO) + _END
    if isinstance(part, str):
        return _STR + part.encode().replace(_END, _ZERO) + _END
    if isinstance(part, int) and not isinstance(part, bool):
        return _encode_int(part)
    raise TypeError(f"a key is made of str, bytes and int, found {type(part).__name__}")


def _find_end(key: bytes, at: int) -> int:
    """Where the terminator of the string that starts at `at` is."""
    while True:
        end = key.find(_END, at)
        if end < 0:
            raise StoreCorrupt(f"key {key!r} ends inside a string")
        if key[end + 1 : end + 2] != b"\xff":
            return end
        at = end + 2


def _successor_of_prefix(prefix: bytes) -> bytes:
    """The smallest byte string greater than everything that begins with `prefix`, which has a byte below 0xFF."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,))
