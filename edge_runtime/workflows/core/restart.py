"""Beginning an instance anew, from the top or from one of its steps: which entries stay. Pure.

From a step: everything stays of the steps that began before it, results recorded later included; as with Cloudflare's
engine (workflows-shared, lib/restart.ts).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from edge_runtime.workflows.core.journal import (
    AttemptFailed,
    AttemptReleased,
    AttemptStarted,
    Created,
    Entry,
    EventReceived,
    Paused,
    PauseRequested,
    Restarted,
    Resumed,
    StepFailed,
    StepKey,
    StepKind,
    StepStarted,
    StepSucceeded,
)

TYPES: Final = ("do", "sleep", "waitForEvent")
_TYPE_OF: Final = {
    StepKind.DO: "do",
    StepKind.SLEEP: "sleep",
    StepKind.SLEEP_UNTIL: "sleep",
    StepKind.WAIT: "waitForEvent",
}


class Origin(msgspec.Struct, frozen=True):
    """A step as people name it: the `count`-th of this name and type, from 1, in the order of their starts."""

    name: str
    count: int = 1
    type: str = "do"
    """One of TYPES."""

    def __str__(self) -> str:
        return f"{self.type} {self.name!r}" + (f" number {self.count}" if self.count > 1 else "")


def find(entries: Sequence[Entry], origin: Origin) -> StepStarted | None:
    count = 0
    for entry in entries:
        if isinstance(entry, StepStarted) and entry.key.name == origin.name and _TYPE_OF.get(entry.step) == origin.type:
            count += 1
            if count == origin.count:
                return entry
    return None


def restarted(entries: Sequence[Entry], origin: Origin | None, now_ms: int) -> list[Entry]:
    """The entries to go on from, numbered anew. An origin that is not there means the end: every step stays."""
    start = None if origin is None else find(entries, origin)
    end_seq = start.seq if start is not None else 0 if origin is None else entries[-1].seq + 1
    kept: list[Entry] = []
    running: dict[StepKey, int] = {}  # of the steps that stay: the attempt that runs, or 0
    pause: list[Entry] = []
    for entry in entries:
        match entry:
            case Created() | Restarted():
                kept.append(entry)
            case StepStarted():
                if entry.seq < end_seq and entry.step is not StepKind.ROLLBACK:
                    kept.append(entry)
                    running[entry.key] = 1 if entry.step is StepKind.DO and not entry.skipped else 0
            case AttemptStarted():
                if entry.key in running:
                    kept.append(entry)
                    running[entry.key] = entry.attempt
            case AttemptFailed() | AttemptReleased() | StepSucceeded() | EventReceived() | StepFailed():
                if entry.key in running:
                    kept.append(entry)
                    running[entry.key] = 0
            case PauseRequested() | Paused():
                pause.append(entry)
            case Resumed():
                # It moved the timers of steps that stay.
                kept += [*pause, entry]
                pause.clear()
            case _:
                continue
    key = None if start is None else start.key
    kept.append(Restarted(seq=0, at_ms=now_ms, origin=key))
    once = {entry.key for entry in kept if isinstance(entry, StepStarted) and entry.at_most_once}
    kept += [
        AttemptReleased(seq=0, at_ms=now_ms, key=cut, attempt=attempt)
        for cut, attempt in running.items()
        if attempt > 0 and cut not in once
    ]
    return [msgspec.structs.replace(entry, seq=number) for number, entry in enumerate(kept, 1)]


def origin_of(entries: Sequence[Entry], shown: str) -> Origin | None:
    """The step that is shown by this name, or the first `do` step, or step, of it."""
    counts: dict[tuple[str, str], int] = {}
    found: list[tuple[bool, bool, Origin]] = []
    for entry in entries:
        if isinstance(entry, StepStarted) and (kind := _TYPE_OF.get(entry.step)) is not None:
            name = entry.key.name
            count = counts[name, kind] = counts.get((name, kind), 0) + 1
            if shown in (name, str(entry.key)):
                found.append((shown != str(entry.key), kind != "do", Origin(name, count, kind)))
    return min(found, key=lambda item: item[:2])[2] if found else None
