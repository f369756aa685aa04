"""How fast is this machine just now? A bare hello on hypercorn and trio, again and again, is the yardstick.

The bounds in absolute CPU time were set where it took `REFERENCE_US` of CPU. What is measured elsewhere, or while the
machine does other work, is judged as if it had been measured there: see `Figure.scaled`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.load import send_requests
from bench.processes import Server, server

REFERENCE_US = 370.0
_CONNECTIONS = 8
_REQUESTS = 500
_ROUNDS = 5


class Yardstick:
    def __init__(self, bare: Server) -> None:
        self._bare = bare

    def measure(self) -> float:
        """CPU of the bare hello now, per request, in microseconds: the median of a few rounds, two seconds in all."""
        rounds_us = []
        for _ in range(_ROUNDS):
            before_us = self._bare.cpu_us()
            send_requests(self._bare.port, "/", _REQUESTS, _CONNECTIONS)
            rounds_us.append((self._bare.cpu_us() - before_us) / _REQUESTS)
        return sorted(rounds_us)[_ROUNDS // 2]


@contextmanager
def yardstick() -> Iterator[Yardstick]:
    """The bare server, warmed up; idle, it uses no CPU."""
    with server([sys.executable, "-m", "bench.bare"], Path()) as bare:
        send_requests(bare.port, "/", _REQUESTS, _CONNECTIONS)
        yield Yardstick(bare)
