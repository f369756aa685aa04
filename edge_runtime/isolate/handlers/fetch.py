"""From an HTTP exchange to the script's fetch handler and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache, partial
from http import HTTPMethod
from urllib.parse import quote

import trio

from bindings.front_door import FrontDoor
from edge_runtime.event import EventContext, EventKind, Outcome, current_event, outcome_of
from edge_runtime.isolate.events.lifecycle import IsolateEvents
from edge_runtime.isolate.handlers.entrypoints import EventHandler
from edge_runtime.isolate.http.exchange import BodyTimeout, BodyTooLarge, Checked, Exchange, RawHeaders
from edge_runtime.isolate.outgoing.relay import Relay
from edge_runtime.limits import REQUEST_BODY_MAX, REQUEST_URL_MAX
from edge_runtime.metering.quantities import BYTES_IN, BYTES_OUT
from edge_runtime.tracebacks import script_traceback
from edge_runtime.workers.outgoing_response import OutgoingResponse
from edge_runtime.workers.request import Request
from edge_runtime.workers.response import FetchResponse, JsResponse, Response
from edge_runtime.workers.url import normalize_url
from edge_runtime.workers.websocket import WebSocket

_ASCII = "".join(map(chr, range(0x21, 0x7F)))
_UNUSUAL_TARGET = re.compile(rb"[^!$%&()*+,\-./0-9:;=?@A-Z_a-z~]|/\.|%2[Ee]")
"""What normalising may change; most targets have nothing of it and are spared."""
_UNUSUAL_HOST = re.compile(rb"[A-Z]|:(80|443)?$")
_NOT_IN_HOST = re.compile(rb"[^\x00-\x7f]|[ /?#@\\<>\"']")
_HOSTS_REMEMBERED = 256
_METHODS = frozenset(HTTPMethod.__members__) - {"CONNECT"}

# Members of an enum are found by its metaclass, which takes longer than a global.
_FETCH = EventKind.FETCH
_OK = Outcome.OK
_EXCEPTION = Outcome.EXCEPTION
_CANCELED = Outcome.CANCELED

_PLAIN: RawHeaders = ((b"content-type", b"text/plain;charset=UTF-8"),)


class BadRequest(Exception):
    """The request must be refused before any handler sees it."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(reason)


class FetchHandler:
    """Serves the exchanges of one worker.

    Every failure of the script becomes an answer and a log line: 500 with the traceback in development, and in
    production Cloudflare's "error code: 1101" with nothing internal.
    """

    def __init__(
        self,
        handler: EventHandler | None,
        doors: Sequence[FrontDoor],
        relay: Relay,
        events: IsolateEvents,
        *,
        development: bool,
    ) -> None:
        self._handler = handler
        self._doors = doors
        self._relay = relay
        self._events = events
        self._development = development

    async def __call__(self, exchange: Exchange) -> None:
        if self._relay.wants(exchange):
            await self._relay.pass_on(exchange)
            return
        try:
            request = incoming_request(exchange)
        except BadRequest as refusal:
            await _answer(exchange, refusal.status, str(refusal), close=True)
            return
        for door in self._doors:
            response = await door.answer(exchange.method, exchange.target, exchange.headers)
            if response is not None:
                await self._send(exchange, response)
                return
        if self._handler is None:
            await _answer(exchange, 404, "Not Found")
            return
        event = self._events.begin(_FETCH, self._handler.name, connection=exchange.connection_number)
        outcome, status, error = _CANCELED, 0, ""
        try:
            response = await event.run(self._handler.call, request)
            status = await self._send(exchange, response, event)
            outcome = _OK
        except trio.Cancelled:
            raise
        except BodyTooLarge:
            outcome, status = _EXCEPTION, 413
            self._events.acknowledge(event, outcome)
            await _answer(exchange, 413, f"Payload Too Large: at most {REQUEST_BODY_MAX} bytes", close=True)
        except BodyTimeout:
            outcome, status = _EXCEPTION, 408
            self._events.acknowledge(event, outcome)
            await _answer(exchange, 408, "Request Timeout: the request's body arrives too slowly", close=True)
        except BaseException as failure:
            outcome, status = outcome_of(failure), 500
            error = script_traceback(failure)
            code = 1101 if outcome is _EXCEPTION else 1102
            self._events.acknowledge(event, outcome)
            await _answer(exchange, 500, error if self._development else f"error code: {code}")
        finally:
            self._events.end(event, outcome, f"{exchange.checked.title} {status or 'canceled'}", error)

    async def _send(self, exchange: Exchange, response: object, event: EventContext | None = None) -> int:
        """Send what was returned for the event, if it is of one; returns the status. The event counts as answered once
        the head of a stream is out."""
        outgoing = _outgoing(response)
        body = outgoing.body
        if event is not None:
            if isinstance(body, bytes) and body:
                event.meter.quantities[BYTES_OUT] += len(body)
            self._events.acknowledge(event)
        if outgoing.web_socket is not None:
            await _upgrade(exchange, outgoing)
        elif isinstance(body, bytes):
            await exchange.respond(outgoing.status, outgoing.headers, body)
        else:
            await exchange.start(outgoing.status, outgoing.headers)
            if event is None:
                await body.write_to(exchange.send)
            else:
                self._events.answered(event)
                await body.write_to(partial(_send_counted, exchange, event))
            await exchange.end()
        return outgoing.status


def incoming_request(exchange: Exchange) -> Request:
    """Build the script's Request; raises BadRequest for what must not reach a handler."""
    checked = exchange.checked
    if not checked.url:
        _check(exchange, checked)
    receive = partial(_receive_counted, exchange) if checked.has_body else None
    return Request._incoming(exchange.method, checked.url, exchange.headers, receive)


def _check(exchange: Exchange, checked: Checked) -> None:
    """Find out what the script is to see of the head; BadRequest.

    The host becomes part of the URL, so it is checked strictly. A message with both Content-Length and
    Transfer-Encoding is refused: two parsers could disagree about where it ends.
    """
    method, target, headers = exchange.method, exchange.target, exchange.headers
    if method not in _METHODS:
        raise BadRequest(501, f"Not Implemented: method {method}")
    if len(target) > REQUEST_URL_MAX:
        raise BadRequest(414, f"URI Too Long: {len(target)} bytes, at most {REQUEST_URL_MAX}")
    by_name = dict(headers)
    host = by_name.get(b"host")
    if len(by_name) != len(headers) and sum(name == b"host" for name, _ in headers) > 1:
        raise BadRequest(400, "Bad Request: more than one Host header")
    length = by_name.get(b"content-length")
    chunked = b"transfer-encoding" in by_name
    if chunked and length is not None:
        raise BadRequest(400, "Bad Request: both Content-Length and Transfer-Encoding")
    if length is not None and int(length) > REQUEST_BODY_MAX:
        raise BadRequest(413, f"Payload Too Large: {int(length)} bytes, at most {REQUEST_BODY_MAX}")
    if not host:
        if exchange.http_version == "1.1":
            raise BadRequest(400, "Bad Request: no Host header")
        host = b"localhost"
    origin, usual = _origin(exchange.scheme, host)
    if target == b"/" and usual:
        url = origin + "/"
    elif not target.startswith(b"/"):
        url = _normalized(target if target.startswith((b"http://", b"https://")) else b"%s/" % origin.encode())
    else:
        url = origin + target.decode("latin-1")
        if not usual or _UNUSUAL_TARGET.search(target):
            url = _normalized(url.encode("latin-1"))
    checked.has_body = chunked or (length is not None and length != b"0")
    checked.title = f"{method} {target.decode('latin-1')}"
    checked.url = url


async def _receive_counted(exchange: Exchange) -> bytes | None:
    piece = await exchange.receive()
    event = current_event.get()
    if piece and event is not None:
        event.meter.quantities[BYTES_IN] += len(piece)
    return piece


async def _send_counted(exchange: Exchange, event: EventContext, piece: bytes) -> None:
    event.meter.quantities[BYTES_OUT] += len(piece)
    await exchange.send(piece)


@lru_cache(maxsize=_HOSTS_REMEMBERED)
def _origin(scheme: str, host: bytes) -> tuple[str, bool]:
    """The beginning of the URL, and whether it is normal as it is. A server is asked for few hosts, many times."""
    if _NOT_IN_HOST.search(host):
        raise BadRequest(400, "Bad Request: the Host header is not a host")
    return f"{scheme}://{host.decode()}", not _UNUSUAL_HOST.search(host)


def _normalized(url: bytes) -> str:
    """The URL as scripts expect it: without dot segments, bytes outside of ASCII percent-encoded as they came."""
    try:
        return normalize_url(quote(url, safe=_ASCII))
    except TypeError as error:
        raise BadRequest(400, f"Bad Request: {error}") from None


def _outgoing(response: object) -> OutgoingResponse:
    """What a handler returned."""
    if isinstance(response, JsResponse):
        response = Response(response)
    if not isinstance(response, FetchResponse):
        raise TypeError(
            f"the fetch handler returned {type(response).__name__}; allowed: a workers.Response (was a return missing?)"
        )
    return response._outgoing()


async def _upgrade(exchange: Exchange, outgoing: OutgoingResponse) -> None:
    """Let the client talk to the other end of the pair whose one end the handler returned."""
    if not exchange.upgradable:
        raise TypeError(
            "Worker tried to return WebSocket in a response to a request which did not contain the header "
            '"Upgrade: websocket".'
        )
    socket: WebSocket = outgoing.web_socket
    socket._check_free()
    socket._couple(await exchange.upgrade(outgoing.headers))


async def _answer(exchange: Exchange, status: int, text: str, *, close: bool = False) -> None:
    """Answer with plain text; an answer that has begun already is cut off, which tells the client that it failed."""
    if exchange.started:
        return
    body = text.encode("utf-8", "replace")  # a script's error may hold lone surrogates
    await exchange.respond(status, _PLAIN, body, close=close)
