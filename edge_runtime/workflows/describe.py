"""An instance as it is shown to people: its steps with their attempts, results and errors, told from its journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from edge_runtime.actors.api import ActorAddress
from edge_runtime.store.api import Snapshot
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows import journal, payloads
from edge_runtime.workflows.instances import InstanceRecord
from edge_runtime.workflows.journal import (
    AttemptFailed,
    AttemptReleased,
    AttemptStarted,
    Created,
    Drifted,
    Entry,
    EventReceived,
    Finished,
    JournalBroken,
    StepFailed,
    StepKey,
    StepKind,
    StepStarted,
    StepSucceeded,
)

REDACTED: Final = "[REDACTED]"


@dataclass(slots=True)
class AttemptView:
    number: int
    started_ms: int
    ended_ms: int | None = None
    error: ErrorRecord | None = None
    interrupted: bool = False
    """Cut short by an orderly stop; it did not count."""

    @property
    def state(self) -> str:
        if self.ended_ms is None:
            return "running"
        if self.interrupted:
            return "interrupted"
        return "succeeded" if self.error is None else "failed"


@dataclass(slots=True)
class StepView:
    key: StepKey
    kind: StepKind
    position: int
    started_ms: int
    state: str
    """running, sleeping, waiting, retrying, interrupted, succeeded, failed or skipped."""
    ended_ms: int | None = None
    due_ms: int | None = None
    """When a sleep or the next attempt is due, or a wait ends."""
    event_type: str = ""
    output: Any = None
    error: ErrorRecord | None = None
    sensitive: bool = False
    attempts: list[AttemptView] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.key)


@dataclass(slots=True)
class Description:
    id: str
    record: InstanceRecord
    params: Any
    output: Any
    trigger: str
    steps: list[StepView]
    notes: list[str]
    """What was found wrong with the journal, and drift that belongs to no step that is shown."""


def describe(snapshot: Snapshot, address: ActorAddress, record: InstanceRecord) -> Description:
    """Read everything there is to show of an instance; a damaged journal is told in `notes`."""
    notes: list[str] = []
    try:
        entries = journal.load(snapshot, address.worker, address.namespace, address.id, record.seq).entries
    except JournalBroken as error:
        entries = []
        notes.append(f"journal: {error}")
    output = None if record.output is None else payloads.decode_plain(record.output)
    shown = Description(address.id, record, None, output, "", [], notes)
    steps: dict[StepKey, StepView] = {}
    for entry in entries:
        _tell(entry, shown, steps)
    shown.steps = list(steps.values())
    return shown


def _tell(entry: Entry, shown: Description, steps: dict[StepKey, StepView]) -> None:
    match entry:
        case Created():
            shown.params, shown.trigger = payloads.decode_plain(entry.params), entry.trigger
        case Finished():
            return
        case Drifted():
            if entry.key in steps:
                steps[entry.key].drift.append(entry.difference)
            else:
                shown.notes.append(f"{entry.key}: {entry.difference}")
        case StepStarted():
            steps[entry.key] = _begun(entry)
        case _:
            _advance(steps[entry.key], entry)


def _begun(entry: StepStarted) -> StepView:
    view = StepView(
        entry.key,
        entry.step,
        entry.position,
        entry.at_ms,
        "running",
        due_ms=entry.due_ms,
        event_type=entry.event_type,
        sensitive=entry.config is not None and entry.config.sensitive,
    )
    if entry.skipped:
        view.state, view.ended_ms = "skipped", entry.at_ms
    elif entry.step is StepKind.DO:
        view.attempts.append(AttemptView(1, entry.at_ms))
    else:
        view.state = "waiting" if entry.step is StepKind.WAIT else "sleeping"
    return view


def _advance(
    view: StepView,
    entry: AttemptStarted | AttemptFailed | AttemptReleased | StepSucceeded | EventReceived | StepFailed,
) -> None:
    last = view.attempts[-1] if view.attempts else None
    match entry:
        case AttemptStarted():
            view.state, view.due_ms = "running", None
            view.attempts.append(AttemptView(entry.attempt, entry.at_ms))
            return
        case AttemptFailed():
            view.state, view.due_ms = "retrying", entry.retry_at_ms
            error: ErrorRecord | None = entry.error
        case AttemptReleased():
            view.state = "interrupted"
            error = None
        case StepSucceeded():
            view.state, view.due_ms, view.ended_ms = "succeeded", None, entry.at_ms
            view.output = REDACTED if view.sensitive else payloads.decode_plain(entry.value)
            error = None
        case EventReceived():
            view.state, view.due_ms, view.ended_ms = "succeeded", None, entry.at_ms
            view.output = payloads.decode_plain(entry.payload)
            error = None
        case StepFailed():
            view.state, view.due_ms, view.ended_ms = "failed", None, entry.at_ms
            error = view.error = entry.error
    if last is not None:
        last.ended_ms, last.error, last.interrupted = entry.at_ms, error, isinstance(entry, AttemptReleased)
