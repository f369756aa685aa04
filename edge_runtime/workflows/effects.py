"""What goes into the engine and what comes out of it, as data. Nothing here does anything.

Structs rather than dataclasses: several are made for each step, and a frozen dataclass takes six times as long to make.
"""

from __future__ import annotations

import msgspec

from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.journal import Entry, StepConfig, StepKey, StepKind

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


class AttemptSucceeded(msgspec.Struct, frozen=True):
    key: StepKey
    attempt: int
    value: bytes


class AttemptRaised(msgspec.Struct, frozen=True):
    key: StepKey
    attempt: int
    error: ErrorRecord
    retryable: bool = True


class DelayComputed(msgspec.Struct, frozen=True):
    """The answer to `AskDelay`: milliseconds, or the error that ends the step."""

    key: StepKey
    attempt: int
    delay_ms: int
    error: ErrorRecord | None = None


class TimerFired(msgspec.Struct, frozen=True):
    """The instance's timer is due. Every event that had arrived by then has been put in before."""


class EventArrived(msgspec.Struct, frozen=True):
    """An event in the inbox, in the order of sending. `inbox_key` is where it is stored until consumed."""

    inbox_key: bytes
    event_type: str
    payload: bytes
    sent_ms: int


class RunReturned(msgspec.Struct, frozen=True):
    output: bytes


class RunRaised(msgspec.Struct, frozen=True):
    error: ErrorRecord


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
    | AttemptSucceeded
    | AttemptRaised
    | DelayComputed
    | TimerFired
    | EventArrived
    | RunReturned
    | RunRaised
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
    due_ms: int


class StartAttempt(msgspec.Struct, frozen=True):
    """Run the step's callback. `after_commit`: only once the entries before this effect are durable."""

    key: StepKey
    attempt: int
    config: StepConfig
    after_commit: bool = False


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
    """The replay left the journal in a way that must not be followed: cancel the run. A `Finish` follows."""

    difference: str


class Finish(msgspec.Struct, frozen=True):
    """The instance is over: `status` is "complete" (then with output) or "errored" (then with error)."""

    status: str
    output: bytes | None = None
    error: ErrorRecord | None = None


Effect = Append | Consume | SetTimer | StartAttempt | AskDelay | Resolve | Refuse | Breathe | Fault | Finish
