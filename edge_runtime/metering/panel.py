"""The panel: what an isolate shows its supervisor without being asked, and even while its event loop is blocked.

Two anonymous files that both have open. The first holds the page of `metering.measure`, which says what event runs and
when it reaches its limit, and the labels of events. Into the second the isolate's stack is written on a signal, by
native code, whatever the script is doing. The supervisor reads them as files: nothing that a hostile script does to
them harms it.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import re
import signal
import struct
from dataclasses import dataclass
from typing import Final

from edge_runtime.metering.measure import DEADLINE, LABEL, PAGE_BYTES, STUCK_LABEL, STUCK_NS, show_running_on

_LABEL_SHIFT: Final = 24
"""In the numbers on the page: below it is that of the connection whose request the event answers, or 0 (see
`connection_marks.number_of`)."""
_CONNECTION: Final = (1 << _LABEL_SHIFT) - 1
_LABELS_AT: Final = mmap.PAGESIZE
_BYTES: Final = 256 * 1024
"""Of the first file: labels beyond that have no room, and their events are told by number 0."""
_STACK_READ: Final = 64 * 1024
_STACK_SIGNAL: Final = signal.SIGURG
"""Ignored by processes that do not handle it, so one that a script has taken off its handler is not harmed."""
_FRAME: Final = re.compile(r'  File "(.*)", line (\d+) in (.*)')

Label = tuple[str, str, str]
"""Product, kind and name, as the ledger has them."""
NO_LABEL: Final[Label] = ("worker", "unknown", "")


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
        show_running_on(memoryview(self._memory)[:PAGE_BYTES].cast("q"))
        faulthandler.register(_STACK_SIGNAL, self.descriptors[1], all_threads=False)

    def label(self, product: str, kind: str, name: str) -> int:
        """The number by which the supervisor will find these; a connection's can be added to it by `|`."""
        key = (product, kind, name)
        number = self._labels.get(key)
        if number is None:
            line = json.dumps(key).encode() + b"\n"
            if self._end + len(line) > _BYTES:
                return 0
            self._memory[self._end : self._end + len(line)] = line
            self._end += len(line)
            number = self._labels[key] = (len(self._labels) + 1) << _LABEL_SHIFT
        return number


@dataclass(frozen=True, slots=True)
class Running:
    """An event whose code runs, or that has gone on after it was stopped."""

    label: int
    over_ns: int
    """By how much it has passed its limit; negative before that."""
    stuck: bool
    """It was stopped several times and goes on."""
    connection: int
    """The number of the one that it answers a request of, 0 if there is none."""
    uncharged_ns: int | None = None
    """What it used and is not in the ledger, where that is not its limit and `over_ns`: its event has ended."""


class PanelReader:
    """The supervisor's side. What it reads is hostile input; a number that makes no sense is as good as none."""

    def __init__(self, running: int, stack: int) -> None:
        self._running = running
        self._stack = stack

    def close(self) -> None:
        os.close(self._running)
        os.close(self._stack)

    def running(self, loop_ns: int) -> Running | None:
        """`loop_ns`: the CPU clock of the isolate's loop. None while no event's code runs."""
        page = os.pread(self._running, PAGE_BYTES, 0)
        if len(page) < PAGE_BYTES:
            return None
        values = struct.unpack(f"={PAGE_BYTES // 8}q", page)
        if values[DEADLINE]:
            who = values[LABEL]
            stuck = bool(values[STUCK_LABEL])
            return Running(who >> _LABEL_SHIFT, loop_ns - values[DEADLINE], stuck, who & _CONNECTION)
        if values[STUCK_LABEL]:
            who = values[STUCK_LABEL] - 1
            return Running(who >> _LABEL_SHIFT, 0, True, who & _CONNECTION, values[STUCK_NS])
        return None

    def label(self, number: int) -> Label:
        lines = os.pread(self._running, _BYTES, _LABELS_AT).split(b"\n")
        try:
            product, kind, name = json.loads(lines[number - 1]) if 0 < number < len(lines) else NO_LABEL
        except ValueError:
            return NO_LABEL
        return str(product), str(kind), str(name)

    def ask_for_stack(self, pidfd: int) -> None:
        try:
            os.ftruncate(self._stack, 0)
            os.lseek(self._stack, 0, os.SEEK_SET)
            signal.pidfd_send_signal(pidfd, _STACK_SIGNAL)
        except (OSError, ProcessLookupError):
            pass  # dead, or it has sealed the file: then there is no answer

    def stack(self) -> list[tuple[str, int, str]]:
        """The answer, innermost first: file, line and function; empty if there is none."""
        text = os.pread(self._stack, _STACK_READ, 0).decode("utf-8", "replace")
        return [(file, int(line), function) for file, line, function in _FRAME.findall(text)]
