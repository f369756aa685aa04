"""Status codes: what they say of a response, and which ones a script may use."""

from __future__ import annotations

from http import HTTPStatus

from edge_runtime.workers.body import Payload
from edge_runtime.workers.websocket import WebSocket

NULL_BODY_STATUSES = frozenset({101, 103, 204, 205, 304})
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
REASONS = {int(status): status.phrase for status in HTTPStatus}


class HttpStatusError(OSError):
    """Raised by `raise_for_status`; known to scripts as `pyodide.http.HttpStatusError`."""

    def __init__(self, status: int, status_text: str, url: str) -> None:
        self.status = status
        self.status_text = status_text
        self.url = url
        kind = "Client" if status < 500 else "Server"
        super().__init__(f"{status} {kind} Error: {status_text} for url: {url}")


def checked_status(status: HTTPStatus | int | None, web_socket: object) -> int:
    """The status of a response that a script makes, 200 for None. TypeError, ValueError for one it may not have."""
    if web_socket is not None and not isinstance(web_socket, WebSocket):
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


def allowed(payload: Payload, status: int) -> Payload:
    """The body, if a response of the status may have it; else TypeError."""
    if status not in NULL_BODY_STATUSES or payload.absent:
        return payload
    if payload.data == b"":
        return Payload(None)
    raise TypeError("Response with null body status (101, 204, 205, or 304) cannot have a body.")
