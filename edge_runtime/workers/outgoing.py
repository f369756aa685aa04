"""`fetch`: requests that leave the worker.

Here is what becomes of one fetch: its hops over redirects, its answer's body, its signal. How a request travels is
behind the `Net` seam (`network`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin, urlsplit

import trio

from edge_runtime.event import EventContext, require_event
from edge_runtime.limits import REDIRECTS_MAX
from edge_runtime.promise import OwnedPromise, Promise
from edge_runtime.workers.abort import AbortSignal
from edge_runtime.workers.body import Payload
from edge_runtime.workers.headers import header
from edge_runtime.workers.network import Hop, Reply, count_fetch, turn_to_send
from edge_runtime.workers.request import JsRequest, Request
from edge_runtime.workers.response import JsResponse, Response
from edge_runtime.workers.status import REDIRECT_STATUSES
from edge_runtime.workers.streams import ReadableStream
from edge_runtime.workers.url import normalize_url
from edge_runtime.workers.websocket import WebSocket

_OF_BODY = frozenset(
    {b"content-type", b"content-length", b"content-encoding", b"content-language", b"transfer-encoding"}
)
_CREDENTIALS = frozenset({b"authorization", b"cookie", b"proxy-authorization"})


def fetch(resource: Request | JsRequest | str, **options: Any) -> Promise[Response]:
    """Send a request and resolve with the response once its head is there; the body is streamed.

    Begins at the call; cancelling the only waiter cancels the request. No timeout: put a scope around it, or give a
    `signal`. What is unread of the body when the event ends is dropped. At most OPEN_CONNECTIONS_MAX requests of an
    event wait for their response at a time, further ones queue.

    Args:
        options: method, headers, body, redirect ("follow", "manual", "error"), cf, signal, fetcher (a function used
            in place of the network). A GET with the header `Upgrade: websocket` asks for a WebSocket, which a response
            of status 101 has as `web_socket`.
    Raises:
        OSError: the URL or a header cannot be used; no answer; "Too many subrequests.".
        RuntimeError: outside of an event.
    """
    event = require_event("fetch()")
    fetcher = options.pop("fetcher", None)
    try:
        if isinstance(resource, JsRequest):
            resource = resource.request
        request = resource if isinstance(resource, Request) and not options else Request(resource, **options)
    except (TypeError, ValueError) as error:
        return Promise.rejected(OSError(str(error)))
    if fetcher is not None:
        return event.spawn(_by_fetcher, event, fetcher, request)
    if isinstance(request.signal, AbortSignal) and request.signal.aborted:
        return Promise.rejected(request.signal.error())
    if event.net is None:
        return Promise.rejected(OSError("fetch() is not available: this process was started without a network"))
    sent = event.spawn(_fetch, event, request)
    if isinstance(request.signal, AbortSignal):
        return _until_aborted(sent, request.signal)
    return sent


async def _by_fetcher(event: EventContext, fetcher: Callable[..., Any], request: Request) -> Response:
    response = await event.run(fetcher, request)
    return Response(response) if isinstance(response, JsResponse) else response


async def _fetch(event: EventContext, request: Request) -> Response:
    """Every hop of one fetch, until a response that is for the script."""
    try:
        body = request._payload.take()
    except TypeError as error:
        raise OSError(str(error)) from error
    hop = Hop(request._method, request.url, list(request._raw_headers), body)
    wants_socket = asks_for_socket(hop)
    async with turn_to_send(event):
        redirects = 0
        while True:
            count_fetch(event)
            reply = await (event.net.upgrade if wants_socket else event.net.send)(hop)
            if reply.status not in REDIRECT_STATUSES or request.redirect == "manual":
                break
            following = next_hop(hop, reply)
            if following is None:
                break
            await reply.close()
            if request.redirect == "error":
                raise OSError(f'fetch() to {hop.url} was redirected, and the request has redirect="error"')
            redirects += 1
            if redirects > REDIRECTS_MAX:
                raise OSError("Too many redirects")
            hop = following
    if reply.socket is not None:
        response = Response._of(reply.status, reply.headers, Payload(None), reply.reason)
        response.web_socket = WebSocket(reply.socket, event.sockets.flags, to_server=True)
    else:
        held = _Held(reply)
        event.spawn(held.until_read)
        response = Response._of(reply.status, reply.headers, Payload(None, held.stream()), reply.reason)
    response.url = hop.url
    response.redirected = redirects > 0
    return response


def asks_for_socket(hop: Hop) -> bool:
    upgrade = header(hop.headers, b"upgrade")
    return hop.method == "GET" and upgrade is not None and upgrade.lower() == "websocket"


def next_hop(hop: Hop, reply: Reply) -> Hop | None:
    """The request that a redirect asks for; None if it names no location.

    As the Fetch standard has it: 303, and 301 and 302 after POST, become GET without body; credentials do not go to
    another origin. OSError if a body would be needed again that can be sent only once.
    """
    location = header(reply.headers, b"location")
    if location is None:
        return None
    try:
        url = normalize_url(urljoin(hop.url, location))
    except TypeError:
        raise OSError(f"fetch() to {hop.url} was redirected to {location!r}, which is no URL") from None
    if urlsplit(url).scheme not in ("http", "https"):
        raise OSError(f"fetch() to {hop.url} was redirected to {location!r}, which is not HTTP")
    method, body, headers = hop.method, hop.body, hop.headers
    if (reply.status == 303 and method not in ("GET", "HEAD")) or (reply.status in (301, 302) and method == "POST"):
        method, body = "GET", None
        headers = [pair for pair in headers if pair[0] not in _OF_BODY]
    elif isinstance(body, ReadableStream):
        raise OSError(
            "A request with a one-time-use body (it was initialized from a stream, not a buffer) encountered a "
            "redirect requiring the body to be retransmitted. To avoid this error in the future, construct this "
            "request from a buffer-like body initializer."
        )
    if urlsplit(url)[:2] != urlsplit(hop.url)[:2]:
        headers = [pair for pair in headers if pair[0] not in _CREDENTIALS]
    return Hop(method, url, headers, body)


class _Held:
    """An open answer: closed when its body has been read, was cancelled, or the event has ended."""

    __slots__ = ("_done", "_reply")

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._done = trio.Event()

    def stream(self) -> ReadableStream:
        return ReadableStream.of_receive(self._receive, self._cancel)

    async def _receive(self) -> bytes | None:
        piece = await self._reply.receive()
        if piece is None:
            self._done.set()
        return piece

    async def _cancel(self) -> None:
        self._done.set()

    async def until_read(self) -> None:
        try:
            await self._done.wait()
        finally:
            with trio.CancelScope(shield=True):
                await self._reply.close()


def _until_aborted(sent: Promise[Response], signal: AbortSignal) -> Promise[Response]:
    """The promise, rejected when the signal fires first; the request is cancelled then."""
    outcome: Promise[Response] = OwnedPromise(sent.owned_by)

    def settled(promise: Promise[Response]) -> None:
        if outcome.settled:
            return
        if promise.error is not None:
            outcome.reject(promise.error)
        else:
            outcome.resolve(promise.result())

    def aborted() -> None:
        if not outcome.settled:
            outcome.reject(signal.error())
            if sent.owned_by is not None:
                sent.owned_by.cancel()

    sent.add_done_callback(settled)
    signal.when_aborted(aborted)
    return outcome
