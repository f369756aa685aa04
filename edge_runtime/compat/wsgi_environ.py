"""What a WSGI app is called with: the environ, and an input that fetches the request's body as it is read."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes, urlsplit

import trio

from edge_runtime.compat.app_body import ClientDisconnected
from edge_runtime.compat.blocking import on_loop
from edge_runtime.event import EventContext
from edge_runtime.workers.request import Request
from edge_runtime.workers.streams import ReadableStream

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class RequestInput(io.RawIOBase):
    """The raw part of `wsgi.input`. Reading blocks the app's thread until a piece is there.

    ClientDisconnected (an OSError) once nobody waits for the answer.
    """

    def __init__(self, upload: ReadableStream | None, event: EventContext) -> None:
        self._upload = upload
        self._event = event
        self._left = b""
        self.disconnected = False
        self._reading: trio.CancelScope | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if not self._left and self._upload is not None:
            piece = on_loop(self._next_piece, self._upload)
            if piece is None:
                self._upload = None
            else:
                self._left = piece
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def disconnect(self) -> None:
        """Called on the event loop: reads fail from now on."""
        self.disconnected = True
        if self._reading is not None:
            self._reading.cancel()

    async def _next_piece(self, upload: ReadableStream) -> bytes | None:
        piece: bytes | None = b""
        with trio.CancelScope() as self._reading:
            while piece == b"" and not self.disconnected:
                piece = await self._event.run(upload.next_piece)
        self._reading = None
        if self.disconnected:
            raise ClientDisconnected
        return piece


def build_environ(request: Request, env: Any, body: RequestInput) -> dict[str, Any]:
    """The environ of PEP 3333. Text is "bytes as latin-1", as the standard wants it.

    `wsgi.multithread` is true: other than on Cloudflare, requests are really served side by side. Header names with an
    underscore are left out, because they could pass for others, and so is Proxy, which libraries take for a setting.
    """
    url = urlsplit(request.url)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request._method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(url.path or "/").decode("latin-1"),
        "QUERY_STRING": url.query,
        "SERVER_NAME": url.hostname or "localhost",
        "SERVER_PORT": str(url.port or (443 if url.scheme == "https" else 80)),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": url.scheme,
        "wsgi.input": io.BufferedReader(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "workers.env": env,
    }
    for raw_name, raw_value in request._raw_headers:
        if b"_" in raw_name or raw_name == b"proxy":
            continue
        name, value = raw_name.decode("latin-1").upper().replace("-", "_"), raw_value.decode("latin-1")
        if name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            environ[name] = value
        elif f"HTTP_{name}" in environ:
            environ[f"HTTP_{name}"] += ("; " if name == "COOKIE" else ",") + value
        else:
            environ[f"HTTP_{name}"] = value
        if name == "CF_CONNECTING_IP":
            environ["REMOTE_ADDR"] = value
    return environ
