"""The journal: what an instance has done, as entries numbered from 1. How they are stored is `stored.blocks`' matter.

An instance is the fold of its entries, so nothing but entries decides what a replay does. Fields may be added to an
entry at its end, with a default. Entry kinds follow the event log of Cloudflare's engine (workflows-shared,
instance.ts).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from edge_runtime.store.values import ErrorRecord


class StepKey(NamedTuple):
    """Identity of a step within an instance: it survives steps of other names being added, removed or moved.

    `path` names the contexts around the step, outermost first; () is the instance itself. `occurrence` counts the
    steps of this name in this context, from 1.
    """

    path: tuple[str, ...]
    name: str
    occurrence: int

    def __str__(self) -> str:
        path, name, occurrence = self
        return "/".join((*path, f"{name}-{occurrence}")) if path else f"{name}-{occurrence}"


ROLLBACK: Final = "rollback:"
"""The context of the steps that undo others. No other context can have this name: those have no colon."""


def rollback_key(key: StepKey) -> StepKey:
    """The step that undoes the step of this key."""
    return StepKey((ROLLBACK, *key.path), key.name, key.occurrence)


class StepKind(StrEnum):
    """Kind and subtype of a step. Values are stored."""

    DO = "do"
    SLEEP = "sleep"
    SLEEP_UNTIL = "sleepUntil"
    WAIT = "waitForEvent"
    NOW = "now"
    RANDOM = "random"
    UUID4 = "uuid4"
    ROLLBACK = "rollback"


class Backoff(StrEnum):
    CONSTANT = "constant"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"


class StepConfig(msgspec.Struct, frozen=True, array_like=True):
    """A step's configuration with the defaults filled in."""

    retries_max: int | None
    """Attempts after the first; None: without end."""
    delay_ms: int | None
    """Before the first retry; None: a function of the script tells."""
    backoff: Backoff
    timeout_ms: int
    """Per attempt."""
    sensitive: bool = False
    """The result is shown redacted."""


class _Entry(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", array_like=True):
    seq: int
    at_ms: int


class Created(_Entry, frozen=True, kw_only=True, tag="created"):
    """The instance exists. Written by whoever creates it; every other entry is written by the instance itself."""

    params: bytes
    trigger: str = "binding"
    """binding, api, or cron; then with the expression and the time (ms) it stood for."""
    cron: str = ""
    scheduled_ms: int | None = None


class StepStarted(_Entry, frozen=True, kw_only=True, tag="step"):
    """A step was asked for. A `do` that is not skipped has begun its first attempt with this entry."""

    key: StepKey
    step: StepKind
    position: int
    """Which of its context's steps this was, from 1."""
    fingerprint: str
    """The arguments as far as they must be the same at replay, readable."""
    config: StepConfig | None = None
    at_most_once: bool = False
    skipped: bool = False
    """The condition (`when`) was false: the step is over and its result is None."""
    due_ms: int | None = None
    """When a sleep ends or a wait times out."""
    event_type: str = ""
    rollback: StepConfig | None = None
    """The step has a rollback handler, run with this configuration."""


class AttemptStarted(_Entry, frozen=True, kw_only=True, tag="attempt"):
    """A further attempt has begun; the first is part of `StepStarted`."""

    key: StepKey
    attempt: int


class AttemptFailed(_Entry, frozen=True, kw_only=True, tag="attempt_failed"):
    """An attempt failed and another will follow."""

    key: StepKey
    attempt: int
    error: ErrorRecord
    retry_at_ms: int
    cpu_us: int = 0
    """Of the attempt; 0 where a crash took the measure with it."""


class AttemptReleased(_Entry, frozen=True, kw_only=True, tag="attempt_released"):
    """An orderly stop cut the attempt short: it does not count, its number is used again."""

    key: StepKey
    attempt: int


class StepSucceeded(_Entry, frozen=True, kw_only=True, tag="succeeded"):
    """The step is over. `value` is the encoded result of a `do`, empty for a sleep."""

    key: StepKey
    value: bytes = b""
    cpu_us: int = 0
    """Of the last attempt."""


class EventReceived(_Entry, frozen=True, kw_only=True, tag="event"):
    """A wait is over: this event is its result."""

    key: StepKey
    event_type: str
    payload: bytes
    sent_ms: int


class StepFailed(_Entry, frozen=True, kw_only=True, tag="failed"):
    """The step is over: no attempt is left, or the wait timed out."""

    key: StepKey
    error: ErrorRecord
    cpu_us: int = 0
    """Of the last attempt."""


class Drifted(_Entry, frozen=True, kw_only=True, tag="drift"):
    """The script asked for something else than before, in a way that may be followed; kept to be shown."""

    difference: str
    key: StepKey | None = None


class PauseRequested(_Entry, frozen=True, kw_only=True, tag="pause"):
    """Nothing begins any more and no time passes for what waits; what runs may end."""

    since_ms: int
    """When it was asked for."""


class Paused(_Entry, frozen=True, kw_only=True, tag="paused"):
    """Nothing runs any more."""


class Resumed(_Entry, frozen=True, kw_only=True, tag="resumed"):
    """The pause is over: what waits for a time waits longer by as much of the pause as it had been waiting."""

    until_ms: int
    """When it was asked for."""


class Restarted(_Entry, frozen=True, kw_only=True, tag="restarted"):
    """The instance begins anew; the entries of the steps from `origin` on have been removed, of all steps without."""

    origin: StepKey | None = None


class RollbackStarted(_Entry, frozen=True, kw_only=True, tag="rollback"):
    """Steps are undone, in the reverse order of their starts; then the instance ends with `status`."""

    status: str
    error: ErrorRecord
    """Why: what the handlers see."""
    total: int
    """How many steps have a handler."""


class RollbackEnded(_Entry, frozen=True, kw_only=True, tag="rollback_ended"):
    """`completed` steps were undone; fewer than all if one could not be."""

    completed: int
    total: int


class Finished(_Entry, frozen=True, kw_only=True, tag="finished"):
    """The last entry. Output and error are in the instance's record."""

    status: str


Entry = (
    Created
    | StepStarted
    | AttemptStarted
    | AttemptFailed
    | AttemptReleased
    | StepSucceeded
    | EventReceived
    | StepFailed
    | Drifted
    | PauseRequested
    | Paused
    | Resumed
    | Restarted
    | RollbackStarted
    | RollbackEnded
    | Finished
)


def may_wait(entry: Entry) -> bool:
    """Whether nothing but the number of an attempt is lost with this entry, so that it need not be durable at once."""
    if type(entry) is StepStarted:
        return entry.step is StepKind.DO and not entry.skipped and not entry.at_most_once
    return type(entry) is AttemptStarted
