"""What goes into the engine and what comes out of it, as data. Nothing here does anything."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.journal import Entry, StepConfig, StepKey, StepKind

# Results of steps


@dataclass(frozen=True, slots=True)
class Value:
    """What a step returned, encoded; b"" for a sleep, None for a skipped step."""

    encoded: bytes | None


@dataclass(frozen=True, slots=True)
class Received:
    """The event that a wait waited for; `payload` is encoded."""

    event_type: str
    payload: bytes
    sent_ms: int


@dataclass(frozen=True, slots=True)
class Error:
    record: ErrorRecord


Result = Value | Received | Error

# Inputs


@dataclass(frozen=True, slots=True)
class StepRequested:
    """The script called `step.do`. `condition` is the value of `when`; True where there is none."""

    key: StepKey
    position: int
    config: StepConfig
    condition: bool = True
    at_most_once: bool = False


@dataclass(frozen=True, slots=True)
class SleepRequested:
    """The script called `step.sleep` (then the fingerprint tells the duration) or `step.sleep_until`."""

    key: StepKey
    position: int
    step: StepKind
    due_ms: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class WaitRequested:
    key: StepKey
    position: int
    event_type: str
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class AttemptSucceeded:
    key: StepKey
    attempt: int
    value: bytes


@dataclass(frozen=True, slots=True)
class AttemptRaised:
    key: StepKey
    attempt: int
    error: ErrorRecord
    retryable: bool = True


@dataclass(frozen=True, slots=True)
class DelayComputed:
    """The answer to `AskDelay`: milliseconds, or the error that ends the step."""

    key: StepKey
    attempt: int
    delay_ms: int
    error: ErrorRecord | None = None


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The instance's timer is due. Every event that had arrived by then has been put in before."""


@dataclass(frozen=True, slots=True)
class EventArrived:
    """An event in the inbox, in the order of sending. `inbox_key` is where it is stored until consumed."""

    inbox_key: bytes
    event_type: str
    payload: bytes
    sent_ms: int


@dataclass(frozen=True, slots=True)
class RunReturned:
    output: bytes


@dataclass(frozen=True, slots=True)
class RunRaised:
    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class Delivered:
    """The script has had the chance to react to the last `Resolve`."""


@dataclass(frozen=True, slots=True)
class Stalled:
    """The script waits for results that are held back for steps which it does not ask for."""


@dataclass(frozen=True, slots=True)
class Stopped:
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


@dataclass(frozen=True, slots=True)
class Append:
    entry: Entry


@dataclass(frozen=True, slots=True)
class Consume:
    """Remove an event from the inbox."""

    inbox_key: bytes


@dataclass(frozen=True, slots=True)
class SetTimer:
    due_ms: int


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Run the step's callback. `after_commit`: only once the entries before this effect are durable."""

    key: StepKey
    attempt: int
    config: StepConfig
    after_commit: bool = False


@dataclass(frozen=True, slots=True)
class AskDelay:
    """Ask the script's function how long to wait before the next attempt; answer with `DelayComputed`."""

    key: StepKey
    attempt: int
    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class Resolve:
    """Give the script a step's result, once entry `seq` is durable."""

    key: StepKey
    result: Result
    seq: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Give the script an error for a call that is not recorded, because it is the same at every replay."""

    key: StepKey
    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class Breathe:
    """Let the script react to what was resolved last, then put in `Delivered`."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The replay left the journal in a way that must not be followed: cancel the run. A `Finish` follows."""

    difference: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The instance is over: `status` is "complete" (then with output) or "errored" (then with error)."""

    status: str
    output: bytes | None = None
    error: ErrorRecord | None = None


Effect = Append | Consume | SetTimer | StartAttempt | AskDelay | Resolve | Refuse | Breathe | Fault | Finish
