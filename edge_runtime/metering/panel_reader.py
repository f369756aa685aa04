"""What a supervisor reads on the panel of one of its isolates (`panel`).

It reads the files as files, and what it reads is hostile input: nothing that a script does to them harms it.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from edge_runtime.metering import native, thread_rows
from edge_runtime.metering.loop_thread import (
    CHARGED,
    CHARGED_IN_PART,
    CPU_LESS_WALL,
    EXITING,
    EXITING_LOOP,
    LABEL,
    SINCE,
    STUCK,
    STUCK_CHARGED,
    STUCK_LABEL,
)
from edge_runtime.metering.meter import NO_LIMIT_S
from edge_runtime.metering.panel import ACTOR, BURST_AT, BYTES, LABEL_SHIFT, LABELS_AT, THREADS_AT, WHOSE, Label
from edge_runtime.metering.stack_file import FRAME, StackReader
from edge_runtime.metering.thread_starts import THREAD_BEGINS

_HEAD_BYTES: Final = THREADS_AT + 8 * thread_rows.HEAD
"""What is read at each look; of the page of threads as many rows as are in use besides."""
_READS_MAX: Final = 4
_SENSIBLE: Final = 2.0**53
"""What is not smaller is none of our numbers."""
_FATAL: Final = "Fatal Python error:"
_THREAD_BEGINS: Final = (THREAD_BEGINS, "_bootstrap")
"""Outermost functions of threads that Python has started: measured ones, and others."""
_CUT: Final = "\n  ...\n"

NO_LABEL: Final[Label] = ("worker", "unknown", "")


@dataclass(frozen=True, slots=True)
class Running:
    """An event whose code runs, or that has gone on after it was stopped."""

    label: int
    used_s: float
    limit_s: float
    whose: int
    """The number of the connection that it answers a request of, or of its actor; 0 if there is neither."""
    stuck: bool = False
    """It was stopped several times and goes on."""
    thread: int = 0
    """The kernel's id of a thread that runs it, unless that is the event loop's."""
    threads: int = 1
    """How many run it."""
    charged_s: float = 0.0
    """How much of what it used was charged; if that is anything, the event was counted too."""
    failed: bool = False
    """It was counted as one that has failed."""

    @property
    def over_s(self) -> float:
        """By how much it has passed its limit; negative before that."""
        return self.used_s - self.limit_s

    def is_same(self, other: Running) -> bool:
        """As far as their labels tell."""
        return (self.label, self.whose) == (other.label, other.whose)

    @property
    def connection(self) -> int:
        """The number of the one that it answers a request of, 0 if there is none."""
        return 0 if self.whose & ACTOR else self.whose

    @property
    def actor(self) -> int:
        """The number of the actor whose event it is, 0 if there is none."""
        return self.whose if self.whose & ACTOR else 0

    @property
    def uncharged_s(self) -> float:
        return self.used_s - self.charged_s


@dataclass(frozen=True, slots=True)
class Look:
    events: list[Running]
    """That on the event loop, if one runs there, first; the one that is stuck; those in threads."""
    burst: Running | None
    """What runs for no event, and how much of what one event may use it has used since it rested; None if that is
    nothing."""


class PanelReader:
    """The two files of one isolate. A number that makes no sense is as good as none."""

    def __init__(self, running: int, stack: int) -> None:
        self._running = running
        self.stack = StackReader(stack)

    def close(self) -> None:
        os.close(self._running)
        self.stack.close()

    def look(self, loop_s: float, clocks_s: Callable[[Sequence[int]], Mapping[int, float]], limit_s: float) -> Look:
        """What runs now, and what has run for no event.

        Args:
            loop_s: the CPU clock of the isolate's loop.
            clocks_s: gives those of others of its threads, as far as it has such.
            limit_s: how much an event may use.
        """
        page = self._read()
        in_threads = [
            _running(each.label, each.used_s, each.limit_s, each.charged_s, thread=each.thread, threads=each.threads)
            for each in thread_rows.read_events(page[THREADS_AT // 8 :], clocks_s)
        ]
        events = _on_loop(page, loop_s, limit_s)
        for each in in_threads:
            if each.limit_s >= NO_LIMIT_S:
                continue
            stuck = next((place for place, other in enumerate(events) if other.stuck and other.is_same(each)), None)
            if stuck is None:
                events.append(each)
            elif each.used_s > events[stuck].used_s:
                events[stuck] = replace(each, stuck=True, thread=events[stuck].thread)
        for_no_event_s = max(
            [page[THREADS_AT // 8 + thread_rows.NO_EVENT_S]]
            + [each.used_s for each in in_threads if each.limit_s >= NO_LIMIT_S]
        )
        return Look(events, _burst(page[BURST_AT // 8 : THREADS_AT // 8], for_no_event_s, limit_s))

    def left(self, *, crashed: bool) -> list[Running]:
        """Whose code ended a dead isolate, as far as its page says; of all that may have, without times, first that on
        the event loop. `crashed`: it was ended by a signal that native code gets for what it did."""
        page = self._read()
        found = []
        if page[SINCE]:
            found.append(_running(int(page[LABEL]) % CHARGED_IN_PART, 0.0, 0.0, 0.0))
        found.extend(
            _running(int(row[thread_rows.LABEL]), 0.0, 0.0, 0.0, thread=int(row[thread_rows.THREAD]))
            for row in thread_rows.rows_of(page[THREADS_AT // 8 :])
        )
        exiting = page[EXITING]
        if exiting:
            return [each for each in found if (each.thread or EXITING_LOOP) == exiting]
        in_thread = self._crashed_in_thread() if crashed else None
        return found if in_thread is None else [each for each in found if bool(each.thread) is in_thread]

    def _crashed_in_thread(self) -> bool | None:
        """Where a crash was, as faulthandler has told: in a thread other than the event loop's; None if it has not."""
        _, fatal, told = self.stack.text().rpartition(_FATAL)
        frames = FRAME.findall(told)
        if not fatal or not frames or _CUT in told:
            return None
        return bool(frames[-1][2] in _THREAD_BEGINS)

    def _read(self) -> list[float]:
        """All pages, as they were at one instant, if they do not change all the time."""
        pages = b""
        for _ in range(_READS_MAX):
            before, pages = pages, self._read_once()
            if pages == before:
                break
        return _sensible(pages)

    def _read_once(self) -> bytes:
        head = os.pread(self._running, _HEAD_BYTES, 0).ljust(_HEAD_BYTES, b"\0")
        (shown,) = struct.unpack_from("=d", head, THREADS_AT + 8 * thread_rows.SHOWN)
        rows = int(shown) if 0 < shown <= thread_rows.ROWS else 0
        length = 8 * thread_rows.ROW * rows
        return head + os.pread(self._running, length, _HEAD_BYTES).ljust(length, b"\0") if rows else head

    def label(self, number: int) -> Label:
        lines = os.pread(self._running, BYTES, LABELS_AT).split(b"\n")
        try:
            product, kind, name = json.loads(lines[number - 1]) if 0 < number < len(lines) else NO_LABEL
        except ValueError:
            return NO_LABEL
        return str(product), str(kind), str(name)


def _sensible(pages: bytes) -> list[float]:
    values = struct.unpack(f"={len(pages) // 8}d", pages)
    return [value if abs(value) < _SENSIBLE else 0.0 for value in values]


def _on_loop(page: Sequence[float], loop_s: float, limit_s: float) -> list[Running]:
    """The event that runs on the event loop, if one does, first; then the one that is stuck."""
    found = []
    stuck = int(page[STUCK_LABEL]) - 1
    if page[SINCE]:
        in_part, who = divmod(int(page[LABEL]), CHARGED_IN_PART)
        charged_s = page[CHARGED] if in_part else 0.0
        used_s = loop_s - page[CPU_LESS_WALL] - page[SINCE]
        if who == stuck and page[STUCK] > used_s:  # for what it uses in threads
            used_s, charged_s = page[STUCK], page[STUCK_CHARGED]
        found.append(_running(who, used_s, limit_s, charged_s, stuck=who == stuck))
    if stuck >= 0 and not (found and found[0].stuck):
        found.append(_running(stuck, page[STUCK], limit_s, page[STUCK_CHARGED], stuck=True))
    return found


def _burst(page: Sequence[float], for_no_event_s: float, limit_s: float) -> Running | None:
    """`for_no_event_s`: what Python's threads have used for no event so far."""
    since_s = max(0.0, for_no_event_s - page[native.PYTHON_USED])
    alone_s, by_python_s = page[native.ALONE] + since_s, page[native.BY_PYTHON] + since_s
    native_s, python_s = page[native.NATIVE_UNCHARGED], page[native.PYTHON_UNCHARGED] + since_s
    if page[native.BESIDE] > alone_s:
        who = int(page[native.NATIVE_LABEL]) | int(page[native.EVENT]) & WHOSE
        return _in_burst(who, page[native.BESIDE], limit_s, native_s)
    if not alone_s:
        return None
    by_python = by_python_s > alone_s / 2
    who = int(page[native.PYTHON_LABEL if by_python else native.NATIVE_LABEL])
    return _in_burst(who, alone_s, limit_s, python_s if by_python else native_s)


def _in_burst(who: int, used_s: float, limit_s: float, uncharged_s: float) -> Running:
    """More may be uncharged than counts as used: what was used beside an event has a limit of its own."""
    return Running(who >> LABEL_SHIFT, used_s, limit_s, who & WHOSE, charged_s=used_s - uncharged_s)


def _running(
    who: int,
    used_s: float,
    limit_s: float,
    charged_s: float,
    *,
    stuck: bool = False,
    thread: int = 0,
    threads: int = 1,
) -> Running:
    whose, failed = who & WHOSE, charged_s < 0
    return Running(who >> LABEL_SHIFT, used_s, limit_s, whose, stuck, thread, threads, abs(charged_s), failed)
