"""From an HTTP exchange to the script's fetch handler and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import trio

from bindings.front_door import FrontDoor
from edge_runtime.event import EventContext, EventKind, Outcome, outcome_of
from edge_runtime.isolate.events.lifecycle import IsolateEvents
from edge_runtime.isolate.handlers.entrypoints import EventHandler
from edge_runtime.isolate.handlers.incoming import BadRequest, incoming_request
from edge_runtime.isolate.http.exchange import BodyTimeout, BodyTooLarge, Exchange, RawHeaders
from edge_runtime.isolate.outgoing.relay import Relay
from edge_runtime.limits import REQUEST_BODY_MAX
from edge_runtime.metering.quantities import BYTES_OUT
from edge_runtime.tracebacks import script_traceback
from edge_runtime.workers.outgoing_response import OutgoingResponse
from edge_runtime.workers.response import FetchResponse, JsResponse, Response
from edge_runtime.workers.websocket import WebSocket

# Members of an enum are found by its metaclass, which takes longer than a global.
_FETCH = EventKind.FETCH
_OK = Outcome.OK
_EXCEPTION = Outcome.EXCEPTION
_CANCELED = Outcome.CANCELED

_PLAIN: RawHeaders = ((b"content-type", b"text/plain;charset=UTF-8"),)


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


async def _send_counted(exchange: Exchange, event: EventContext, piece: bytes) -> None:
    event.meter.quantities[BYTES_OUT] += len(piece)
    await exchange.send(piece)


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
