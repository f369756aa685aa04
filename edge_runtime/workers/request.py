"""Request: an HTTP request, received by the isolate or made by the script; and its view `js.Request`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPMethod
from typing import TYPE_CHECKING, Any

from edge_runtime.workers.body import BodyReader, BodyView, Payload, extract
from edge_runtime.workers.headers import Headers, RawHeaders, encode_headers, header, to_message
from edge_runtime.workers.js_values import JsDict
from edge_runtime.workers.streams import Receive
from edge_runtime.workers.url import normalize_url

if TYPE_CHECKING:
    from http.client import HTTPMessage

_OPTIONS = frozenset(
    {
        "body", "cache", "cf", "credentials", "duplex", "fetcher", "headers", "integrity", "keepalive", "method",
        "mode", "redirect", "referrer", "referrerPolicy", "signal",
    }
)  # fmt: skip
_REDIRECTS = ("follow", "manual", "error")
_UPPERCASED = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH"})


class Request(BodyReader):
    """An HTTP request. Its headers are a fresh HTTPMessage at each access: changing that changes nothing else."""

    __slots__ = ("_cf", "_method", "_raw_headers", "_redirect", "signal", "url")

    url: str
    signal: Any
    _cf: Any
    _method: str
    _raw_headers: RawHeaders
    _redirect: str

    def __init__(self, input: Request | JsRequest | str, **options: Any) -> None:
        """Make a request from a URL, or a changed copy of another one, whose body is then used.

        Args:
            options: method, headers, body, redirect ("follow", "manual", "error"), cf, signal; the others that the
                Fetch standard knows are accepted and have no effect on a server.
        Raises:
            TypeError: the URL, a header, the method or the body cannot be used, or an option is unknown.
            ValueError: options with a `js.Request`.
        """
        if isinstance(input, JsRequest):
            if options:
                raise ValueError("Expected no options when constructing Request from a js.Request")
            self._share(input.request)
            return
        if unknown := options.keys() - _OPTIONS:
            raise TypeError(f"Request() got unknown options: {', '.join(sorted(unknown))}")
        body = options.get("body")
        if isinstance(input, Request):
            self.url = input.url
            self._method = input._method
            self._raw_headers = list(input._raw_headers)
            self._redirect = input._redirect
            self._cf = input._cf
            self.signal = input.signal
            self._payload = Payload(None) if body is not None else _moved(input._payload)
        else:
            self.url = normalize_url(str(input))
            self._method = "GET"
            self._raw_headers = []
            self._redirect = "follow"
            self._cf = None
            self.signal = None
            self._payload = Payload(None)
        if (method := options.get("method")) is not None:
            self._method = _checked_method(method)
        if (headers := options.get("headers")) is not None:
            self._raw_headers = encode_headers(headers)
        if body is not None:
            self._payload, content_type = extract(body, "Request")
            if content_type is not None and header(self._raw_headers, b"content-type") is None:
                self._raw_headers.append((b"content-type", content_type))
        if self._method in ("GET", "HEAD") and not self._payload.absent:
            raise TypeError("Request with a GET or HEAD method cannot have a body.")
        if (redirect := options.get("redirect")) is not None:
            if redirect not in _REDIRECTS:
                raise TypeError(f"Invalid redirect value, must be one of {', '.join(_REDIRECTS)}, found {redirect!r}")
            self._redirect = redirect
        if (cf := options.get("cf")) is not None:
            self._cf = JsDict(cf)
        if (signal := options.get("signal")) is not None:
            self.signal = signal

    @classmethod
    def _incoming(
        cls, method: str, url: str, raw_headers: Sequence[tuple[bytes, bytes]], receive: Receive | None
    ) -> Request:
        """A request as the isolate got it; nothing is parsed or copied before a script asks.

        Args:
            url: absolute and already normalised.
            raw_headers: lower-case names, as ASGI has them; kept, not changed.
            receive: gives the pieces of the body and None at its end; None: the request has no body.
        """
        request = cls.__new__(cls)
        request._method = method
        request.url = url
        request._raw_headers = raw_headers  # type: ignore[assignment]
        request._redirect = "manual"
        request._cf = None
        request.signal = None
        request._payload = Payload(None, None, receive)
        return request

    def _share(self, other: Request) -> None:
        self._method = other._method
        self.url = other.url
        self._raw_headers = other._raw_headers
        self._redirect = other._redirect
        self._cf = other._cf
        self.signal = other.signal
        self._payload = other._payload

    @property
    def method(self) -> HTTPMethod:
        """KeyError for a method that Python's HTTPMethod does not know."""
        return HTTPMethod[self._method]

    @property
    def headers(self) -> HTTPMessage:
        return to_message(self._raw_headers)

    @property
    def cf(self) -> Any:
        """What was given as `cf`, with attribute access; None for requests from outside."""
        return self._cf

    @property
    def redirect(self) -> str:
        return self._redirect

    @property
    def cache(self) -> str:
        return "default"

    @property
    def credentials(self) -> str:
        return "same-origin"

    @property
    def destination(self) -> str:
        return ""

    @property
    def integrity(self) -> str:
        return ""

    @property
    def is_history_navigation(self) -> bool:
        return False

    @property
    def keepalive(self) -> bool:
        return False

    @property
    def mode(self) -> str:
        return "cors"

    @property
    def referrer(self) -> str:
        return "about:client"

    @property
    def referrer_policy(self) -> str:
        return ""

    @property
    def js_object(self) -> JsRequest:
        """The request with JavaScript's member names, sharing everything."""
        return JsRequest.view(self)

    _js_request = js_object

    def clone(self) -> Request:
        """A second request whose body can be read too. OSError if the body was read."""
        copy = Request.__new__(Request)
        copy._share(self)
        copy._raw_headers = list(self._raw_headers)
        copy._payload = self._payload.clone()
        return copy

    def _content_type(self) -> str:
        return header(self._raw_headers, b"content-type") or ""

    def __repr__(self) -> str:
        return f"Request(method={self._method!r}, url={self.url!r})"


class JsRequest(BodyView):
    """`js.Request`: a request with JavaScript's member names. It shares everything with the Request that it shows."""

    __slots__ = ("request",)

    request: Request
    js_name = "Request"

    def __init__(self, input: Any, options: Mapping[str, Any] | None = None) -> None:
        if isinstance(input, JsRequest):
            input = input.request
        self.request = Request(input, **(options or {}))

    @classmethod
    def view(cls, request: Request) -> JsRequest:
        view = cls.__new__(cls)
        view.request = request
        return view

    def _viewed(self) -> Request:
        return self.request

    def _to_wire(self) -> Request:
        return self.request

    _from_wire = _to_wire

    @property
    def headers(self) -> Headers:
        return Headers.of(self.request._raw_headers)

    @property
    def url(self) -> str:
        return self.request.url

    @property
    def method(self) -> str:
        return self.request._method

    @property
    def redirect(self) -> str:
        return self.request.redirect

    @property
    def cf(self) -> Any:
        return self.request.cf

    @property
    def signal(self) -> Any:
        return self.request.signal

    def clone(self) -> JsRequest:
        return JsRequest.view(self.request.clone())

    def __repr__(self) -> str:
        return f"<js {self.request!r}>"


def _moved(payload: Payload) -> Payload:
    """The body, handed to a new request: the old one counts as used."""
    if payload.absent:
        return Payload(None)
    body = payload.take()
    return Payload(body) if isinstance(body, bytes) else Payload(None, body)


def _checked_method(method: object) -> str:
    text = method.value if isinstance(method, HTTPMethod) else method
    if not isinstance(text, str) or not text.isascii() or not text.replace("-", "").isalpha():
        raise TypeError(f"Invalid HTTP method string: {method}")
    upper = text.upper()
    if upper in ("TRACE", "TRACK", "CONNECT"):
        raise TypeError(f"HTTP method {upper} is not allowed here")
    return upper if upper in _UPPERCASED else text
