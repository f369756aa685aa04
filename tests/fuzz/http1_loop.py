"""A coverage-guided fuzzer of the HTTP/1.1 loop under applications that read, answer early and stream. Needs atheris:

    python -m pip install --group fuzz
    python tests/fuzz/http1_loop.py [--seconds 600] [FILE ...]

An input is a few bytes that choose how the application behaves and where the client's bytes are cut, and those bytes.
Whatever they are: nothing fails or is logged, the application sees the same requests and the client gets the same bytes
as when all arrive at once, answers are framed right and in order, and no connection stays. With FILEs, those inputs are
tried instead, one by one; a failure leaves its input in a file that is named.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "isolate"), str(HERE.parent.parent)]

import atheris  # noqa: E402
import trio  # noqa: E402
from http_corpus import CASES  # noqa: E402
from memory_connections import MemoryClient  # noqa: E402

from edge_runtime.isolate.handlers.incoming import BadRequest, incoming_request  # noqa: E402
from edge_runtime.isolate.http.exchange import BodyTooLarge  # noqa: E402
from edge_runtime.isolate.http.open_connections import OpenConnections  # noqa: E402

with atheris.instrument_imports(include=["edge_runtime.isolate"], enable_loader_override=False):
    from edge_runtime.isolate.http1.server import Http1Server

CUTS = 4
BEHAVIOURS = ("echo", "early", "stream", "stream_length", "read_one", "nothing")
TOKENS = (
    "\\x0d\\x0a", "\\x0d\\x0a\\x0d\\x0a", "GET / HTTP/1.1\\x0d\\x0a", "POST / HTTP/1.1\\x0d\\x0a", "HTTP/1.0",
    "HEAD", "Host: a\\x0d\\x0a", "Content-Length: ", "Transfer-Encoding: chunked", "Connection: close",
    "Connection: keep-alive", "Expect: 100-continue\\x0d\\x0a", "Upgrade: websocket", "0\\x0d\\x0a\\x0d\\x0a",
    "5\\x0d\\x0ahello\\x0d\\x0a", "PRI ", "\\x16\\x03", "identity", "gzip", "Trailer: x", ";ext=1",
)  # fmt: skip


class Failures(logging.Handler):
    """Fails where the loop has only logged that it failed."""

    def emit(self, record: logging.LogRecord) -> None:
        failed.append(record.getMessage() + str(record.exc_info))


failed: list[str] = []


class StoppedClock:
    def now_ms(self) -> int:
        return 1_700_000_000_000


class Others:
    """In place of hypercorn: takes note of the bytes that it is given."""

    def __init__(self) -> None:
        self.unserved: bytes | None = None

    async def serve(self, stream: object, unserved: bytes) -> None:
        rest = b"".join(stream._pieces)  # type: ignore[attr-defined]
        self.unserved = unserved + rest


class Application:
    def __init__(self, behaviour: str) -> None:
        self.behaviour = behaviour
        self.requests: list[object] = []
        self.methods: list[str] = []

    async def __call__(self, exchange: object) -> None:
        self.methods.append(exchange.method)  # type: ignore[attr-defined]
        try:
            request = incoming_request(exchange)  # type: ignore[arg-type]
        except BadRequest as refusal:
            await self.respond(exchange, refusal.status, str(refusal).encode(), close=True)
            return
        url = request.url
        try:
            await getattr(self, self.behaviour)(exchange, url)
        except (BodyTooLarge, OSError) as error:
            self.requests.append(repr(error))

    async def respond(self, exchange: object, status: int, body: bytes, *, close: bool = False) -> None:
        headers = [(b"content-length", b"%d" % len(body))]
        await exchange.respond(status, headers, body, close=close)  # type: ignore[attr-defined]

    async def echo(self, exchange: object, url: str) -> None:
        body = b""
        while (piece := await exchange.receive()) is not None:  # type: ignore[attr-defined]
            assert piece
            body += piece
        self.requests.append((exchange.method, url, exchange.headers, body))  # type: ignore[attr-defined]
        await self.respond(exchange, 200, body)

    async def early(self, exchange: object, url: str) -> None:
        self.requests.append((exchange.method, url, exchange.headers))  # type: ignore[attr-defined]
        await self.respond(exchange, 404, b"early")

    async def stream(self, exchange: object, url: str) -> None:
        self.requests.append((exchange.method, url, exchange.headers))  # type: ignore[attr-defined]
        await exchange.start(200, [])  # type: ignore[attr-defined]
        for piece in (b"abc", b"", b"x" * 20_000):
            await exchange.send(piece)  # type: ignore[attr-defined]
        await exchange.end()  # type: ignore[attr-defined]

    async def stream_length(self, exchange: object, url: str) -> None:
        self.requests.append((exchange.method, url, exchange.headers))  # type: ignore[attr-defined]
        await exchange.start(200, [(b"content-length", b"6")])  # type: ignore[attr-defined]
        await exchange.send(b"abc")  # type: ignore[attr-defined]
        await exchange.send(b"def")  # type: ignore[attr-defined]
        await exchange.end()  # type: ignore[attr-defined]

    async def read_one(self, exchange: object, url: str) -> None:
        await exchange.receive()  # type: ignore[attr-defined]
        self.requests.append((exchange.method, url))  # type: ignore[attr-defined]
        await self.respond(exchange, 200, b"one")

    async def nothing(self, exchange: object, url: str) -> None:
        self.requests.append((exchange.method, url))  # type: ignore[attr-defined]


def serve(behaviour: str, pieces: list[bytes]) -> tuple[list[object], list[str], bytes, bytes | None]:
    """What the application saw and the client got."""

    async def main() -> None:
        with trio.fail_after(60):
            await server.serve(client)  # type: ignore[arg-type]

    application, connections, others = Application(behaviour), OpenConnections(), Others()
    server = Http1Server(application, connections, others, StoppedClock())  # type: ignore[arg-type]
    client = MemoryClient(pieces)
    trio.run(main)
    assert not failed, failed
    assert not len(connections), "a connection stayed"
    return application.requests, application.methods, bytes(client.received), others.unserved


def check_answers(received: bytes, methods: list[str]) -> None:
    rest, count = received, 0
    while rest:
        if rest.startswith(b"HTTP/1.1 100 Continue\r\n\r\n"):
            rest = rest[25:]
            continue
        head, end, rest = rest.partition(b"\r\n\r\n")
        assert end, f"a head is cut: {head!r}"
        line, *lines = head.split(b"\r\n")
        assert line.startswith(b"HTTP/1.1 "), line
        headers = [tuple(header.lower().split(b": ", 1)) for header in lines]
        names = [name for name, _ in headers]
        assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1, headers
        method = methods[count] if count < len(methods) else ""
        count += 1
        fields = dict(headers)
        if method == "HEAD":
            continue
        if b"content-length" in fields:
            length = int(fields[b"content-length"])
            assert len(rest) >= length, "a body is cut"
            rest = rest[length:]
        elif fields.get(b"transfer-encoding") == b"chunked":
            while True:
                size, end, rest = rest.partition(b"\r\n")
                assert end, "chunks are cut"
                rest, closing = rest[int(size, 16) :], rest[int(size, 16) : int(size, 16) + 2]
                assert closing == b"\r\n", "a chunk is longer than it says"
                rest = rest[2:]
                if int(size, 16) == 0:
                    break
        else:
            rest = b""  # up to the end of the connection


def one_input(data: bytes) -> None:
    if len(data) < 1 + CUTS:
        return
    behaviour, places, stream = BEHAVIOURS[data[0] % len(BEHAVIOURS)], data[1 : 1 + CUTS], data[1 + CUTS :]
    whole = serve(behaviour, [stream])
    check_answers(whole[2], whole[1])
    ends = sorted({place * len(stream) // 256 for place in places} | {0, len(stream)})
    pieces = [stream[start:end] for start, end in pairwise(ends) if end > start]
    again = serve(behaviour, pieces)
    check_answers(again[2], again[1])
    if behaviour in ("echo", "nothing"):
        # How much of a body has arrived decides for others whether the connection can go on after the answer.
        assert again == whole, (pieces, again, whole)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", type=Path)
    parser.add_argument("--seconds", type=int, default=600)
    options = parser.parse_args()
    logging.getLogger("edge.http").addHandler(Failures())
    logging.getLogger("edge.http").propagate = False
    if options.files:
        for file in options.files:
            one_input(file.read_bytes())
            print(f"{file}: nothing found")
        return
    with tempfile.TemporaryDirectory() as folder:
        corpus, tokens = Path(folder, "corpus"), Path(folder, "tokens")
        corpus.mkdir()
        for number, case in enumerate(CASES.values()):
            if len(case) < 4096:
                (corpus / str(number)).write_bytes(bytes([number % 256, 20, 90, 160, 230]) + case)
        tokens.write_text("".join(f'"{token}"\n' for token in TOKENS))
        arguments = [f"-max_total_time={options.seconds}", "-max_len=4096", "-timeout=60", f"-dict={tokens}"]
        atheris.Setup([sys.argv[0], *arguments, str(corpus)], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
