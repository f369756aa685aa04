"""The panel: what an isolate shows its supervisor without being asked, and even while its event loop is blocked.

Two anonymous files that both have open. The first holds the pages of `metering.loop_thread`, `metering.native` and
`metering.thread_rows`, which say what events run and how much they have used, and the labels of events. Into the second
the isolate's stack is written (`stack_file`). Here is the isolate's side; the supervisor's is `panel_reader`.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
from collections.abc import Hashable
from typing import Final

from edge_runtime.metering import native, thread_rows, threads
from edge_runtime.metering.loop_thread import CHARGED_IN_PART, PAGE_BYTES, show_running_on
from edge_runtime.metering.stack_file import STACK_SIGNAL

LABEL_SHIFT: Final = 39
"""In the numbers on the page: below it is the number of the connection whose request the event answers (see
`connection_marks.number_of`) or of the actor whose event it is (see `actor_number`), or 0."""
WHOSE: Final = (1 << LABEL_SHIFT) - 1
ACTOR: Final = 1 << LABEL_SHIFT - 1
"""In the number of every actor, and above those of all connections."""
BURST_AT: Final = PAGE_BYTES
"""The page of the loop's thread comes first."""
THREADS_AT: Final = BURST_AT + native.PAGE_BYTES
LABELS_AT: Final = -(THREADS_AT + thread_rows.PAGE_BYTES) // mmap.PAGESIZE * -mmap.PAGESIZE
BYTES: Final = 256 * 1024
"""Of the first file: labels beyond that have no room, and their events are told by number 0."""
_LABELS_MAX: Final = CHARGED_IN_PART // (1 << LABEL_SHIFT) - 1

Label = tuple[str, str, str]
"""Product, kind and name, as the ledger has them."""


def actor_number(address: Hashable) -> int:
    """By which isolates of one worker know an actor, as long as their zygote lives: they share the seed of hashes."""
    return hash(address) & WHOSE | ACTOR


class Panel:
    """The two files, of the isolate that shows itself in them."""

    def __init__(self) -> None:
        self.descriptors = os.memfd_create("edge-running"), os.memfd_create("edge-stack")
        os.ftruncate(self.descriptors[0], BYTES)
        self._memory = mmap.mmap(self.descriptors[0], BYTES)
        self._end = LABELS_AT
        self._labels: dict[Label, float] = {}

    def show(self) -> None:
        """Begin to show what runs and, when asked, where."""
        page = memoryview(self._memory)[:LABELS_AT].cast("d")
        show_running_on(page[: BURST_AT // 8])
        native.show_burst_on(page[BURST_AT // 8 : THREADS_AT // 8])
        threads.show_threads_on(page[THREADS_AT // 8 :])
        faulthandler.register(STACK_SIGNAL, self.descriptors[1], all_threads=False)
        faulthandler.enable(self.descriptors[1], all_threads=False)

    def label(self, product: str, kind: str, name: str) -> float:
        """The number by which the supervisor will find these; that of a connection or actor can be added to it.

        A whole one, in floating point: to store an integer of this size on the page takes twice as long.
        """
        key = (product, kind, name)
        number = self._labels.get(key)
        if number is None:
            line = json.dumps(key).encode() + b"\n"
            if self._end + len(line) > BYTES or len(self._labels) >= _LABELS_MAX:
                return 0.0
            self._memory[self._end : self._end + len(line)] = line
            self._end += len(line)
            number = self._labels[key] = float((len(self._labels) + 1) << LABEL_SHIFT)
        return number
