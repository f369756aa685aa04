"""The journal: what an instance has done, as entries numbered from 1, each chained to the one before it.

An instance is the fold of its entries, so nothing but entries decides what a replay does. Key: (worker, workflow,
instance, seq) in Table.JOURNAL. Value: a digest of 16 bytes over the previous digest and the body, then the body, which
is `store.values` of the entry's fields with its kind. Fields with their default value are left out, so that a later
version may add some. Entry kinds follow the event log of Cloudflare's engine (workflows-shared, instance.ts).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from edge_runtime.errors import StoreCorrupt
from edge_runtime.store import keys, values
from edge_runtime.store.api import Snapshot, Table
from edge_runtime.store.values import ErrorRecord

_DIGEST: Final = 16
FIRST_DIGEST: Final = bytes(_DIGEST)
"""What the first entry is chained to."""


class StepKey(NamedTuple):
    """Identity of a step within an instance: it survives steps of other names being added, removed or moved.

    `path` names the contexts around the step, outermost first; () is the instance itself. `occurrence` counts the
    steps of this name in this context, from 1.
    """

    path: tuple[str, ...]
    name: str
    occurrence: int

    def __str__(self) -> str:
        return "/".join((*self.path, f"{self.name}-{self.occurrence}"))


class StepKind(StrEnum):
    """Kind and subtype of a step. Values are stored."""

    DO = "do"
    SLEEP = "sleep"
    SLEEP_UNTIL = "sleepUntil"
    WAIT = "waitForEvent"


class Backoff(StrEnum):
    CONSTANT = "constant"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"


class StepConfig(msgspec.Struct, frozen=True):
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


class _Entry(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    seq: int
    at_ms: int


class Created(_Entry, frozen=True, kw_only=True, tag="created"):
    """The instance exists. Written by whoever creates it; every other entry is written by the instance itself."""

    params: bytes
    trigger: str = "binding"


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


class AttemptReleased(_Entry, frozen=True, kw_only=True, tag="attempt_released"):
    """An orderly stop cut the attempt short: it does not count, its number is used again."""

    key: StepKey
    attempt: int


class StepSucceeded(_Entry, frozen=True, kw_only=True, tag="succeeded"):
    """The step is over. `value` is the encoded result of a `do`, empty for a sleep."""

    key: StepKey
    value: bytes = b""


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


class Drifted(_Entry, frozen=True, kw_only=True, tag="drift"):
    """The script asked for something else than before, in a way that may be followed; kept to be shown."""

    difference: str
    key: StepKey | None = None


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
    | Finished
)


class JournalBroken(StoreCorrupt):
    """The entries are not the unbroken chain that was written; the instance must not run from them."""


def encode(entry: Entry, previous: bytes) -> tuple[bytes, bytes]:
    """(stored value, digest) of an entry that follows the one with digest `previous`."""
    body = values.encode(msgspec.to_builtins(entry, builtin_types=(bytes,)))
    digest = blake2b(previous + body, digest_size=_DIGEST).digest()
    return digest + body, digest


def decode(stored: bytes, previous: bytes) -> tuple[Entry, bytes]:
    """(entry, digest). Raises JournalBroken if the bytes do not follow `previous` or are no entry."""
    digest, body = stored[:_DIGEST], stored[_DIGEST:]
    if blake2b(previous + body, digest_size=_DIGEST).digest() != digest:
        raise JournalBroken("its digest does not follow from the entry before it")
    try:
        return msgspec.convert(values.decode(body), Entry), digest
    except (StoreCorrupt, msgspec.ValidationError) as error:
        raise JournalBroken(f"it is not an entry of this version: {error}") from error


def key(worker: str, workflow: str, instance: str, seq: int) -> bytes:
    return keys.encode(worker, workflow, instance, seq)


def key_range(worker: str, workflow: str, instance: str) -> tuple[bytes, bytes]:
    """(start, end) of all entries of an instance."""
    return keys.prefix_range(worker, workflow, instance)


class Loaded(NamedTuple):
    entries: list[Entry]
    digest: bytes


def load(snapshot: Snapshot, worker: str, workflow: str, instance: str, seq: int) -> Loaded:
    """The entries 1 to `seq`, which is what the instance's record says there are.

    Raises JournalBroken naming the entry that is missing, surplus or changed.
    """
    start, end = key_range(worker, workflow, instance)
    return _read_chain((value for _, value in snapshot.scan(Table.JOURNAL, start, end)), seq)


def _read_chain(stored: Iterable[bytes], seq: int) -> Loaded:
    entries: list[Entry] = []
    digest = FIRST_DIGEST
    for number, value in enumerate(stored, 1):
        try:
            entry, digest = decode(value, digest)
        except JournalBroken as error:
            raise JournalBroken(f"entry {number} of {seq} is damaged: {error}") from error
        if entry.seq != number:
            raise JournalBroken(f"entry {number} of {seq} is missing; entry {entry.seq} is in its place")
        entries.append(entry)
    if len(entries) != seq:
        raise JournalBroken(f"{len(entries)} entries are stored, the instance's record says {seq}")
    return Loaded(entries, digest)
