"""How the starts of one worker have gone, and when the next one may be."""

from __future__ import annotations

import time
from typing import Final

import trio

from edge_runtime.supervisor.backoff import CrashBackoff
from edge_runtime.supervisor.report import Report
from edge_runtime.supervisor.worker_records import WorkerUnavailable

_WAITED_FOR_S: Final = 1.0
"""A connection waits for a restart that is at most this far away, and is refused otherwise."""


def tried_again(message: str, delay_s: float) -> str:
    """What is said of a start that was ended from outside."""
    return f"{message}; it is tried again {f'in {delay_s:g} s' if delay_s else 'at once'}"


class StartRecord:
    def __init__(self, worker: str, report: Report) -> None:
        self._worker = worker
        self._report = report
        self.failure: WorkerUnavailable | None = None
        """Of the last start, unless that succeeded or the next one has been asked for."""
        self._retry_at_s = 0.0
        self._backoff = CrashBackoff()
        self._contained = CrashBackoff(contained=True)
        self._reported: tuple[str, str] | None = None
        self._interrupt = trio.Event()

    @property
    def due(self) -> bool:
        """A start need not wait."""
        return time.monotonic() >= self._retry_at_s

    async def wait_due(self) -> None:
        """Return when the next start may be made, or another version is there, or `interrupt` was called."""
        delay_s = self._retry_at_s - time.monotonic()
        if delay_s > 0:
            with trio.move_on_after(delay_s):
                await self._interrupt.wait()

    def refuse(self, *, tried: bool) -> None:
        """Raise WorkerUnavailable if the last start failed and the next is not due yet, or has been `tried`."""
        if self.failure is not None and (tried or not self.due):
            left_s = self._retry_at_s - time.monotonic()
            raise WorkerUnavailable(str(self.failure), self.failure.detail, left_s)

    def crashed(self, message: str, detail: str, *, report: bool = True, contained: bool = False) -> float:
        """Take note of a failed start or a crash; returns after how many seconds the next start is due. `contained`:
        what has caused it is put off by itself."""
        backoff = self._contained if contained else self._backoff
        delay_s = backoff.crashed(time.monotonic())
        if report or delay_s > _WAITED_FOR_S:
            self.failed(message, detail, time.monotonic() + delay_s, report=report)
        else:
            self._retry_at_s = time.monotonic() + delay_s
        return delay_s

    def interrupted(self, message: str) -> bool:
        """Take note of a start that was ended from outside; returns whether the worker has failed by that.

        It has not as long as the next start is near enough to be waited for. One that was under way when the next
        start was put off already, as others are when their template ends, is not counted again.
        """
        if not self.due:
            return False
        now_s = time.monotonic()
        delay_s = self._backoff.crashed(now_s)
        if delay_s > _WAITED_FOR_S:
            self.failed(message, "", now_s + delay_s)
            return True
        self._retry_at_s = now_s + delay_s
        self._report.notice(tried_again(message, delay_s))
        return False

    def failed(self, message: str, detail: str, retry_at_s: float, *, report: bool = True) -> None:
        """The worker cannot serve before `retry_at_s`."""
        self.failure = WorkerUnavailable(message, detail, 1)
        self._retry_at_s = retry_at_s
        if report and self._reported != (message, detail):
            self._reported = (message, detail)
            self._report.worker_failed(self._worker, message, detail)

    def forget(self) -> None:
        """Another version serves: it starts with a clean record, and at once."""
        self.failure = None
        self._reported = None
        self._retry_at_s = 0.0
        self._backoff.reset()
        self._contained.reset()
        self.interrupt()

    def interrupt(self) -> None:
        self._interrupt.set()
        self._interrupt = trio.Event()
