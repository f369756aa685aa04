"""What goes into the engine and what comes out of it, as data. Nothing here does anything.

Structs rather than dataclasses: several are made for each step, and a frozen dataclass takes six times as long to make.
"""

from __future__ import annotations

import msgspec

from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core.journal import Entry, StepConfig, StepKey, StepKind

# Results of steps


class Value(msgspec.Struct, frozen=True):
    """What a step returned, encoded; b"" for a sleep, None for a skipped step."""

    encoded: bytes | None


class Received(msgspec.Struct, frozen=True):
    """The event that a wait waited for; `payload` is encoded."""

    event_type: str
    payload: bytes
    sent_ms: int


class Error(msgspec.Struct, frozen=True):
    record: ErrorRecord


Result = Value | Received | Error

# Inputs


class StepRequested(msgspec.Struct, frozen=True):
    """The script called `step.do`. `condition` is the value of `when`; True where there is none."""

    key: StepKey
    position: int
    config: StepConfig
    condition: bool = True
    at_most_once: bool = False
    rollback: StepConfig | None = None
    """The step has a rollback handler, to be run with this configuration."""


class SleepRequested(msgspec.Struct, frozen=True):
    """The script called `step.sleep` (then the fingerprint tells the duration) or `step.sleep_until`."""

    key: StepKey
    position: int
    step: StepKind
    due_ms: int
    fingerprint: str


class WaitRequested(msgspec.Struct, frozen=True):
    key: StepKey
    position: int
    event_type: str
    timeout_ms: int


class ValueRequested(msgspec.Struct, frozen=True):
    """The script asked for a value that is not the same each time, such as the present time. `value` (encoded) is what
    it gets if none is recorded."""

    key: StepKey
    position: int
    step: StepKind
    value: bytes


class AttemptSucceeded(msgspec.Struct, frozen=True):
    key: StepKey
    attempt: int
    value: bytes
    cpu_us: int = 0


class AttemptRaised(msgspec.Struct, frozen=True):
    key: StepKey
    attempt: int
    error: ErrorRecord
    retryable: bool = True
    cpu_us: int = 0
    retry_after_ms: int | None = None
    """What the error itself says of when to try again."""


class DelayComputed(msgspec.Struct, frozen=True):
    """The answer to `AskDelay`: milliseconds, or the error that ends the step."""

    key: StepKey
    attempt: int
    delay_ms: int
    error: ErrorRecord | None = None


class TimerFired(msgspec.Struct, frozen=True):
    """The instance's timer is due. What had been sent by then of what is waited for has been put in before."""


class EventArrived(msgspec.Struct, frozen=True):
    """An event in the inbox, those of one type in the order of sending. `inbox_key` is where it is stored until
    consumed."""

    inbox_key: bytes
    event_type: str
    payload: bytes
    sent_ms: int


class PauseAsked(msgspec.Struct, frozen=True):
    """As every command: `inbox_key` is where it is stored until consumed, `sent_ms` when it was sent."""

    inbox_key: bytes
    sent_ms: int


class ResumeAsked(msgspec.Struct, frozen=True):
    inbox_key: bytes
    sent_ms: int


class TerminateAsked(msgspec.Struct, frozen=True):
    inbox_key: bytes
    sent_ms: int
    rollback: bool = False


class RunReturned(msgspec.Struct, frozen=True):
    output: bytes


class RunRaised(msgspec.Struct, frozen=True):
    error: ErrorRecord
    rollback: bool = True
    """False: the instance ends at once, nothing is undone."""


class RunStopped(msgspec.Struct, frozen=True):
    """The answer to `StopRun`."""


class Woken(msgspec.Struct, frozen=True):
    """The activation begins: go on with what needs no script."""


class Delivered(msgspec.Struct, frozen=True):
    """The script has had the chance to react to the last `Resolve`."""


class Stalled(msgspec.Struct, frozen=True):
    """The script waits for results that are held back for steps which it does not ask for."""


class Stopped(msgspec.Struct, frozen=True):
    """The activation ends in an orderly way; running attempts have been cancelled. No input follows."""


Input = (
    StepRequested
    | SleepRequested
    | WaitRequested
    | ValueRequested
    | AttemptSucceeded
    | AttemptRaised
    | DelayComputed
    | TimerFired
    | EventArrived
    | PauseAsked
    | ResumeAsked
    | TerminateAsked
    | RunReturned
    | RunRaised
    | RunStopped
    | Woken
    | Delivered
    | Stalled
    | Stopped
)

# Effects. Append, Consume and SetTimer of one input are committed together, in one batch.


class Append(msgspec.Struct, frozen=True):
    entry: Entry


class Consume(msgspec.Struct, frozen=True):
    """Remove an event from the inbox."""

    inbox_key: bytes


class SetTimer(msgspec.Struct, frozen=True):
    """None: the instance waits for no time."""

    due_ms: int | None


class Undo(msgspec.Struct, frozen=True):
    """`key`, `attempt` and `result` are those of the step to be undone; the result is None if it has none."""

    key: StepKey
    attempt: int
    result: Result | None
    error: ErrorRecord


class StartAttempt(msgspec.Struct, frozen=True):
    """Run the step's callback. `after_commit`: only once the entries before this effect are durable."""

    key: StepKey
    attempt: int
    config: StepConfig
    after_commit: bool = False
    undo: Undo | None = None
    """Set for the rollback of a step: the handler's arguments."""


class AskDelay(msgspec.Struct, frozen=True):
    """Ask the script's function how long to wait before the next attempt; answer with `DelayComputed`."""

    key: StepKey
    attempt: int
    error: ErrorRecord


class Resolve(msgspec.Struct, frozen=True):
    """Give the script a step's result, once entry `seq` is durable."""

    key: StepKey
    result: Result
    seq: int


class Refuse(msgspec.Struct, frozen=True):
    """Give the script an error for a call that is not recorded, because it is the same at every replay."""

    key: StepKey
    error: ErrorRecord


class Breathe(msgspec.Struct, frozen=True):
    """Let the script react to what was resolved last, then put in `Delivered`."""


class Fault(msgspec.Struct, frozen=True):
    """The replay left the journal in a way that must not be followed: stop, until another version of the script goes
    on. This activation of the engine is over."""

    difference: str


class StopRun(msgspec.Struct, frozen=True):
    """Cancel the run and the attempts; put in `RunStopped` once all of them have ended."""


class Suspend(msgspec.Struct, frozen=True):
    """The instance is paused: cancel the run. No input has an effect any more, except in another activation."""


class Relaunch(msgspec.Struct, frozen=True):
    """The engine is over: begin another from the journal at once."""


class Finish(msgspec.Struct, frozen=True):
    """The instance is over: "complete" (then with output), "errored" (then with error) or "terminated"."""

    status: str
    output: bytes | None = None
    error: ErrorRecord | None = None


Effect = (
    Append
    | Consume
    | SetTimer
    | StartAttempt
    | AskDelay
    | Resolve
    | Refuse
    | Breathe
    | StopRun
    | Suspend
    | Relaunch
    | Fault
    | Finish
)
