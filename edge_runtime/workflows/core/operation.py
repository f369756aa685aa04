"""One step of an instance in memory: what its entries say, and what this activation adds to it. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from edge_runtime.limits import SLEEP_MAX_MS
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core.effects import Error, Received, Result, Value
from edge_runtime.workflows.core.journal import (
    AttemptFailed,
    AttemptReleased,
    AttemptStarted,
    Backoff,
    Entry,
    EventReceived,
    StepConfig,
    StepFailed,
    StepKey,
    StepKind,
    StepStarted,
    StepSucceeded,
)

# Cloudflare's text.
_INTERRUPTED: Final = ErrorRecord("WorkflowInternalError", "Attempt failed due to internal workflows error")
_INTERRUPTED_ONCE: Final = ErrorRecord(
    "StepInterrupted", "The step was cut short and may have had its effect; it runs at most once, so it is not repeated"
)


class Phase(StrEnum):
    RUNNING = "running"  # an attempt has begun
    ASKING = "asking"  # the script's delay function computes; in the journal this looks like RUNNING
    RETRYING = "retrying"  # waits for due_ms, then the next attempt begins
    RELEASED = "released"  # an orderly stop cut the attempt short; it begins again when asked for
    SLEEPING = "sleeping"
    WAITING = "waiting"
    DONE = "done"


StepEntry = StepStarted | AttemptStarted | AttemptFailed | AttemptReleased | StepSucceeded | EventReceived | StepFailed


class Operation(msgspec.Struct):
    """Invariant: `phase`, `attempt`, `due_ms` and `done_seq` follow from the entries alone, except ASKING."""

    key: StepKey
    started: StepStarted
    phase: Phase
    attempt: int
    due_ms: int | None
    result: Result | None = None
    """None while there is none, and where it is to be read from the journal."""
    done_seq: int = 0
    rested_ms: int = 0
    """When it began to wait for a time or an event, where it does."""
    requested: bool = False
    """The script has asked for it in this activation."""
    in_flight: bool = False
    """An attempt runs in this activation."""
    pending_error: ErrorRecord | None = None
    """Of the attempt whose delay is being asked for."""
    cpu_us: int = 0
    """Of the attempt that has just failed."""

    @property
    def config(self) -> StepConfig:
        assert self.started.config is not None, "only `do` steps have attempts"
        return self.started.config

    @property
    def interruption(self) -> ErrorRecord:
        """What is recorded of an attempt that a crash cut short."""
        return _INTERRUPTED_ONCE if self.started.at_most_once else _INTERRUPTED

    @classmethod
    def begin(cls, started: StepStarted) -> Operation:
        if started.skipped:
            return cls(started.key, started, Phase.DONE, 0, None, result_of(started), started.seq)
        match started.step:
            case StepKind.DO | StepKind.ROLLBACK:
                return cls(started.key, started, Phase.RUNNING, 1, None)
            case StepKind.NOW | StepKind.RANDOM | StepKind.UUID4:
                return cls(started.key, started, Phase.RUNNING, 0, None)
            case StepKind.SLEEP | StepKind.SLEEP_UNTIL:
                return cls(started.key, started, Phase.SLEEPING, 0, started.due_ms, rested_ms=started.at_ms)
            case StepKind.WAIT:
                return cls(started.key, started, Phase.WAITING, 0, started.due_ms, rested_ms=started.at_ms)

    def absorb(self, entry: StepEntry) -> None:
        """Apply one entry of this step that follows its `StepStarted`."""
        match entry:
            case StepSucceeded() | EventReceived() | StepFailed():
                self.absorb_end(entry.seq)
                self.result = result_of(entry)
            case AttemptStarted():
                self.phase, self.attempt, self.due_ms = Phase.RUNNING, entry.attempt, None
            case AttemptFailed():
                self.phase, self.due_ms, self.in_flight = Phase.RETRYING, entry.retry_at_ms, False
                self.rested_ms = entry.at_ms
            case AttemptReleased():
                self.phase, self.in_flight = Phase.RELEASED, False
            case StepStarted():
                raise AssertionError(f"step {entry.key} begins twice")

    def shift(self, since_ms: int, until_ms: int) -> None:
        """Have the time between the two not count for what this step waits for."""
        if self.due_ms is not None:
            self.due_ms += max(0, until_ms - max(since_ms, self.rested_ms))

    def absorb_end(self, seq: int) -> None:
        """Entry `seq` has the result of this step, which is not kept here."""
        self.phase, self.due_ms, self.in_flight = Phase.DONE, None, False
        self.done_seq = seq

    @property
    def may_retry(self) -> bool:
        """Whether another attempt is allowed after the present one."""
        if self.started.at_most_once:
            return False
        return self.config.retries_max is None or self.attempt <= self.config.retries_max


def result_of(entry: Entry) -> Result:
    """What the entry that ends a step gives the script."""
    match entry:
        case StepSucceeded():
            return Value(entry.value)
        case EventReceived():
            return Received(entry.event_type, entry.payload, entry.sent_ms)
        case StepFailed():
            return Error(entry.error)
        case StepStarted(skipped=True):
            return Value(None)
        case _:
            raise AssertionError(f"entry {entry.seq} ends no step")


def retry_delay_ms(config: StepConfig, attempt: int) -> int:
    """How long to wait after attempt `attempt` failed, at most SLEEP_MAX_MS. Source: Cloudflare's engine, no jitter."""
    assert config.delay_ms is not None, "the script's function tells the delay"
    match config.backoff:
        case Backoff.CONSTANT:
            delay_ms = config.delay_ms
        case Backoff.LINEAR:
            delay_ms = config.delay_ms * attempt
        case Backoff.EXPONENTIAL:
            # 2**40 ms is beyond the cap already; a larger shift would only build a huge integer.
            delay_ms = config.delay_ms << min(attempt - 1, 40)
    return min(delay_ms, SLEEP_MAX_MS)
