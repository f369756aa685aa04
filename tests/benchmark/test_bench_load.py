"""The load generator: as many requests wait for the server as there are connections; and figures at a known speed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from bench.figure import Figure
from bench.load import exchange, request, send_requests

CONNECTIONS = 32
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


@contextmanager
def serving(answers: list[bytes]) -> Iterator[int]:
    """A server that waits for a request on each of CONNECTIONS before it gives all of them the next of `answers`."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(60)

        def serve() -> None:
            clients = [stack.enter_context(listener.accept()[0]) for _ in range(CONNECTIONS)]
            for answer in answers:
                for client in clients:
                    client.settimeout(60)
                    assert client.recv(65536).endswith(b"\r\n\r\n")
                half = len(answer) // 2
                for part in (answer[:half], answer[half:]):
                    for client in clients:
                        client.sendall(part)

        pool = stack.enter_context(ThreadPoolExecutor(1))
        served = pool.submit(serve)
        yield listener.getsockname()[1]
        served.result()


def test_every_connection_has_a_request_under_way_at_once():
    made: list[bytes] = []

    def make() -> bytes:
        made.append(request("GET", f"/{len(made)}"))
        return made[-1]

    with serving([ANSWER, CHUNKED, ANSWER]) as port:
        waited_ms = exchange(port, make, 3 * CONNECTIONS, CONNECTIONS)
    assert len(waited_ms) == len(made) == 3 * CONNECTIONS
    assert min(waited_ms) > 0


def test_answer_that_is_not_200_ends_the_load():
    with (
        serving([ANSWER, b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"]) as port,
        pytest.raises(RuntimeError, match="503 Busy"),
    ):
        send_requests(port, "/", 3 * CONNECTIONS, CONNECTIONS)


@pytest.mark.parametrize(
    ("figure", "scaled", "reached"),
    [
        (Figure("slow here", 200, "us", bound=120, yardstick_us=740), 100, True),
        (Figure("slow anywhere", 260, "us", bound=120, yardstick_us=740), 130, False),
        (Figure("rate", 2000, "1/s", bound=3000, sense="at least", yardstick_us=740), 4000, True),
        (Figure("ratio", 1.2, "x", bound=1.05, yardstick_us=740), None, False),
        (Figure("memory", 9, "MB", bound=10, yardstick_us=185), None, True),
        (Figure("wall time", 3, "s", bound=2, yardstick_us=740), None, False),
        (Figure("wall time of CPU", 50, "ms", bound=30, cpu_bound=True, yardstick_us=740), 25, True),
        (Figure("not compared", 130, "us", bound=120), None, False),
    ],
)
def test_bounds_of_cpu_time_and_rates_are_judged_at_the_speed_they_come_from(figure, scaled, reached):
    assert figure.scaled == scaled
    assert figure.reached is reached
    if scaled is not None:
        assert f"{figure.value:.2f}" in figure.line()
        assert f"{scaled:.2f} scaled" in figure.line()
