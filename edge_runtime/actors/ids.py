"""Ids of Durable Objects: 32 bytes that tell their namespace without a look at storage.

The first 16 bytes are random, or HMAC-SHA256(key, name); the last 16 are HMAC-SHA256(key, first 16), where key is
SHA-256 of the namespace's unique key. Pure; randomness is passed in. Source: workerd server/actor-id-impl.

An id restricted to a jurisdiction has that and a zero byte before what is hashed, in both halves: the same name leads
to other objects there, and the id tells its jurisdiction.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256
from typing import Final

from edge_runtime.limits import OBJECT_KEY_MAX, OBJECT_NAMES_KEPT
from edge_runtime.memory import remembered

JURISDICTIONS: Final = ("eu", "us", "fedramp", "fedramp-high")

_HALF: Final = 16
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")


def is_object_id(text: str) -> bool:
    """Whether `text` has the form of an id, as it is stored."""
    return _HEX.fullmatch(text) is not None and text == text.lower()


class DurableObjectId:
    """Permanent name of one object. Made by its namespace; equal to ids of the same object."""

    __slots__ = ("_hex", "jurisdiction", "name")

    def __init__(self, hex_digits: str, name: str | None = None, jurisdiction: str | None = None) -> None:
        self._hex = hex_digits
        self.name = name
        """The name it was made from; None for unique ids and for those read from a string."""
        self.jurisdiction = jurisdiction
        """The jurisdiction that the object is restricted to, or None."""

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


def unique_key(worker: str, namespace: str) -> str:
    """What tells the ids of one namespace from those of another."""
    return f"{worker}-{namespace}"


class IdFactory:
    """The ids of one namespace, or of its part in one jurisdiction."""

    def __init__(self, unique_key: str, jurisdiction: str | None = None) -> None:
        self._unique_key = unique_key
        self._key = sha256(unique_key.encode()).digest()
        self.jurisdiction = jurisdiction

    def within(self, jurisdiction: str) -> IdFactory:
        return IdFactory(self._unique_key, jurisdiction)

    def from_name(self, name: str) -> DurableObjectId:
        make = _named if len(name) <= OBJECT_KEY_MAX else _of_name
        return make(self._key, self.jurisdiction, name)

    def unique(self, random_16: bytes) -> DurableObjectId:
        return DurableObjectId(self._complete(random_16, self.jurisdiction), None, self.jurisdiction)

    def from_string(self, text: str) -> DurableObjectId:
        """Raises TypeError for other than 64 hex digits and for an id of another namespace or jurisdiction."""
        if not isinstance(text, str) or _HEX.fullmatch(text) is None:
            raise TypeError("Invalid Durable Object ID: must be 64 hex digits")
        id = self.known(text.lower())
        if id is None or not self.owns(id):
            raise TypeError("Durable Object ID is not valid for this namespace.")
        return id

    def known(self, digits: str) -> DurableObjectId | None:
        """The id of these digits; None if it is of another namespace."""
        first = bytes.fromhex(digits)[:_HALF]
        for jurisdiction in (None, *JURISDICTIONS):
            if self._complete(first, jurisdiction) == digits:
                return DurableObjectId(digits, None, jurisdiction)
        return None

    def owns(self, id: DurableObjectId) -> bool:
        """Whether the id is of this namespace and, if this is a part of it, of this jurisdiction."""
        in_part = self.jurisdiction is None or id.jurisdiction == self.jurisdiction
        return in_part and self._complete(bytes.fromhex(id.toString())[:_HALF], id.jurisdiction) == id.toString()

    def _complete(self, first: bytes, jurisdiction: str | None) -> str:
        return _complete(self._key, first, jurisdiction)


def _of_name(key: bytes, jurisdiction: str | None, name: str) -> DurableObjectId:
    first = _mac(key, name.encode("utf-8", "surrogatepass"), jurisdiction)
    return DurableObjectId(_complete(key, first, jurisdiction), name, jurisdiction)


_named: Final = remembered(OBJECT_NAMES_KEPT)(_of_name)
"""Two hashes are a tenth of what a call costs."""


def _complete(key: bytes, first: bytes, jurisdiction: str | None) -> str:
    return (first + _mac(key, first, jurisdiction)).hex()


def _mac(key: bytes, data: bytes, jurisdiction: str | None) -> bytes:
    if jurisdiction is not None:
        data = jurisdiction.encode() + b"\x00" + data
    return hmac.digest(key, data, "sha256")[:_HALF]
