"""The panel: what an isolate shows its supervisor without being asked, and even while its event loop is blocked.

Two anonymous files that both have open. The first holds the pages of `metering.measure` and `metering.threads`, which
say what events run and how much they have used, and the labels of events. Into the second the isolate's stack is
written on a signal, by native code, whatever the script is doing. The supervisor reads them as files: nothing that a
hostile script does to them harms it.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import re
import signal
import struct
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from edge_runtime.metering import native, threads
from edge_runtime.metering.measure import (
    CHARGED,
    CHARGED_IN_PART,
    DEADLINE,
    EXITING,
    EXITING_LOOP,
    LABEL,
    PAGE_BYTES,
    STUCK,
    STUCK_CHARGED,
    STUCK_LABEL,
    show_running_on,
)

_LABEL_SHIFT: Final = 39
"""In the numbers on the page: below it is the number of the connection whose request the event answers (see
`connection_marks.number_of`) or of the actor whose event it is (see `actor_number`), or 0."""
_WHOSE: Final = (1 << _LABEL_SHIFT) - 1
_ACTOR: Final = 1 << _LABEL_SHIFT - 1
"""In the number of every actor, and above those of all connections."""
_PAGE_BYTES: Final = PAGE_BYTES + threads.PAGE_BYTES
"""Of the loop's thread, then of the others that run events."""
_BURST_AT: Final = _PAGE_BYTES
_LABELS_AT: Final = mmap.PAGESIZE
_BYTES: Final = 256 * 1024
"""Of the first file: labels beyond that have no room, and their events are told by number 0."""
_LABELS_MAX: Final = CHARGED_IN_PART // (1 << _LABEL_SHIFT) - 1
_SENSIBLE: Final = 2.0**53
"""What is not smaller is none of our numbers."""
_STACK_READ: Final = 64 * 1024
_STACK_SIGNAL: Final = signal.SIGURG
"""Ignored by processes that do not handle it, so one that a script has taken off its handler is not harmed."""
_FRAME: Final = re.compile(r'  File "(.*)", line (\d+) in (.*)')
_FATAL: Final = "Fatal Python error:"
_THREAD_BEGINS: Final = "_bootstrap"
"""Outermost function of every thread that Python has started."""
_CUT: Final = "\n  ...\n"

Stack = list[tuple[str, int, str]]
"""File, line and function of frames."""

Label = tuple[str, str, str]
"""Product, kind and name, as the ledger has them."""
NO_LABEL: Final[Label] = ("worker", "unknown", "")


def actor_number(address: Hashable) -> int:
    """By which isolates of one worker know an actor, as long as their zygote lives: they share the seed of hashes."""
    return hash(address) & _WHOSE | _ACTOR


@contextmanager
def stack_shown_in(file: int) -> Iterator[None]:
    """Answer in the block who asks by a `StackReader` of the file."""
    faulthandler.register(_STACK_SIGNAL, file, all_threads=False)
    try:
        yield
    finally:
        faulthandler.unregister(_STACK_SIGNAL)


class Panel:
    """The isolate's side."""

    def __init__(self) -> None:
        self.descriptors = os.memfd_create("edge-running"), os.memfd_create("edge-stack")
        os.ftruncate(self.descriptors[0], _BYTES)
        self._memory = mmap.mmap(self.descriptors[0], _BYTES)
        self._end = _LABELS_AT
        self._labels: dict[Label, int] = {}

    def show(self) -> None:
        """Begin to show what runs and, when asked, where."""
        page = memoryview(self._memory)[:_PAGE_BYTES].cast("d")
        show_running_on(page[: PAGE_BYTES // 8])
        threads.show_threads_on(page[PAGE_BYTES // 8 :])
        native.show_burst_on(memoryview(self._memory)[_BURST_AT : _BURST_AT + native.PAGE_BYTES].cast("d"))
        faulthandler.register(_STACK_SIGNAL, self.descriptors[1], all_threads=False)
        faulthandler.enable(self.descriptors[1], all_threads=False)

    def label(self, product: str, kind: str, name: str) -> int:
        """The number by which the supervisor will find these; that of a connection or actor can be added by `|`."""
        key = (product, kind, name)
        number = self._labels.get(key)
        if number is None:
            line = json.dumps(key).encode() + b"\n"
            if self._end + len(line) > _BYTES or len(self._labels) >= _LABELS_MAX:
                return 0
            self._memory[self._end : self._end + len(line)] = line
            self._end += len(line)
            number = self._labels[key] = (len(self._labels) + 1) << _LABEL_SHIFT
        return number


@dataclass(frozen=True, slots=True)
class Running:
    """An event whose code runs, or that has gone on after it was stopped."""

    label: int
    over_s: float
    """By how much it has passed its limit; negative before that."""
    limit_s: float
    whose: int
    """The number of the connection that it answers a request of, or of its actor; 0 if there is neither."""
    stuck: bool = False
    """It was stopped several times and goes on."""
    thread: int = 0
    """The kernel's id of the thread that runs it, unless that is the event loop's."""
    charged_s: float = 0.0
    """How much of what it used was charged; if that is anything, the event was counted too."""
    failed: bool = False
    """It was counted as one that has failed."""

    @property
    def connection(self) -> int:
        """The number of the one that it answers a request of, 0 if there is none."""
        return 0 if self.whose & _ACTOR else self.whose

    @property
    def actor(self) -> int:
        """The number of the actor whose event it is, 0 if there is none."""
        return self.whose if self.whose & _ACTOR else 0

    @property
    def uncharged_s(self) -> float:
        return self.limit_s + self.over_s - self.charged_s


class PanelReader:
    """The supervisor's side. What it reads is hostile input; a number that makes no sense is as good as none."""

    def __init__(self, running: int, stack: int) -> None:
        self._running = running
        self.stack = StackReader(stack)

    def close(self) -> None:
        os.close(self._running)
        self.stack.close()

    def running(self, loop_s: float, thread_s: Callable[[int], float | None], limit_s: float) -> list[Running]:
        """The event that runs on the event loop, if one does, first; the one that is stuck; those in threads.

        Args:
            loop_s: the CPU clock of the isolate's loop.
            thread_s: gives that of another of its threads, None if it has none of that id.
            limit_s: how much an event may use.
        """
        values = self._read()
        found = []
        stuck = int(values[STUCK_LABEL]) - 1
        if values[DEADLINE]:
            in_part, who = divmod(int(values[LABEL]), CHARGED_IN_PART)
            charged_s = values[CHARGED] if in_part else 0.0
            over_s = loop_s - values[DEADLINE]
            if who == stuck and values[STUCK] - limit_s > over_s:  # for what it uses in threads
                over_s, charged_s = values[STUCK] - limit_s, values[STUCK_CHARGED]
            found.append(_running(who, over_s, limit_s, charged_s, stuck=who == stuck))
        if stuck >= 0 and not (found and found[0].stuck):
            found.append(_running(stuck, values[STUCK] - limit_s, limit_s, values[STUCK_CHARGED], stuck=True))
        for row in range(PAGE_BYTES // 8, len(values), threads.ROW):
            thread, label, base_s, own_limit_s, charged_s = values[row : row + threads.ROW]
            now_s = thread_s(int(thread)) if thread else None
            if now_s is not None:
                over_s = now_s - base_s - own_limit_s
                found.append(_running(int(label), over_s, own_limit_s, charged_s, thread=int(thread)))
        return found

    def burst(self, limit_s: float) -> Running | None:
        """What runs for no event, and how much of what one event may use it has used since it rested; None if that is
        nothing."""
        values = _sensible(os.pread(self._running, native.PAGE_BYTES, _BURST_AT), native.PAGE_BYTES)
        used_s = values[native.BURST]
        if not used_s:
            return None
        who = int(values[native.LABEL]) | int(values[native.EVENT]) & _WHOSE
        return _running(who, used_s - limit_s, limit_s, used_s - values[native.UNCHARGED])

    def left(self, *, crashed: bool) -> list[Running]:
        """Whose code ended a dead isolate, as far as its page says; of all that may have, without times, first that on
        the event loop. `crashed`: it was ended by a signal that native code gets for what it did."""
        values = self._read()
        found = []
        if values[DEADLINE]:
            found.append(_running(int(values[LABEL]) % CHARGED_IN_PART, 0.0, 0.0, 0.0))
        found.extend(
            _running(int(values[row + threads.LABEL]), 0.0, 0.0, 0.0, thread=int(values[row + threads.THREAD]))
            for row in range(PAGE_BYTES // 8, len(values), threads.ROW)
            if values[row + threads.THREAD]
        )
        exiting = values[EXITING]
        if exiting:
            return [each for each in found if (each.thread or EXITING_LOOP) == exiting]
        in_thread = self._crashed_in_thread() if crashed else None
        return found if in_thread is None else [each for each in found if bool(each.thread) is in_thread]

    def _crashed_in_thread(self) -> bool | None:
        """Where a crash was, as faulthandler has told: in a thread other than the event loop's; None if it has not."""
        _, fatal, told = self.stack.text().rpartition(_FATAL)
        frames = _FRAME.findall(told)
        if not fatal or not frames or _CUT in told:
            return None
        return bool(frames[-1][2] == _THREAD_BEGINS)

    def _read(self) -> list[float]:
        return _sensible(os.pread(self._running, _PAGE_BYTES, 0), _PAGE_BYTES)

    def label(self, number: int) -> Label:
        lines = os.pread(self._running, _BYTES, _LABELS_AT).split(b"\n")
        try:
            product, kind, name = json.loads(lines[number - 1]) if 0 < number < len(lines) else NO_LABEL
        except ValueError:
            return NO_LABEL
        return str(product), str(kind), str(name)


class StackReader:
    """Where another process is: asked by a signal, answered into a file that both have open."""

    def __init__(self, file: int) -> None:
        self._file = file

    def close(self) -> None:
        os.close(self._file)

    def ask(self, pidfd: int) -> None:
        try:
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            signal.pidfd_send_signal(pidfd, _STACK_SIGNAL)
        except (OSError, ProcessLookupError):
            pass  # dead, or it has sealed the file: then there is no answer

    def read(self) -> Stack:
        """The answer, innermost first; empty if there is none."""
        return [(file, int(line), function) for file, line, function in _FRAME.findall(self.text())]

    def text(self) -> str:
        """What faulthandler has written, of a crash too."""
        return os.pread(self._file, _STACK_READ, 0).decode("utf-8", "replace")


def _sensible(page: bytes, length: int) -> list[float]:
    values = struct.unpack(f"={length // 8}d", page.ljust(length, b"\0"))
    return [value if abs(value) < _SENSIBLE else 0.0 for value in values]


def _running(
    who: int, over_s: float, limit_s: float, charged_s: float, *, stuck: bool = False, thread: int = 0
) -> Running:
    return Running(who >> _LABEL_SHIFT, over_s, limit_s, who & _WHOSE, stuck, thread, abs(charged_s), charged_s < 0)
