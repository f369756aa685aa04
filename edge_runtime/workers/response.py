"""Response: an HTTP response, made by the script or received by `fetch`."""

from __future__ import annotations

import json as jsonlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from edge_runtime.workers.body import TEXT, BodyReader, Payload, extract
from edge_runtime.workers.headers import HeadersInit, RawHeaders, encode_headers, header, to_message
from edge_runtime.workers.url import normalize_url

if TYPE_CHECKING:
    from http.client import HTTPMessage

    from edge_runtime.workers.formdata import FormData
    from edge_runtime.workers.js_views import JsResponse
    from edge_runtime.workers.streams import ReadableStream

_Memoryview = memoryview

NULL_BODY_STATUSES = frozenset({101, 103, 204, 205, 304})
_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
_REASONS = {int(status): status.phrase for status in HTTPStatus}
_JSON_CONTENT_TYPE = (b"content-type", b"application/json")
_TEXT_CONTENT_TYPE = (b"content-type", TEXT)


class HttpStatusError(OSError):
    """Raised by `raise_for_status`; known to scripts as `pyodide.http.HttpStatusError`."""

    def __init__(self, status: int, status_text: str, url: str) -> None:
        self.status = status
        self.status_text = status_text
        self.url = url
        kind = "Client" if status < 500 else "Server"
        super().__init__(f"{status} {kind} Error: {status_text} for url: {url}")


class OutgoingResponse(NamedTuple):
    """A response on its way out, for whoever writes it to a connection."""

    status: int
    headers: RawHeaders
    """Lower-case names. A content-length is the script's own; it may be wrong where the body is bytes."""
    body: bytes | ReadableStream
    """Bytes, b"" for none; or a stream, to be sent with its `write_to`."""
    web_socket: Any
    """The client end of a WebSocketPair of a 101 response; else None."""

    @property
    def headers_with_length(self) -> RawHeaders:
        """The headers as a client gets them, where the body is bytes: its true length among them."""
        if not isinstance(self.body, bytes) or self.status in NULL_BODY_STATUSES:
            return self.headers
        others = [pair for pair in self.headers if pair[0] != b"content-length"]
        return [*others, (b"content-length", b"%d" % len(self.body))]


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
        return self._status_text or _REASONS.get(self.status, "")

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
        from edge_runtime.workers.js_views import JsResponse

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
        return Response._of(self.status, raw, _allowed(payload, self.status), self._status_text)

    def raise_for_status(self) -> None:
        if 400 <= self.status < 600:
            raise HttpStatusError(self.status, self.status_text, self.url)

    def abort(self, reason: object = None) -> None:
        """Give up the rest of the body; reading it afterwards fails."""
        from edge_runtime.event import require_event

        stream = self._payload.opened()
        self._payload.used = True
        if stream is not None and not stream.locked:
            require_event("Response.abort()").spawn(stream.discard, reason)

    @staticmethod
    def redirect(url: str, status: HTTPStatus | int = HTTPStatus.FOUND) -> Response:
        """A redirect. ValueError for a status that is none, TypeError for an unusable URL."""
        code = int(status)
        if code not in _REDIRECT_STATUSES:
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
        code = _checked_status(status, None)
        return Response._of(code, raw, _allowed(payload, code), status_text)

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
        if isinstance(body, FetchResponse) or _is_js_response(body):
            self._share(body, status, status_text, headers)
            return
        payload, content_type = extract(body, "Response")
        code = _checked_status(status, web_socket)
        raw = encode_headers(headers) if headers else []
        if content_type is not None and header(raw, b"content-type") is None:
            raw.append((b"content-type", content_type))
        self.status = code
        self._status_text = status_text
        self._raw_headers = raw
        self._payload = _allowed(payload, code)
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


def _is_js_response(body: object) -> bool:
    if body is None or isinstance(body, (str, bytes)):
        return False
    from edge_runtime.workers.js_views import JsResponse

    return isinstance(body, JsResponse)


def _web_socket_class() -> type:
    from edge_runtime.workers.websocket import WebSocket

    return WebSocket


def _checked_status(status: HTTPStatus | int | None, web_socket: object) -> int:
    if web_socket is not None and not isinstance(web_socket, _web_socket_class()):
        raise TypeError(f"web_socket is an end of a WebSocketPair, not {type(web_socket).__name__}")
    if not status and web_socket is None:
        return 200
    if status is None:
        status = 200
    if isinstance(status, bool) or not isinstance(status, int):
        raise TypeError(f"the status of a response is an int or an http.HTTPStatus, not {type(status).__name__}")
    code = int(status)
    if web_socket is not None:
        if code != 101:
            raise ValueError("Responses with a WebSocket must have status code 101.")
    elif not 200 <= code <= 599:
        raise ValueError("Responses may only be constructed with status codes in the range 200 to 599, inclusive.")
    return code


def _allowed(payload: Payload, status: int) -> Payload:
    if status not in NULL_BODY_STATUSES or payload.absent:
        return payload
    if payload.data == b"":
        return Payload(None)
    raise TypeError("Response with null body status (101, 204, 205, or 304) cannot have a body.")
