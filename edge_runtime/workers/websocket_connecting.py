"""`WebSocket.new(url)`: a conversation that this worker begins."""

from __future__ import annotations

import re
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import trio

from edge_runtime.event import EventContext
from edge_runtime.limits import WEBSOCKET_OPEN_S
from edge_runtime.promise import Promise
from edge_runtime.workers.headers import header
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.network import Hop, count_fetch, turn_to_send
from edge_runtime.workers.url import normalize_url
from edge_runtime.workers.websocket_end import SocketEnd
from edge_runtime.workers.websocket_link import Handled, SocketReceiver
from edge_runtime.workers.websocket_recipient import Recipient

_SCHEMES: Final = {"ws": "http", "wss": "https"}
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CLOSED_EARLY: Final = "Called close before connection was established."


def hop_to(url: str, protocols: object) -> Hop:
    """The request of the handshake. JsException: a SyntaxError, for a URL or protocol that cannot be used."""
    try:
        parts = urlsplit(normalize_url(url))
    except (TypeError, ValueError):
        _refuse("The url is invalid.")
    if parts.scheme not in _SCHEMES:
        _refuse("The url scheme must be ws or wss.")
    if "#" in url:
        _refuse("The url fragment must be empty.")
    if not parts.hostname:
        _refuse("The url is invalid.")
    host = parts.netloc.rpartition("@")[2]
    target = parts._replace(scheme=_SCHEMES[parts.scheme], netloc=host).geturl()
    headers = [(b"upgrade", b"websocket")]
    if offered := _protocols(protocols):
        headers.append((b"sec-websocket-protocol", ", ".join(offered).encode()))
    return Hop("GET", target, headers, None)


def _protocols(given: object) -> list[str]:
    if given is None:
        return []
    if isinstance(given, str):
        if not _TOKEN.fullmatch(given):
            _refuse("The protocol header token is invalid.")
        return [given]
    if not isinstance(given, (list, tuple)):
        raise TypeError(f"the protocols of a WebSocket are a string or a list of strings, not {type(given).__name__}")
    names = [str(name) for name in given]
    if not all(_TOKEN.fullmatch(name) for name in names):
        _refuse("One of the protocol header tokens is invalid.")
    if len(set(names)) < len(names):
        _refuse("The protocols header cannot have repeating values.")
    return names


def _refuse(why: str) -> NoReturn:
    raise JsException(f"WebSocket Constructor: {why}", "SyntaxError")


class Attempt:
    """`SocketLink` of a socket that is not connected yet: it can only be given up. Ends with the socket's `_opened` or
    `_failed`."""

    def __init__(self) -> None:
        self._work: Promise[None] | None = None
        self._closed = False

    def begin(self, event: EventContext, socket: SocketEnd, recipient: Recipient, hop: Hop) -> None:
        self._work = event.spawn(self._open, event, socket, recipient, hop)

    async def _open(self, event: EventContext, socket: SocketEnd, recipient: Recipient, hop: Hop) -> None:
        try:
            async with turn_to_send(event):
                count_fetch(event)
                with trio.fail_after(WEBSOCKET_OPEN_S):
                    reply = await event.net.upgrade(hop)
        except trio.TooSlowError:
            socket._failed(f"{socket.url} did not answer within {WEBSOCKET_OPEN_S:g} s", recipient)
        except trio.Cancelled:
            if self._closed:
                socket._failed(_CLOSED_EARLY, recipient)
            raise
        except Exception as error:
            socket._failed(str(error), recipient)
        else:
            if reply.socket is not None:
                chosen = header(reply.headers, b"sec-websocket-protocol")
                socket._opened(reply.socket, chosen or "", recipient)
                return
            socket._failed(
                "Failed to establish the WebSocket connection: expected server to reply with HTTP status code 101 "
                f"(switching protocols), but received {reply.status} instead.",
                recipient,
            )
            await reply.close()

    def listen(self, receiver: SocketReceiver) -> None:
        raise AssertionError("nothing arrives before the connection is there")

    def send(self, data: str | bytes, handled: Handled | None = None) -> None:
        raise AssertionError("nothing is sent before the connection is there")

    def close(self, code: int, reason: str) -> None:
        self._closed = True
        self._cancel()

    def abort(self, error: str | None = None) -> None:
        self._cancel()

    def _cancel(self) -> None:
        scope: Any = None if self._work is None else self._work.owned_by
        if scope is not None:
            scope.cancel()
