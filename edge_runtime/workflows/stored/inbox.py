"""The inbox of an instance: events and commands that others have left for it.

Keys of Table.INBOX, ids as `keys.short`:

    (id, worker, workflow, event type, ordered id)  events: those of one type in the order of sending
    (id, worker, workflow, 0, ordered id)           commands, in the order of sending

Value: `store.values` of a list that begins with the kind. What is there stays until the entry that records it is
committed, so a command works from any process, whether the instance is in memory or not and whether its worker runs or
not. However many events wait, the next of a type is one look-up away.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Final

import msgspec

from edge_runtime.actors.api import ActorAddress
from edge_runtime.errors import StoreCorrupt
from edge_runtime.store import keys, values
from edge_runtime.store.api import Batch, Snapshot, Table
from edge_runtime.workflows.core.effects import EventArrived, PauseAsked, ResumeAsked, TerminateAsked
from edge_runtime.workflows.core.restart import Origin
from edge_runtime.workflows.stored import instance_keys

_EVENT: Final = "event"


class Pause(msgspec.Struct, frozen=True):
    pass


class Resume(msgspec.Struct, frozen=True):
    pass


class Terminate(msgspec.Struct, frozen=True):
    rollback: bool = False
    """Undo the steps that have a handler, first."""


class Restart(msgspec.Struct, frozen=True):
    origin: Origin | None = None
    """Keep what began before this step."""


class Delete(msgspec.Struct, frozen=True):
    pass


Command = Pause | Resume | Terminate | Restart | Delete


class RestartAsked(msgspec.Struct, frozen=True):
    inbox_key: bytes
    sent_ms: int
    origin: Origin | None


class DeleteAsked(msgspec.Struct, frozen=True):
    inbox_key: bytes
    sent_ms: int


Asked = PauseAsked | ResumeAsked | TerminateAsked | RestartAsked | DeleteAsked
Item = EventArrived | Asked


def key_range(address: ActorAddress) -> tuple[bytes, bytes]:
    """(start, end) of everything in the inbox."""
    start = instance_keys.key_prefix(address)
    return start, start + b"\xff"


def put_event(
    batch: Batch, address: ActorAddress, ordered_id: str, event_type: str, payload: bytes, sent_ms: int
) -> None:
    key = instance_keys.key_prefix(address) + keys.encode(event_type, keys.short(ordered_id))
    batch.put(Table.INBOX, key, values.encode([_EVENT, event_type, payload, sent_ms]))


def put_command(batch: Batch, address: ActorAddress, ordered_id: str, command: Command, sent_ms: int) -> None:
    match command:
        case Pause():
            stored: list[object] = ["pause", sent_ms]
        case Resume():
            stored = ["resume", sent_ms]
        case Terminate():
            stored = ["terminate", sent_ms, command.rollback]
        case Restart(origin):
            stored = ["restart", sent_ms, None if origin is None else [origin.name, origin.count, origin.type]]
        case Delete():
            stored = ["delete", sent_ms]
    key = _commands(address) + keys.encode(keys.short(ordered_id))
    batch.put(Table.INBOX, key, values.encode(stored))


def _commands(address: ActorAddress) -> bytes:
    return instance_keys.key_prefix(address) + keys.head(0)


def read_commands(snapshot: Snapshot, address: ActorAddress) -> list[Asked]:
    """The commands that wait, in the order of sending."""
    start = _commands(address)
    found = (_decode(key, stored, address) for key, stored in snapshot.scan(Table.INBOX, start, start + b"\xff"))
    return [item for item in found if not isinstance(item, EventArrived)]


def event_keys(snapshot: Snapshot, address: ActorAddress, before: Asked | None = None) -> Iterator[bytes]:
    """Where the events that wait are stored, by type; with `before`, those sent before that command."""
    end = None if before is None else _place(before.inbox_key)
    for key in snapshot.keys(Table.INBOX, instance_keys.key_prefix(address), _commands(address)):
        if end is None or _place(key) < end:
            yield key


def _place(key: bytes) -> tuple[bool, keys.Part]:
    """What tells the order of sending, among events of several types and commands."""
    ordered_id = keys.decode(key)[-1]
    return isinstance(ordered_id, str), ordered_id


def next_event(
    snapshot: Snapshot, address: ActorAddress, event_type: str, taken: Container[bytes], after: bytes | None
) -> EventArrived | None:
    """The first event of a type that is not in `taken`, of those stored after the key `after` where that is given."""
    start = instance_keys.key_prefix(address) + keys.head(event_type)
    for key in snapshot.keys(Table.INBOX, start if after is None else keys.after(after), start + b"\xff"):
        if key not in taken and (stored := snapshot.get(Table.INBOX, key)) is not None:
            found = _decode(key, stored, address)
            if not isinstance(found, EventArrived):
                raise StoreCorrupt(f"the inbox of instance {address.id} holds a command among its events")
            return found
    return None


def _decode(key: bytes, stored: bytes, address: ActorAddress) -> Item:
    match values.decode(stored):
        case ["event", str(event_type), bytes(payload), int(sent_ms)]:
            return EventArrived(key, event_type, payload, sent_ms)
        case ["pause", int(sent_ms)]:
            return PauseAsked(key, sent_ms)
        case ["resume", int(sent_ms)]:
            return ResumeAsked(key, sent_ms)
        case ["terminate", int(sent_ms), bool(rollback)]:
            return TerminateAsked(key, sent_ms, rollback)
        case ["restart", int(sent_ms), None]:
            return RestartAsked(key, sent_ms, None)
        case ["restart", int(sent_ms), [str(name), int(count), str(type)]]:
            return RestartAsked(key, sent_ms, Origin(name, count, type))
        case ["delete", int(sent_ms)]:
            return DeleteAsked(key, sent_ms)
        case _:
            raise StoreCorrupt(f"the inbox of instance {address.id} holds what is neither event nor command")


def name_of(asked: Asked) -> str:
    """The command as people write it."""
    match asked:
        case PauseAsked():
            return "pause"
        case ResumeAsked():
            return "resume"
        case TerminateAsked(rollback=True):
            return "terminate with rollback"
        case TerminateAsked():
            return "terminate"
        case RestartAsked(origin=None):
            return "restart"
        case RestartAsked(origin=origin):
            return f"restart from {origin}"
        case DeleteAsked():
            return "delete"
