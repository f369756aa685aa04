"""The journal: what an instance has done, as entries numbered from 1, kept in blocks chained to one another.

An instance is the fold of its entries, so nothing but entries decides what a replay does. A block holds the entries
that were committed together. Key: (worker, workflow, `keys.short` of the instance's id, number of its first entry) in
Table.JOURNAL. Value: one byte version (3), a digest of 8 bytes over the previous block's digest and the body, then the
body, which is MessagePack of the list of entries. Fields may be added to an entry at its end, with a default. Entry
kinds follow the event log of Cloudflare's engine (workflows-shared, instance.ts).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from edge_runtime.actors.api import ActorAddress
from edge_runtime.errors import StoreCorrupt
from edge_runtime.store import keys
from edge_runtime.store.api import Snapshot, Table
from edge_runtime.store.values import ErrorRecord

_VERSION: Final = b"\x03"
_DIGEST: Final = 8
_HEADER: Final = 1 + _DIGEST
FIRST_DIGEST: Final = bytes(_DIGEST)
"""What the first block is chained to."""


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


class JournalBroken(StoreCorrupt):
    """The entries are not the unbroken chain that was written; the instance must not run from them."""


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(list[Entry]).decode


def may_wait(entry: Entry) -> bool:
    """Whether nothing but the number of an attempt is lost with this entry, so that it need not be durable at once."""
    match entry:
        case StepStarted():
            return entry.step is StepKind.DO and not entry.skipped and not entry.at_most_once
        case AttemptStarted():
            return True
        case _:
            return False


def encode(entries: Sequence[Entry], previous: bytes) -> tuple[bytes, bytes]:
    """(stored value, digest) of a block that follows the one with digest `previous`."""
    body = _ENCODE(entries)
    digest = blake2b(previous + body, digest_size=_DIGEST).digest()
    return _VERSION + digest + body, digest


def decode(stored: bytes, previous: bytes) -> tuple[list[Entry], bytes]:
    """(entries, digest). Raises JournalBroken if the bytes do not follow `previous` or are no block."""
    digest, body = stored[1:_HEADER], stored[_HEADER:]
    if stored[:1] != _VERSION:
        raise JournalBroken(f"it has format {stored[:1].hex() or 'none'}, known is {_VERSION.hex()}")
    if blake2b(previous + body, digest_size=_DIGEST).digest() != digest:
        raise JournalBroken("its digest does not follow from the block before it")
    try:
        return _DECODE(body), digest
    except msgspec.DecodeError as error:
        raise JournalBroken(f"it is not a block of this version: {error}") from error


def key(worker: str, workflow: str, instance: str, seq: int) -> bytes:
    """Of the block that begins with entry `seq`."""
    return keys.head(worker, workflow, keys.short(instance)) + keys.encode(seq)


def key_prefix(address: ActorAddress) -> bytes:
    """Of the keys of an instance: its blocks' keys are this followed by `keys.encode(seq)`."""
    return keys.head(address.worker, address.namespace, keys.short(address.id))


def answers_key(address: ActorAddress, key: StepKey | None = None) -> bytes:
    """Where the replies to calls of a step, or of all steps of an instance, begin in Table.ANSWERS."""
    prefix = key_prefix(address)
    return prefix if key is None else prefix + keys.encode(str(key))


def key_range(worker: str, workflow: str, instance: str) -> tuple[bytes, bytes]:
    """(start, end) of all entries of an instance."""
    return keys.prefix_range(worker, workflow, keys.short(instance))


class Loaded(NamedTuple):
    entries: list[Entry]
    digest: bytes


def load(snapshot: Snapshot, worker: str, workflow: str, instance: str, seq: int) -> Loaded:
    """All entries, at least those up to `seq`, which is what the instance's record says there were.

    Raises JournalBroken naming the place where one is missing, surplus or changed.
    """
    start, end = key_range(worker, workflow, instance)
    loaded = _read_chain(value for _, value in snapshot.scan(Table.JOURNAL, start, end))
    if len(loaded.entries) < seq:
        raise JournalBroken(f"{len(loaded.entries)} entries are stored, the instance's record says at least {seq}")
    return loaded


def _read_chain(stored: Iterable[bytes]) -> Loaded:
    entries: list[Entry] = []
    digest = FIRST_DIGEST
    for value in stored:
        place = len(entries) + 1
        try:
            block, digest = decode(value, digest)
        except JournalBroken as error:
            raise JournalBroken(f"the block of entry {place} is damaged: {error}") from error
        for number, entry in enumerate(block, place):
            if entry.seq != number:
                raise JournalBroken(f"entry {number} is missing; entry {entry.seq} is in its place")
        entries += block
    return Loaded(entries, digest)
