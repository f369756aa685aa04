"""What the journal has of a byte stream that a step returned: how much was kept of it. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

MARK: Final = b"\xff"
"""Begins no encoded value: in CBOR it ends one."""


class KeptStream(msgspec.Struct, frozen=True, array_like=True):
    size: int
    pieces: int

    @classmethod
    def decode(cls, value: bytes) -> KeptStream:
        return msgspec.msgpack.decode(value[len(MARK) :], type=cls)

    def encode(self) -> bytes:
        return MARK + msgspec.msgpack.encode(self)

    def __str__(self) -> str:
        return f"[ReadableStream (binary): {self.size} bytes]"
