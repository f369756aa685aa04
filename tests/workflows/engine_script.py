"""A script and its driver as the workflow engine sees them: inputs put in, effects shown as text."""

from __future__ import annotations

from collections.abc import Sequence

from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core.effects import (
    Append,
    AskDelay,
    AttemptSucceeded,
    Breathe,
    Consume,
    Effect,
    Error,
    Fault,
    Finish,
    Input,
    Received,
    Refuse,
    Relaunch,
    Resolve,
    SetTimer,
    SleepRequested,
    StartAttempt,
    StepRequested,
    StopRun,
    Suspend,
    Value,
    WaitRequested,
)
from edge_runtime.workflows.core.engine import Engine
from edge_runtime.workflows.core.journal import (
    AttemptFailed,
    Backoff,
    Created,
    Drifted,
    Entry,
    Finished,
    Paused,
    PauseRequested,
    Resumed,
    RollbackEnded,
    RollbackStarted,
    StepConfig,
    StepFailed,
    StepKey,
    StepKind,
    StepStarted,
)

CONFIG = StepConfig(2, 1000, Backoff.EXPONENTIAL, 600_000)
CREATED = Created(seq=1, at_ms=0, params=b"")
OOPS = ErrorRecord("ValueError", "oops")


def show(effect: Effect) -> str:
    match effect:
        case Append(entry):
            return f"append {entry.seq} {_entry(entry)}"
        case Resolve(key, Value(encoded), seq):
            return f"resolve {key} {encoded!r} from {seq}"
        case Resolve(key, Received(event_type, payload, _), seq):
            return f"resolve {key} event {event_type} {payload!r} from {seq}"
        case Resolve(key, Error(record), seq):
            return f"resolve {key} {record.name} from {seq}"
        case StartAttempt(key, attempt, _, after_commit, undo):
            result = "" if undo is None else f" undo {undo.key} {undo.result.encoded if undo.result else None!r}"
            return f"start {key} attempt {attempt}{' after commit' if after_commit else ''}{result}"
        case StopRun():
            return "stop run"
        case Suspend():
            return "suspend"
        case Relaunch():
            return "relaunch"
        case AskDelay(key, attempt, _):
            return f"ask delay {key} after attempt {attempt}"
        case SetTimer(due_ms):
            return f"timer {due_ms}"
        case Consume(inbox_key):
            return f"consume {inbox_key!r}"
        case Refuse(key, error):
            return f"refuse {key} {error.name}"
        case Breathe():
            return "breathe"
        case Fault(difference):
            return f"fault {difference}"
        case Finish(status, _, error):
            return f"finish {status}{f' {error.name}' if error else ''}"


def _entry(entry: Entry) -> str:
    kind = entry.__struct_config__.tag
    match entry:
        case StepStarted():
            return f"{entry.step} {entry.key}{' skipped' if entry.skipped else ''}"
        case AttemptFailed():
            return f"{kind} {entry.key} attempt {entry.attempt} retry at {entry.retry_at_ms}"
        case Drifted():
            return f"{kind} {entry.key} {entry.difference}"
        case StepFailed():
            return f"{kind} {entry.key} {entry.error.name}"
        case Finished():
            return f"{kind} {entry.status}"
        case RollbackEnded():
            return f"{kind} {entry.completed} of {entry.total}"
        case Created() | PauseRequested() | Paused() | Resumed() | RollbackStarted():
            return str(kind)
        case _:
            return f"{kind} {entry.key}"


class Script:
    """Puts inputs into an engine as a script and its driver would, and keeps what the engine appended."""

    def __init__(self, entries: Sequence[Entry] = (CREATED,), **options) -> None:
        self.entries = list(entries)
        self.engine = Engine(lambda seq: self.entries[seq - 1], **options)
        self.engine.load(self.entries)
        self.now_ms = 0

    def put(self, input: Input, at_ms: int | None = None) -> list[str]:
        self.now_ms = self.now_ms if at_ms is None else at_ms
        effects = self.engine.apply(input, self.now_ms)
        self.entries += [effect.entry for effect in effects if isinstance(effect, Append)]
        return [show(effect) for effect in effects]

    def do(self, name: str, config: StepConfig = CONFIG, at_ms: int | None = None, **options) -> list[str]:
        key, position = self.engine.reserve((), name)
        return self.put(StepRequested(key, position, config, **options), at_ms)

    def sleep(self, name: str, ms: int, step: StepKind = StepKind.SLEEP) -> list[str]:
        key, position = self.engine.reserve((), name)
        fingerprint = f"{ms} ms" if step is StepKind.SLEEP else ""
        return self.put(SleepRequested(key, position, step, self.now_ms + ms, fingerprint))

    def wait(self, name: str, event_type: str, timeout_ms: int = 5000) -> list[str]:
        key, position = self.engine.reserve((), name)
        return self.put(WaitRequested(key, position, event_type, timeout_ms))

    def done(self, name: str, value: bytes = b"v", attempt: int = 1, at_ms: int | None = None) -> list[str]:
        return self.put(AttemptSucceeded(key(name), attempt, value), at_ms)

    def again(self, **options) -> Script:
        """The next activation, from what this one appended."""
        next_one = Script(self.entries, **options)
        next_one.now_ms = self.now_ms
        return next_one


def key(name: str, occurrence: int = 1) -> StepKey:
    return StepKey((), name, occurrence)
