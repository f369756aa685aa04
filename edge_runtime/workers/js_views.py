"""Requests and responses with JavaScript's member names: what `js_object` gives and `js.Request.new` makes.

A view shares everything with the object it shows, so either may be used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge_runtime.workers.headers import Headers
from edge_runtime.workers.js_object import JsObject
from edge_runtime.workers.request import Request
from edge_runtime.workers.response import FetchResponse, Response

if TYPE_CHECKING:
    from edge_runtime.workers.blob import Blob
    from edge_runtime.workers.buffers import ArrayBuffer
    from edge_runtime.workers.formdata import FormData
    from edge_runtime.workers.streams import ReadableStream


_Bytes = bytes


class _BodyView(JsObject):
    __slots__ = ()

    def _viewed(self) -> Request | FetchResponse:
        raise AssertionError("given by the views")

    @property
    def headers(self) -> Headers:
        return Headers.of(self._viewed()._raw_headers)

    @property
    def url(self) -> str:
        return self._viewed().url

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


class JsRequest(_BodyView):
    """`js.Request`."""

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


class JsResponse(_BodyView):
    """`js.Response`."""

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
        from edge_runtime.workers.js_json import stringify

        given = {**args[0], **options} if args else options
        made = JsResponse(stringify(self), given)
        if "content-type" not in Headers(given.get("headers") or {}):
            made.headers.set("content-type", "application/json")
        return made

    def _viewed(self) -> FetchResponse:
        return self.response

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
