"""What of a workflow's journal is billed: the durable operations, and the bytes that they leave.

Counted by kind, so that tariffs which count differently (operations with their retries, transitions between steps)
can all be computed from the same ledger.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from edge_runtime.metering.quantities import BYTES_PERSISTED, EXECUTIONS, SLEEPS, STEP_RETRIES, STEPS, WAITS
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core.journal import (
    AttemptFailed,
    Created,
    Entry,
    EventReceived,
    StepFailed,
    StepKind,
    StepStarted,
    StepSucceeded,
)
from edge_runtime.workflows.core.kept_stream import MARK, KeptStream

_STARTED: Final = {
    **dict.fromkeys(StepKind, STEPS),
    StepKind.SLEEP: SLEEPS,
    StepKind.SLEEP_UNTIL: SLEEPS,
    StepKind.WAIT: WAITS,
}


def count_start(quantities: defaultdict[str, int], created: Created) -> None:
    """An instance begins to run for the first time."""
    quantities[EXECUTIONS] += 1
    quantities[BYTES_PERSISTED] += len(created.params)


def count_end(quantities: defaultdict[str, int], output: bytes | None, error: ErrorRecord | None) -> None:
    """An instance has ended: no operation, but bytes that are kept."""
    quantities[BYTES_PERSISTED] += _size(error) if output is None else len(output)


def count_entry(quantities: defaultdict[str, int], entry: Entry) -> None:
    """Count an entry as it is appended: steps, sleeps and waits when they begin, retries when an attempt has failed,
    payloads when they are recorded."""
    # What every step has comes first, and is told by its type alone.
    if type(entry) is StepStarted:
        if not entry.skipped:
            quantities[_STARTED[entry.step]] += 1
        return
    if type(entry) is StepSucceeded:
        value = entry.value
        quantities[BYTES_PERSISTED] += len(value) if value[:1] != MARK else KeptStream.decode(value).size
        return
    match entry:
        case AttemptFailed():
            quantities[STEP_RETRIES] += 1
            quantities[BYTES_PERSISTED] += _size(entry.error)
        case StepFailed():
            quantities[BYTES_PERSISTED] += _size(entry.error)
        case EventReceived():
            quantities[BYTES_PERSISTED] += len(entry.payload)
        case _:
            pass


def _size(error: ErrorRecord | None) -> int:
    return 0 if error is None else len(error.name) + len(error.message) + len(error.traceback)
