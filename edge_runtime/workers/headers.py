"""Header lists: raw pairs as HTTP servers have them, the `Headers` of the Fetch standard, and HTTPMessage for scripts.

Everything is kept as a list of (name, value) pairs of bytes with lower-case names, the form in which headers arrive
and leave; other forms are made when a script asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from edge_runtime.workers.js_object import JsObject

if TYPE_CHECKING:
    from http.client import HTTPMessage

RawHeaders: TypeAlias = list[tuple[bytes, bytes]]
HeadersInit: TypeAlias = Union[Mapping[str, object], Sequence[tuple[str, object]], "Headers", "HTTPMessage"]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN_IN_VALUE = re.compile(r"[\r\n\0]")
_FORBIDDEN_IN_BYTES = re.compile(rb"[\r\n\0]")


class Headers(JsObject):
    """The Fetch standard's Headers. Iterates over (name, value) pairs: sorted, duplicates combined, cookies apart."""

    __slots__ = ("_raw",)

    def __init__(self, init: HeadersInit | None = None, options: Mapping[str, object] | None = None) -> None:
        self._raw: RawHeaders = [] if init is None and options is None else encode_headers(init or options or {})

    @classmethod
    def of(cls, raw: RawHeaders) -> Headers:
        """A view on `raw`: changes go both ways."""
        headers = cls.__new__(cls)
        headers._raw = raw
        return headers

    @property
    def raw(self) -> RawHeaders:
        return self._raw

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value, duplicates combined with ", "; None if absent."""
        value = header(self._raw, name.lower().encode("latin-1", "replace"))
        return default if value is None else value

    def getAll(self, name: str) -> list[str]:
        wanted = name.lower().encode("latin-1", "replace")
        return [decode_value(value) for key, value in self._raw if key == wanted]

    def getSetCookie(self) -> list[str]:
        return self.getAll("set-cookie")

    def has(self, name: str) -> bool:
        wanted = name.lower().encode("latin-1", "replace")
        return any(key == wanted for key, _ in self._raw)

    def set(self, name: str, value: object) -> None:
        pair = (encode_name(name), encode_value(name, value))
        self.delete(name)
        self._raw.append(pair)

    def append(self, name: str, value: object) -> None:
        self._raw.append((encode_name(name), encode_value(name, value)))

    def delete(self, name: str) -> None:
        wanted = encode_name(name)
        self._raw[:] = [pair for pair in self._raw if pair[0] != wanted]

    def keys(self) -> list[str]:
        return [name for name, _ in self]

    def values(self) -> list[str]:
        return [value for _, value in self]

    def entries(self) -> list[tuple[str, str]]:
        return list(self)

    items = entries

    def forEach(self, callback: Any) -> None:
        for name, value in self:
            callback(value, name, self)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(sorted(combined(self._raw), key=lambda pair: pair[0]))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.has(name)

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __repr__(self) -> str:
        return f"Headers({list(self)!r})"


def encode_headers(init: object) -> RawHeaders:
    """Raw pairs of what a script gave as headers.

    TypeError for an unknown form, an invalid name, and a value with line breaks or NUL in it.
    """
    if isinstance(init, Headers):
        return list(init.raw)
    pairs: Iterable[Any]
    if isinstance(init, (list, tuple)):
        pairs = init
    elif not isinstance(init, (str, bytes)) and hasattr(init, "items"):
        pairs = init.items()
    else:
        raise TypeError(
            f"Received unexpected type for headers argument: {type(init).__name__}; "
            "give a dict, a list of (name, value) tuples, or Headers"
        )
    raw: RawHeaders = []
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise TypeError(f"headers given as a list must hold (name, value) tuples, found {pair!r}")
        name, value = pair
        raw.append((encode_name(name), encode_value(name, value)))
    return raw


@lru_cache(maxsize=512)
def encode_name(name: str) -> bytes:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise TypeError(f"Invalid header name: {name!r}")
    return name.lower().encode("ascii")


def encode_value(name: str, value: object) -> bytes:
    """Booleans become "true" and "false", other values their `str`; blanks around the value are dropped."""
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if value is None:
        raise TypeError(f"Invalid header value for {name!r}: None")
    text = (value if isinstance(value, str) else str(value)).strip(" \t\r\n")
    if _FORBIDDEN_IN_VALUE.search(text):
        raise TypeError(f"Invalid header value for {name!r}: line breaks and NUL are not allowed in it, found {text!r}")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def checked_headers(pairs: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """Raw pairs of what an app gave as headers in bytes. TypeError as from `encode_headers`."""
    return [(_checked_name(bytes(name)), _checked_value(name, bytes(value))) for name, value in pairs]


@lru_cache(maxsize=512)
def _checked_name(name: bytes) -> bytes:
    return encode_name(name.decode("latin-1"))


def _checked_value(name: bytes, value: bytes) -> bytes:
    value = value.strip(b" \t\r\n")
    if _FORBIDDEN_IN_BYTES.search(value):
        return encode_value(bytes(name).decode("latin-1"), value.decode("latin-1"))  # which says what is wrong
    return value


def decode_value(value: bytes) -> str:
    return value.decode("latin-1")


def header(raw: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The combined value of the header with this lower-case name; None if absent."""
    found: bytes | None = None
    for key, value in raw:
        if key == name:
            found = value if found is None else found + b", " + value
    return None if found is None else found.decode("latin-1")


def combined(raw: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Pairs of text in order of first appearance: duplicates joined with ", ", except Set-Cookie."""
    raw = list(raw)
    if len(dict(raw)) == len(raw):
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]
    values: dict[bytes, bytes] = {}
    cookies: list[tuple[str, str]] = []
    for name, value in raw:
        if name == b"set-cookie":
            cookies.append(("set-cookie", value.decode("latin-1")))
        elif name in values:
            values[name] += b", " + value
        else:
            values[name] = value
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in values.items()]
    return pairs + cookies if cookies else pairs


def to_message(raw: Iterable[tuple[bytes, bytes]]) -> HTTPMessage:
    """A new HTTPMessage of the headers; changing it changes nothing else, as on Cloudflare."""
    from http.client import HTTPMessage

    message = HTTPMessage()
    for name, value in combined(raw):
        message.set_raw(name, value)
    return message
