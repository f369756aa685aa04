"""Ids of Durable Objects: 32 bytes that tell their namespace without a look at storage.

The first 16 bytes are random, or HMAC-SHA256(key, name); the last 16 are HMAC-SHA256(key, first 16), where key is
SHA-256 of the namespace's unique key. Pure; randomness is passed in. Source: workerd server/actor-id-impl.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256
from typing import Final

_HALF: Final = 16
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")


class DurableObjectId:
    """Permanent name of one object. Made by its namespace; equal to ids of the same object."""

    __slots__ = ("_hex", "name")

    def __init__(self, hex_digits: str, name: str | None = None) -> None:
        self._hex = hex_digits
        self.name = name
        """The name it was made from; None for unique ids and for those read from a string."""

    def toString(self) -> str:
        """64 hex digits."""
        return self._hex

    to_string = toString

    def equals(self, other: object) -> bool:
        return self == other

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DurableObjectId) and other._hex == self._hex

    def __hash__(self) -> int:
        return hash(self._hex)

    def __str__(self) -> str:
        return self._hex

    def __repr__(self) -> str:
        return f"<DurableObjectId {self._hex}>" if self.name is None else f"<DurableObjectId {self.name!r} {self._hex}>"


class IdFactory:
    """The ids of one namespace."""

    def __init__(self, unique_key: str) -> None:
        self._key = sha256(unique_key.encode()).digest()

    def from_name(self, name: str) -> DurableObjectId:
        return DurableObjectId(self._complete(self._mac(name.encode("utf-8", "surrogatepass"))), name)

    def unique(self, random_16: bytes) -> DurableObjectId:
        return DurableObjectId(self._complete(random_16))

    def from_string(self, text: str) -> DurableObjectId:
        """Raises TypeError for other than 64 hex digits and for an id of another namespace."""
        if not isinstance(text, str) or _HEX.fullmatch(text) is None:
            raise TypeError("Invalid Durable Object ID: must be 64 hex digits")
        digits = text.lower()
        if not self.owns(digits):
            raise TypeError("Durable Object ID is not valid for this namespace.")
        return DurableObjectId(digits)

    def owns(self, digits: str) -> bool:
        return self._complete(bytes.fromhex(digits)[:_HALF]) == digits

    def _complete(self, first: bytes) -> str:
        return (first + self._mac(first)).hex()

    def _mac(self, data: bytes) -> bytes:
        return hmac.digest(self._key, data, "sha256")[:_HALF]
