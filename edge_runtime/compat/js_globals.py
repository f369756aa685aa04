"""Global functions and objects of JavaScript: console, timers, crypto, text encoding."""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote

import trio

from edge_runtime.event import EventContext, require_event
from edge_runtime.promise import OwnedPromise, Promise
from edge_runtime.workers import outgoing
from edge_runtime.workers.buffers import ArrayBuffer, JsBytes, TypedArray, as_bytes
from edge_runtime.workers.conversion import from_wire, to_wire
from edge_runtime.workers.js_object import JsException, JsObject
from edge_runtime.workers.response import JsResponse, Response

_COMPONENT_SAFE = "-_.!~*'()"
_URI_SAFE = _COMPONENT_SAFE + ";/?:@&=+$,#"
_RANDOM_MAX = 65_536


class Console(JsObject):
    """Prints: `log`, `info` and `debug` to standard output, `warn` and `error` to standard error."""

    __slots__ = ()

    def log(self, *values: object) -> None:
        print(*values)

    info = debug = trace = log

    def warn(self, *values: object) -> None:
        print(*values, file=sys.stderr)

    error = warn


class Crypto(JsObject):
    """`crypto`: random values, and digests under `subtle`."""

    __slots__ = ()

    def randomUUID(self) -> str:
        return str(uuid.UUID(bytes=os.urandom(16), version=4))

    def getRandomValues(self, array: TypedArray) -> TypedArray:
        """Fill the typed array and return it; at most 65 536 bytes."""
        if array.byteLength > _RANDOM_MAX:
            raise JsException(
                f"getRandomValues() only accepts buffers of size <= 64K but provided {array.byteLength} bytes.",
                "QuotaExceededError",
            )
        array.assign(os.urandom(array.byteLength))
        return array

    @property
    def subtle(self) -> SubtleCrypto:
        return SubtleCrypto()


class SubtleCrypto(JsObject):
    __slots__ = ()

    def digest(self, algorithm: str | Mapping[str, str], data: object) -> Promise[ArrayBuffer]:
        """SHA-1, SHA-256, SHA-384, SHA-512 or MD5 of binary data."""
        name = algorithm if isinstance(algorithm, str) else algorithm["name"]
        raw = as_bytes(data)
        if raw is None:
            return Promise.rejected(TypeError(f"digest() takes binary data, not {type(data).__name__}"))
        if name.upper() not in ("SHA-1", "SHA-256", "SHA-384", "SHA-512", "MD5"):
            return Promise.rejected(JsException(f"Unrecognized or unimplemented digest: {name}", "NotSupportedError"))
        return Promise.resolved(ArrayBuffer(hashlib.new(name.replace("-", ""), raw).digest()))


class Performance(JsObject):
    __slots__ = ("timeOrigin",)

    def __init__(self) -> None:
        self.timeOrigin = time.time() * 1000

    def now(self) -> float:
        """Milliseconds since the script was loaded."""
        return time.time() * 1000 - self.timeOrigin


class TextEncoder(JsObject):
    __slots__ = ()
    encoding = "utf-8"

    def encode(self, text: str = "") -> JsBytes:
        return JsBytes(text.encode())


class TextDecoder(JsObject):
    __slots__ = ("encoding",)

    def __init__(self, encoding: str = "utf-8", _options: object = None) -> None:
        self.encoding = encoding

    def decode(self, data: Any = b"") -> str:
        raw = as_bytes(data)
        if raw is None:
            raise TypeError(f"decode() takes binary data, not {type(data).__name__}")
        return raw.decode(self.encoding, "replace")


class Timers:
    """setTimeout and its like. A timer belongs to the event that set it and ends with it."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._running: dict[int, trio.CancelScope] = {}

    def set_timeout(self, callback: Callable[..., Any], ms: float = 0, *args: object) -> int:
        return self._start("setTimeout()", callback, ms, args, repeat=False)

    def set_interval(self, callback: Callable[..., Any], ms: float = 0, *args: object) -> int:
        return self._start("setInterval()", callback, ms, args, repeat=True)

    def clear(self, number: int | None = None) -> None:
        scope = self._running.pop(number or 0, None)
        if scope is not None:
            scope.cancel()

    def _start(
        self, what: str, callback: Callable[..., Any], ms: float, args: tuple[object, ...], *, repeat: bool
    ) -> int:
        event = require_event(what)
        number = next(self._ids)
        self._running[number] = trio.CancelScope()
        event.spawn(self._run, event, number, callback, ms, args, repeat)
        return number

    async def _run(
        self,
        event: EventContext,
        number: int,
        callback: Callable[..., Any],
        ms: float,
        args: tuple[object, ...],
        repeat: bool,
    ) -> None:
        try:
            with self._running[number]:
                await trio.sleep(max(ms, 0) / 1000)
                await event.run(callback, *args)
                while repeat:
                    await trio.sleep(max(ms, 1) / 1000)
                    await event.run(callback, *args)
        except Exception as error:
            print(f"error in a timer's callback: {error!r}", file=sys.stderr)
        finally:
            self._running.pop(number, None)


def queue_microtask(callback: Callable[[], Any]) -> None:
    """Call back soon, as part of the current event."""
    event = require_event("queueMicrotask()")
    event.spawn(event.run, callback)


def fetch(resource: Any, options: Mapping[str, Any] | None = None, **more: Any) -> Promise[JsResponse]:
    """JavaScript's fetch: as `workers.fetch`, with the options in an object, resolving with a `js.Response`."""
    sent = outgoing.fetch(resource, **{**(options or {}), **more})
    view: Promise[JsResponse] = OwnedPromise(sent.owned_by)

    def settled(promise: Promise[Response]) -> None:
        if promise.error is not None:
            view.reject(promise.error)
        else:
            view.resolve(JsResponse.view(promise.result()))

    sent.add_done_callback(settled)
    return view


def structured_clone(value: Any) -> Any:
    """A deep copy, of what RPC could carry."""
    return from_wire(to_wire(value))


def atob(text: str) -> str:
    """Base64 to text of one character a byte."""
    try:
        return base64.b64decode(text.strip() + "=" * (-len(text.strip()) % 4), validate=True).decode("latin-1")
    except ValueError:
        raise JsException("atob() called with invalid base64-encoded data.", "InvalidCharacterError") from None


def btoa(text: object) -> str:
    """Text of characters up to U+00FF, or binary data, to base64."""
    raw = as_bytes(text)
    if raw is None:
        try:
            raw = str(text).encode("latin-1")
        except UnicodeEncodeError:
            raise JsException(
                "btoa() can only operate on characters in the Latin1 (ISO/IEC 8859-1) range.", "InvalidCharacterError"
            ) from None
    return base64.b64encode(raw).decode("ascii")


def encode_uri_component(text: object) -> str:
    return quote(str(text), safe=_COMPONENT_SAFE)


def encode_uri(text: object) -> str:
    return quote(str(text), safe=_URI_SAFE)


def decode_uri_component(text: object) -> str:
    return unquote(str(text))
