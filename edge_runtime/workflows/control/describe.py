"""An instance as it is shown to people: its steps with their attempts, results and errors, told from its journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from edge_runtime.actors.api import ActorAddress
from edge_runtime.store.api import Snapshot
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core.journal import (
    AttemptFailed,
    AttemptReleased,
    AttemptStarted,
    Created,
    Drifted,
    Entry,
    EventReceived,
    Finished,
    Paused,
    PauseRequested,
    Restarted,
    Resumed,
    RollbackEnded,
    RollbackStarted,
    StepFailed,
    StepKey,
    StepKind,
    StepStarted,
    StepSucceeded,
)
from edge_runtime.workflows.core.kept_stream import MARK, KeptStream
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.stored import blocks, inbox
from edge_runtime.workflows.stored.blocks import JournalBroken
from edge_runtime.workflows.stored.instances import InstanceRecord, Status
from edge_runtime.workflows.stored.streams import KeptStreams

REDACTED: Final = "[REDACTED]"


@dataclass(slots=True)
class AttemptView:
    number: int
    started_ms: int
    ended_ms: int | None = None
    error: ErrorRecord | None = None
    cpu_us: int = 0
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
    """running, sleeping, waiting, retrying, interrupted, succeeded, failed, skipped; and cut where the instance ended
    before the step did."""
    ended_ms: int | None = None
    due_ms: int | None = None
    """When a sleep or the next attempt is due, or a wait ends."""
    event_type: str = ""
    output: Any = None
    """Of a stream the beginning."""
    stream: KeptStream | None = None
    error: ErrorRecord | None = None
    sensitive: bool = False
    rollback: bool = False
    """It has a rollback handler."""
    attempts: list[AttemptView] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.key)

    @property
    def cpu_us(self) -> int:
        return sum(attempt.cpu_us for attempt in self.attempts)


class Moment(NamedTuple):
    """Something that happened to the instance as a whole."""

    at_ms: int
    text: str


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
    moments: list[Moment] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    """Commands that the instance has not yet taken."""
    events_waiting: int = 0
    cron: str = ""

    @property
    def awaited(self) -> list[StepView]:
        """What the instance waits for, soonest first."""
        if self.record.status not in (Status.WAITING, Status.PAUSED, Status.QUEUED):
            return []
        open_steps = [step for step in self.steps if step.due_ms is not None]
        return sorted(open_steps, key=lambda step: step.due_ms or 0)


def describe(snapshot: Snapshot, address: ActorAddress, record: InstanceRecord) -> Description:
    """Read everything there is to show of an instance; a damaged journal is told in `notes`."""
    notes: list[str] = []
    try:
        entries = blocks.load(snapshot, address.worker, address.namespace, address.id, record.seq).entries
    except JournalBroken as error:
        entries = []
        notes.append(f"journal: {error}")
    output = None if record.output is None else payloads.decode_plain(record.output)
    shown = Description(address.id, record, None, output, "", [], notes)
    shown.events_waiting = sum(1 for _ in inbox.event_keys(snapshot, address))
    shown.pending += map(inbox.name_of, inbox.read_commands(snapshot, address))
    steps: dict[StepKey, StepView] = {}
    pausing_ms = 0
    for entry in entries:
        if isinstance(entry, PauseRequested):
            pausing_ms = entry.since_ms
        elif isinstance(entry, Resumed):
            _shift(steps, pausing_ms, entry.until_ms)
        _tell(entry, shown, steps)
    shown.steps = list(steps.values())
    streams = KeptStreams(snapshot, address)
    for step in shown.steps:
        if step.stream is not None and not step.sensitive:
            step.output = streams.preview(step.key, step.stream)
    if record.finished:
        for step in shown.steps:
            if step.ended_ms is None:
                step.state, step.due_ms = "cut", None
    return shown


def _shift(steps: dict[StepKey, StepView], since_ms: int, until_ms: int) -> None:
    for step in steps.values():
        if step.due_ms is not None:
            last = step.attempts[-1].ended_ms if step.attempts else None
            step.due_ms += max(0, until_ms - max(since_ms, last or step.started_ms))


def _tell(entry: Entry, shown: Description, steps: dict[StepKey, StepView]) -> None:
    match entry:
        case Created():
            shown.params, shown.trigger = payloads.decode_plain(entry.params), entry.trigger
            shown.cron = entry.cron
        case PauseRequested():
            shown.moments.append(Moment(entry.at_ms, "pause requested"))
        case Paused():
            shown.moments.append(Moment(entry.at_ms, "paused"))
        case Resumed():
            shown.moments.append(Moment(entry.at_ms, "resumed"))
        case Restarted():
            origin = "" if entry.origin is None else f" from {entry.origin}"
            shown.moments.append(Moment(entry.at_ms, f"restarted{origin}"))
        case RollbackStarted():
            text = f"rollback of {entry.total} steps started: {entry.error.name}: {entry.error.message}"
            shown.moments.append(Moment(entry.at_ms, text))
        case RollbackEnded():
            outcome = "complete" if entry.completed == entry.total else "failed"
            shown.moments.append(
                Moment(entry.at_ms, f"rollback {outcome}: {entry.completed} of {entry.total} steps undone")
            )
        case Finished():
            shown.moments.append(Moment(entry.at_ms, entry.status))
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
        rollback=entry.rollback is not None,
    )
    if entry.skipped:
        view.state, view.ended_ms = "skipped", entry.at_ms
    elif entry.step in (StepKind.DO, StepKind.ROLLBACK):
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
            view.stream = KeptStream.decode(entry.value) if entry.value[:1] == MARK else None
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
        last.cpu_us = 0 if isinstance(entry, AttemptReleased | EventReceived) else entry.cpu_us
