"""WSGI apps in a worker: `wsgi.fetch(app, request, env)`; scripts import this as `workers.wsgi`.

The app runs in a thread of its own for each request (on Cloudflare, on a suspended stack), so it may block: on its
input, on a client that reads slowly, and on bindings by `pyodide.ffi.run_sync`. Its CPU time is charged to the event.

Source: PEP 3333; Cloudflare's runtime SDK for `workers.env` and the texts of errors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import trio

from edge_runtime.compat.app_body import AppBody, BodyPipe, ClientDisconnected
from edge_runtime.compat.blocking import enter_loop, on_loop
from edge_runtime.compat.wsgi_environ import RequestInput, build_environ
from edge_runtime.event import EventContext, require_event
from edge_runtime.limits import WSGI_THREADS_MAX
from edge_runtime.metering.threads import measure_call
from edge_runtime.promise import Promise, PromiseCancelled
from edge_runtime.workers.request import JsRequest, Request
from edge_runtime.workers.response import Response
from edge_runtime.workers.status import NULL_BODY_STATUSES

WsgiApp: TypeAlias = Callable[[dict[str, Any], Callable[..., Callable[[bytes], None]]], Iterable[bytes]]

_log = logging.getLogger("wsgi")
_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_threads: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("edge_wsgi_threads")


async def fetch(app: WsgiApp, request: Request | JsRequest, env: Any, ctx: object = None) -> Response:
    """Have `app` answer `request`; returns when the head of its answer is there.

    At most `WSGI_THREADS_MAX` calls run at a time in an isolate; further ones wait.

    Args:
        env: given to the app as `environ["workers.env"]`.
        ctx: accepted for symmetry with ASGI.
    Raises:
        What the app raises before the first piece of its body. RuntimeError: it did not call start_response.
    Cancellation: the app's next read or write raises OSError.
    """
    event = require_event("wsgi.fetch()")
    if isinstance(request, JsRequest):
        request = request.request
    call = _Call(app, request, env, event)
    work = event.spawn(call.run)
    try:
        return await call.answer
    except BaseException:
        call.disconnect()
        raise
    finally:
        if not work.settled:
            event.wait_until(work)


class _Head(NamedTuple):
    status: int
    reason: str
    headers: list[tuple[str, str]]


class _Call:
    """One call of an app. Methods named `_app_...` run in its thread, the others on the event loop."""

    def __init__(self, app: WsgiApp, request: Request, env: Any, event: EventContext) -> None:
        self.answer: Promise[Response] = Promise()
        self._app = app
        self._event = event
        self._token = enter_loop()
        self._input = RequestInput(request.body, event)
        self._environ = build_environ(request, env, self._input)
        self._head: _Head | None = None
        self._pipe: BodyPipe | None = None
        self._begun = False

    async def run(self) -> None:
        """Run the app in a thread. Raises nothing but cancellation."""
        try:
            await trio.to_thread.run_sync(measure_call, self._event.meter, self._app_run, limiter=_limiter())
        except trio.Cancelled:
            self._fail(PromiseCancelled("the event of this request has ended"))
            raise
        except ClientDisconnected as error:
            self._fail(error)
        except BaseException as error:
            if self.answer.settled:
                _log.error("Exception while streaming WSGI response body", exc_info=error)
            self._fail(error)
        else:
            if self._pipe is not None:
                self._pipe.end()

    def disconnect(self) -> None:
        """Nobody waits for the answer any more."""
        self._input.disconnect()
        if self._pipe is not None:
            self._pipe.hang_up()

    def _fail(self, error: BaseException) -> None:
        if not self.answer.settled:
            self.answer.reject(error)
        if self._pipe is not None:
            self._pipe.fail(error)

    def _answer(self, head: _Head, body: Any) -> None:
        if self.answer.settled:
            return
        try:
            self.answer.resolve(Response(body, head.status, head.reason, headers=head.headers))
        except (TypeError, ValueError) as error:
            self.answer.reject(error)

    async def _open_stream(self, head: _Head) -> BodyPipe:
        self._pipe = BodyPipe(self._input.disconnect)
        self._answer(head, AppBody.of_pipe(self._pipe))
        if self._input.disconnected:
            self._pipe.hang_up()
        return self._pipe

    def _app_run(self) -> None:
        iterable: Iterable[bytes] | None = None
        try:
            iterable = self._app(self._environ, self._app_start_response)
            self._app_send_all(iterable)
        finally:
            try:
                close = getattr(iterable, "close", None)
                if close is not None:
                    close()
            finally:
                self._input.close()

    def _app_start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None:
            try:
                if self._begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._head is not None:
            raise AssertionError("start_response() called more than once")
        self._head = _checked_head(status, headers)
        return self._app_write

    def _app_write(self, data: bytes) -> None:
        if self._head is None:
            raise AssertionError("write() called before start_response()")
        self._app_send(_checked_piece(data))

    def _app_send_all(self, iterable: Iterable[bytes]) -> None:
        """Send what the app gives, each piece before asking for the next; a body known to be whole leaves at once."""
        if isinstance(iterable, (list, tuple)) and not self._begun:
            self._app_send_whole(b"".join(map(_checked_piece, iterable)))
            return
        for piece in iterable:
            if not _checked_piece(piece):
                continue
            if not self._begun and self._head is not None and self._head_length() == len(piece):
                self._app_send_whole(piece)
            else:
                self._app_send(piece)
        if not self._begun:
            self._app_send_whole(b"")

    def _app_send_whole(self, body: bytes) -> None:
        head = self._app_begin()
        content = None if head.status in NULL_BODY_STATUSES else body
        self._token.run_sync_soon(self._answer, head, content)

    def _app_send(self, piece: bytes) -> None:
        if not piece:
            return
        if not self._begun:
            head = self._app_begin()
            if head.status in NULL_BODY_STATUSES:
                self._token.run_sync_soon(self._answer, head, None)
            else:
                on_loop(self._open_stream, head)
        if self._pipe is not None:
            on_loop(self._pipe.write, piece)

    def _app_begin(self) -> _Head:
        if self._head is None:
            raise RuntimeError("The WSGI application did not call start_response()")
        self._begun = True
        return self._head

    def _head_length(self) -> int:
        assert self._head is not None
        for name, value in self._head.headers:
            if name.lower() == "content-length" and value.isdecimal():
                return int(value)
        return -1


def _checked_head(status: str, headers: list[tuple[str, str]]) -> _Head:
    if not isinstance(status, str) or not status[:3].isdecimal() or status[3:4] not in ("", " "):
        raise AssertionError(f"the status of a WSGI response must be like '200 OK', found {status!r}")
    if type(headers) is not list:
        raise AssertionError(f"the headers of a WSGI response must be a list, found {type(headers).__name__}")
    for name, value in headers:
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"the headers of a WSGI response must be pairs of str, found {(name, value)!r}")
        if name.lower() in _HOP_BY_HOP:
            raise AssertionError(f"the header {name} belongs to the connection; a WSGI app must not send it")
    return _Head(int(status[:3]), status[4:], list(headers))


def _checked_piece(piece: object) -> bytes:
    if not isinstance(piece, bytes):
        raise TypeError(f"a WSGI app must give bytes, found {type(piece).__name__}")
    return piece


def _limiter() -> trio.CapacityLimiter:
    try:
        return _threads.get()
    except LookupError:
        limiter = trio.CapacityLimiter(WSGI_THREADS_MAX)
        _threads.set(limiter)
        return limiter
