"""Bodies of requests and responses: what they are made from, reading them once, cloning.

A `Payload` is shared by all views of one request or response. It holds whole bytes, or a stream, or (for an incoming
request) the function that receives the rest, from which a stream is made only if a script asks for one.
"""

from __future__ import annotations

import json as jsonlib
from collections.abc import AsyncIterable
from io import BytesIO
from typing import Any

from edge_runtime.workers.blob import Blob
from edge_runtime.workers.buffers import ArrayBuffer, as_bytes
from edge_runtime.workers.formdata import FormData
from edge_runtime.workers.js_object import JsObject, on_trio
from edge_runtime.workers.multipart import decode_form, encode_multipart
from edge_runtime.workers.streams import DISTURBED, LOCKED, ReadableStream, Receive
from edge_runtime.workers.url import URLSearchParams

_Bytes = bytes

TEXT = b"text/plain;charset=UTF-8"
USED = "Body already used"


class Payload:
    """One body. `data`, `stream` and `receive` all None: there is none."""

    __slots__ = ("data", "receive", "stream", "used")

    def __init__(
        self, data: bytes | None, stream: ReadableStream | None = None, receive: Receive | None = None
    ) -> None:
        self.data = data
        self.stream = stream
        self.receive = receive
        self.used = False

    @property
    def absent(self) -> bool:
        return self.data is None and self.stream is None and self.receive is None

    @property
    def body_used(self) -> bool:
        return self.used or (self.stream is not None and self.stream.disturbed)

    def opened(self) -> ReadableStream | None:
        """The body as a stream; the same one at each call."""
        if self.stream is None and not self.absent:
            if self.receive is not None:
                self.stream, self.receive = ReadableStream.of_receive(self.receive), None
            else:
                self.stream, self.data = ReadableStream.of_bytes(self.data or b""), None
            if self.used:
                self.stream.disturbed = True
        return self.stream

    async def read(self) -> bytes:
        """Every byte. OSError if the body was read before."""
        self.claim()
        if self.data is not None:
            return self.data
        if self.receive is not None:
            data: bytes = await on_trio(_receive_all, self.receive)
            return data
        if self.stream is not None:
            return await self.stream.read_all()
        return b""

    def claim(self) -> None:
        """Mark the body as read, once: it is the caller's now."""
        if self.used:
            raise OSError(USED)
        stream = self.stream
        if stream is not None:
            if stream.disturbed:
                raise OSError(USED)
            if stream.locked:
                raise TypeError(LOCKED)
        self.used = not self.absent

    def take(self) -> bytes | ReadableStream | None:
        """The body for whoever sends it; afterwards it counts as used."""
        self.claim()
        if self.data is not None:
            return self.data
        return self.opened() if self.receive is not None else self.stream

    def clone(self) -> Payload:
        """A second body with the same bytes; a stream is forked."""
        if self.body_used:
            raise OSError(USED)
        if self.absent:
            return Payload(None)
        if self.data is not None:
            return Payload(self.data)
        stream = self.opened()
        assert stream is not None
        self.stream, second = stream.tee()
        return Payload(None, second)


async def _receive_all(receive: Receive) -> bytes:
    first = await receive()
    if first is None or (second := await receive()) is None:
        return first or b""
    # Pieces that are let go at once leave their memory to the next; joining a list of them touches all of it anew.
    joined = BytesIO()
    joined.write(first)
    joined.write(second)
    del first, second
    while (piece := await receive()) is not None:
        joined.write(piece)
    return joined.getvalue()


def extract(body: object, owner: str) -> tuple[Payload, bytes | None]:
    """The payload of what a script gave as a body, and the content type that goes with it.

    `owner` is named in the TypeError for an unknown type. Streams already read or locked are refused.
    """
    if type(body) is str:
        return Payload(body.encode("utf-8", "surrogatepass")), TEXT
    if body is None:
        return Payload(None), None
    if isinstance(body, str):
        return Payload(str(body).encode("utf-8", "surrogatepass")), TEXT
    data = as_bytes(body)
    if data is not None:
        return Payload(bytes(data)), None
    if isinstance(body, ReadableStream):
        if body.disturbed:
            raise TypeError(DISTURBED)
        if body.locked:
            raise TypeError(LOCKED)
        return Payload(None, body), None
    if isinstance(body, Blob):
        return Payload(body.data), body.content_type.encode("latin-1", "replace") or None
    if isinstance(body, FormData):
        encoded, content_type = encode_multipart(body.entry_list())
        return Payload(encoded), content_type.encode()
    if isinstance(body, URLSearchParams):
        return Payload(body.toString().encode()), b"application/x-www-form-urlencoded;charset=UTF-8"
    if isinstance(body, AsyncIterable):
        return Payload(None, ReadableStream(body)), None
    raise TypeError(f"Unsupported type in {owner}: {type(body).__name__}")


def decode_text(data: bytes) -> str:
    """UTF-8 as the Fetch standard decodes it: a leading byte order mark dropped, bad bytes replaced."""
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")


class BodyReader:
    """The reading methods that Request and Response share. Each may be used once per body."""

    __slots__ = ("_payload",)

    _payload: Payload

    @property
    def body(self) -> ReadableStream | None:
        """The body as a stream; None if there is none."""
        return self._payload.opened()

    @property
    def body_used(self) -> bool:
        return self._payload.body_used

    def _content_type(self) -> str:
        raise AssertionError("given by Request and Response")

    async def text(self) -> str:
        return decode_text(await self._payload.read())

    async def json(self, **options: Any) -> Any:
        """The decoded body; `options` go to `json.loads`."""
        return jsonlib.loads(decode_text(await self._payload.read()), **options)

    async def bytes(self) -> _Bytes:
        return await self._payload.read()

    async def buffer(self) -> ArrayBuffer:
        return ArrayBuffer(await self._payload.read())

    async def blob(self) -> Blob:
        return Blob([await self._payload.read()], content_type=self._content_type())

    async def form_data(self) -> FormData:
        """The fields of a multipart or urlencoded body; TypeError for other content types and broken bodies."""
        content_type = self._content_type()
        return FormData.of_entries(decode_form(await self._payload.read(), content_type))


class BodyView(JsObject):
    """What the views of Request and Response by JavaScript's member names share."""

    __slots__ = ()

    def _viewed(self) -> BodyReader:
        raise AssertionError("given by the views")

    @property
    def body(self) -> ReadableStream | None:
        return self._viewed().body

    @property
    def bodyUsed(self) -> bool:
        return self._viewed().body_used

    async def text(self) -> str:
        return await self._viewed().text()

    async def json(self) -> Any:
        return await self._viewed().json()

    async def arrayBuffer(self) -> ArrayBuffer:
        return await self._viewed().buffer()

    async def bytes(self) -> _Bytes:
        return await self._viewed().bytes()

    async def blob(self) -> Blob:
        return await self._viewed().blob()

    async def formData(self) -> FormData:
        return await self._viewed().form_data()
