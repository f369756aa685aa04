"""The record codec: structs of a fixed layout, many times faster to write than values of any shape (`store.values`).

Layout: one byte version (2, which no value of `store.values` begins with), four bytes CRC-32 of the rest big-endian,
then MessagePack as msgspec writes it. Text with lone surrogates cannot be written; take it out before.
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar
from zlib import crc32

import msgspec

from edge_runtime.errors import StoreCorrupt

T = TypeVar("T")

_VERSION: Final = b"\x02"
_HEADER: Final = 5


class RecordCodec(Generic[T]):
    """Writes and reads one type; structs that are `array_like` grow by fields with a default at their end."""

    __slots__ = ("_decode", "_encode")

    def __init__(self, kind: Any) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(kind).decode

    def encode(self, record: T) -> bytes:
        body = self._encode(record)
        return _VERSION + crc32(body).to_bytes(4, "big") + body

    def decode(self, data: bytes) -> T:
        """Raises StoreCorrupt for bytes that `encode` did not make."""
        body = data[_HEADER:]
        if data[:1] != _VERSION:
            raise StoreCorrupt(f"a record of {len(data)} bytes has format {data[:1].hex() or 'none'}, known is 02")
        if crc32(body) != int.from_bytes(data[1:_HEADER], "big"):
            raise StoreCorrupt(f"a record of {len(data)} bytes does not match its checksum")
        try:
            decoded: T = self._decode(body)
        except msgspec.DecodeError as error:
            raise StoreCorrupt(f"a record of {len(data)} bytes cannot be decoded: {error}") from error
        return decoded
