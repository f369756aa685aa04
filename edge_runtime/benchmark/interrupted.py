"""A benchmark that is told to end: what it started is ended first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import trio

_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)
"""SIGINT is trio's, which raises KeyboardInterrupt."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Cancel the block on a signal that would end the process; the process ends by it when the block is left.

    For the main thread, under trio. Signals that are ignored stay so.
    """
    scope, token = trio.CancelScope(), trio.lowlevel.current_trio_token()
    received: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        received.append(number)
        token.run_sync_soon(scope.cancel, idempotent=True)

    handled = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in handled:
        signal.signal(number, end)
    try:
        with scope:
            yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)
        if received:
            signal.raise_signal(received[0])
