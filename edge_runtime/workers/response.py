"""Response: an HTTP response, made by the script or received by `fetch`; and its view `js.Response`."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from edge_runtime.event import require_event
from edge_runtime.workers.body import TEXT, BodyReader, BodyView, Payload, extract
from edge_runtime.workers.formdata import FormData
from edge_runtime.workers.headers import Headers, HeadersInit, RawHeaders, encode_headers, header, to_message
from edge_runtime.workers.js_json import stringify
from edge_runtime.workers.outgoing_response import OutgoingResponse
from edge_runtime.workers.status import REASONS, REDIRECT_STATUSES, HttpStatusError, allowed, checked_status
from edge_runtime.workers.streams import ReadableStream
from edge_runtime.workers.url import normalize_url

if TYPE_CHECKING:
    from http.client import HTTPMessage

_Memoryview = memoryview

_JSON_CONTENT_TYPE = (b"content-type", b"application/json")
_TEXT_CONTENT_TYPE = (b"content-type", TEXT)


class FetchResponse(BodyReader):
    """What every response offers. Its headers are a fresh HTTPMessage at each access."""

    __slots__ = ("_raw_headers", "_status_text", "redirected", "status", "url", "web_socket")

    status: int
    url: str
    """Where the response came from, after redirects; "" for one that the script made."""
    redirected: bool
    web_socket: Any
    _raw_headers: RawHeaders
    _status_text: str

    @property
    def status_text(self) -> str:
        return self._status_text or REASONS.get(self.status, "")

    @property
    def ok(self) -> bool:
        return 200 <= self.status <= 299

    @property
    def type(self) -> str:
        return "default"

    @property
    def headers(self) -> HTTPMessage:
        return to_message(self._raw_headers)

    @property
    def js_object(self) -> JsResponse:
        """The response with JavaScript's member names, sharing everything."""
        return JsResponse.view(self)

    js_response = js_object

    async def formData(self) -> FormData:
        return await self.form_data()

    async def string(self) -> str:
        return await self.text()

    async def memoryview(self) -> _Memoryview:
        return _Memoryview(await self._payload.read())

    async def unpack_archive(self, *, extract_dir: str | None = None, format: str | None = None) -> None:
        """Unpack the body as an archive (zip, tar, gztar, bztar, xztar), by default into the working directory.

        Args:
            format: None: taken from the URL's suffix, then from the content type.
        """
        from edge_runtime.workers.archive import unpack

        content_type = self._content_type()
        unpack(await self._payload.read(), self.url, content_type, extract_dir, format)

    def clone(self) -> Response:
        """A second response whose body can be read too. OSError if the body was read."""
        copy = Response._of(self.status, list(self._raw_headers), self._payload.clone(), self._status_text)
        copy.url, copy.redirected, copy.web_socket = self.url, self.redirected, self.web_socket
        return copy

    def replace_body(self, body: object) -> Response:
        """A response with the same status and headers and another body."""
        payload, content_type = extract(body, "Response")
        raw = list(self._raw_headers)
        if content_type is not None and header(raw, b"content-type") is None:
            raw.append((b"content-type", content_type))
        return Response._of(self.status, raw, allowed(payload, self.status), self._status_text)

    def raise_for_status(self) -> None:
        if 400 <= self.status < 600:
            raise HttpStatusError(self.status, self.status_text, self.url)

    def abort(self, reason: object = None) -> None:
        """Give up the rest of the body; reading it afterwards fails."""
        stream = self._payload.opened()
        self._payload.used = True
        if stream is not None and not stream.locked:
            require_event("Response.abort()").spawn(stream.discard, reason)

    @staticmethod
    def redirect(url: str, status: HTTPStatus | int = HTTPStatus.FOUND) -> Response:
        """A redirect. ValueError for a status that is none, TypeError for an unusable URL."""
        code = int(status)
        if code not in REDIRECT_STATUSES:
            raise ValueError(f"{code} is not a redirect status code.")
        return Response._of(code, [(b"location", normalize_url(str(url)).encode("latin-1"))], Payload(None))

    @staticmethod
    def from_json(
        data: Any, status: HTTPStatus | int = HTTPStatus.OK, status_text: str = "", headers: HeadersInit | None = None
    ) -> Response:
        """A response of `data` as JSON, `application/json` unless the headers name a content type.

        TypeError for what `json.dumps` cannot write.
        """
        payload = Payload(jsonlib.dumps(data).encode())
        raw = encode_headers(headers) if headers else []
        if header(raw, b"content-type") is None:
            raw.append(_JSON_CONTENT_TYPE)
        code = checked_status(status, None)
        return Response._of(code, raw, allowed(payload, code), status_text)

    def json(self: Any, *args: Any, **options: Any) -> Any:
        """On a response: its body, decoded (a coroutine). On the class: `from_json`."""
        if isinstance(self, FetchResponse):
            return BodyReader.json(self, **options)
        return FetchResponse.from_json(self, *args, **options)

    def _content_type(self) -> str:
        return header(self._raw_headers, b"content-type") or ""

    def _outgoing(self) -> OutgoingResponse:
        """The response for sending; its body counts as used afterwards. TypeError if it was read before."""
        payload = self._payload
        body: bytes | ReadableStream | None
        if payload.used or payload.stream is not None:
            try:
                body = payload.take()
            except OSError:
                raise TypeError(
                    "Body has already been used. It can only be used once. "
                    "Use clone() first if you need to read it twice."
                ) from None
        else:
            body = payload.data
            payload.used = body is not None
        return OutgoingResponse(self.status, self._raw_headers, b"" if body is None else body, self.web_socket)

    def __repr__(self) -> str:
        parts = [f"status={self.status}"]
        if self.status_text:
            parts.append(f"status_text={self.status_text!r}")
        if content_type := self._content_type():
            parts.append(f"content_type={content_type!r}")
        if self.url:
            parts.append(f"url={self.url!r}")
        return f"Response({', '.join(parts)})"


class Response(FetchResponse):
    """The response to an HTTP request."""

    __slots__ = ()

    def __init__(
        self,
        body: Any = None,
        status: HTTPStatus | int | None = None,
        status_text: str = "",
        headers: HeadersInit | None = None,
        web_socket: Any = None,
    ) -> None:
        """Make a response.

        Args:
            body: None, text, bytes and other binary values, FormData, Blob, URLSearchParams, ReadableStream, or (ours)
                an async iterable of bytes and text. Or a `js.Response`, without other arguments.
            status: 200 to 599; 101 with a web socket. None: 200.
            headers: a dict, a list of (name, value) tuples, or Headers.
        Raises:
            TypeError: unsupported body, a body where the status allows none, bad headers.
            ValueError: bad status; arguments beside a `js.Response`.
        """
        if type(body) is str and status is None and headers is None and web_socket is None:
            self.status = 200
            self._status_text = status_text
            self._raw_headers = [_TEXT_CONTENT_TYPE]
            self._payload = Payload(body.encode("utf-8", "surrogatepass"))
            self.url = ""
            self.redirected = False
            self.web_socket = None
            return
        if isinstance(body, (FetchResponse, JsResponse)):
            self._share(body, status, status_text, headers)
            return
        payload, content_type = extract(body, "Response")
        code = checked_status(status, web_socket)
        raw = encode_headers(headers) if headers else []
        if content_type is not None and header(raw, b"content-type") is None:
            raw.append((b"content-type", content_type))
        self.status = code
        self._status_text = status_text
        self._raw_headers = raw
        self._payload = allowed(payload, code)
        self.url = ""
        self.redirected = False
        self.web_socket = web_socket

    @classmethod
    def _of(cls, status: int, raw: RawHeaders, payload: Payload, status_text: str = "") -> Response:
        """A response from checked parts."""
        response = cls.__new__(cls)
        response.status = status
        response._status_text = status_text
        response._raw_headers = raw
        response._payload = payload
        response.url = ""
        response.redirected = False
        response.web_socket = None
        return response

    def _share(self, source: Any, status: object, status_text: str, headers: object) -> None:
        if isinstance(source, FetchResponse):
            raise TypeError(f"Unsupported type in Response: {type(source).__name__}")
        if status is not None or status_text or headers is not None:
            raise ValueError("Expected no options when constructing Response from a js.Response")
        other: FetchResponse = source.response
        self.status = other.status
        self._status_text = other._status_text
        self._raw_headers = other._raw_headers
        self._payload = other._payload
        self.url = other.url
        self.redirected = other.redirected
        self.web_socket = other.web_socket


class JsResponse(BodyView):
    """`js.Response`: a response with JavaScript's member names. It shares everything with the one that it shows."""

    __slots__ = ("response",)
    js_name = "Response"

    def __init__(self, body: Any = None, options: Mapping[str, Any] | FetchResponse | JsResponse | None = None) -> None:
        """As `new Response(body, {status, statusText, headers, webSocket})`; `options` may be another response."""
        if isinstance(options, JsResponse):
            options = options.response
        if isinstance(options, FetchResponse):
            self.response: FetchResponse = options.replace_body(body)
            return
        given = options or {}
        self.response = Response(
            body,
            status=given.get("status"),
            status_text=given.get("statusText", ""),
            headers=given.get("headers"),
            web_socket=given.get("webSocket"),
        )

    @classmethod
    def view(cls, response: FetchResponse) -> JsResponse:
        view = cls.__new__(cls)
        view.response = response
        return view

    @classmethod
    def redirect(cls, url: object, status: int = 302) -> JsResponse:
        return cls.view(Response.redirect(str(url), status))

    def json(self: Any, *args: Any, **options: Any) -> Any:
        """On an object: its body, decoded (a coroutine). On the class: a response of JSON text."""
        if isinstance(self, JsResponse):
            return self.response.json()
        given = {**args[0], **options} if args else options
        made = JsResponse(stringify(self), given)
        if "content-type" not in Headers(given.get("headers") or {}):
            made.headers.set("content-type", "application/json")
        return made

    def _viewed(self) -> FetchResponse:
        return self.response

    def _to_wire(self) -> FetchResponse:
        return self.response

    def _from_wire(self) -> Response:
        return Response(self)

    @property
    def headers(self) -> Headers:
        return Headers.of(self.response._raw_headers)

    @property
    def url(self) -> str:
        return self.response.url

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def statusText(self) -> str:
        return self.response.status_text

    @property
    def ok(self) -> bool:
        return self.response.ok

    @property
    def redirected(self) -> bool:
        return self.response.redirected

    @property
    def type(self) -> str:
        return self.response.type

    @property
    def webSocket(self) -> Any:
        return self.response.web_socket

    def clone(self) -> JsResponse:
        return JsResponse.view(self.response.clone())

    def __repr__(self) -> str:
        return f"<js {self.response!r}>"
