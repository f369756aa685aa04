"""The inbox of an instance: events and commands that others have left for it, in the order of sending.

Key of Table.INBOX: (worker, workflow, id, ordered id), ids as `keys.short`. Value: `store.values` of a list that begins
with the kind. What is there stays until the entry that records it is committed, so a command works from any process,
whether the instance is in memory or not and whether its worker runs or not.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

import msgspec

from edge_runtime.actors.api import ActorAddress
from edge_runtime.errors import StoreCorrupt
from edge_runtime.store import keys, values
from edge_runtime.store.api import Batch, Snapshot, Table
from edge_runtime.workflows import instance_keys
from edge_runtime.workflows.effects import EventArrived, PauseAsked, ResumeAsked, TerminateAsked
from edge_runtime.workflows.restart import Origin

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
    start = instance_keys.key_prefix(address)
    return start, start + b"\xff"


def put_event(
    batch: Batch, address: ActorAddress, ordered_id: str, event_type: str, payload: bytes, sent_ms: int
) -> None:
    batch.put(Table.INBOX, _key(address, ordered_id), values.encode([_EVENT, event_type, payload, sent_ms]))


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
    batch.put(Table.INBOX, _key(address, ordered_id), values.encode(stored))


def _key(address: ActorAddress, ordered_id: str) -> bytes:
    return instance_keys.key_prefix(address) + keys.encode(keys.short(ordered_id))


def read(snapshot: Snapshot, address: ActorAddress) -> list[Item]:
    """What waits, in the order of sending."""
    return [_decode(key, stored, address) for key, stored in snapshot.scan(Table.INBOX, *key_range(address))]


def read_new(snapshot: Snapshot, address: ActorAddress, known: Container[bytes]) -> list[Item]:
    """As `read`, without what is stored under the keys in `known`: an inbox may be long, and is looked into often."""
    new = [key for key in snapshot.keys(Table.INBOX, *key_range(address)) if key not in known]
    found = [(key, snapshot.get(Table.INBOX, key)) for key in new]
    return [_decode(key, stored, address) for key, stored in found if stored is not None]


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
