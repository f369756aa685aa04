"""What may be asked of an instance from outside: to send it an event or a command, to look.

Everything goes through the store, so it works from any process, whether or not the instance is in memory or its
worker is running: what is left for the instance is committed together with a wake-up of its actor. Afterwards tell the
host (`timers_changed`) or the server that serves the data directory.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_runtime.actors import timers
from edge_runtime.actors.api import ActorAddress
from edge_runtime.limits import EVENT_PAYLOAD_MAX
from edge_runtime.seams import Clock, Randomness
from edge_runtime.store.api import Batch, Snapshot
from edge_runtime.workflows.core import restart
from edge_runtime.workflows.core.restart import Origin
from edge_runtime.workflows.script.config import read_event_type
from edge_runtime.workflows.script.errors import WorkflowError
from edge_runtime.workflows.stored import blocks, inbox, instances
from edge_runtime.workflows.stored.blocks import JournalBroken
from edge_runtime.workflows.stored.inbox import Command, Delete, Restart, Terminate
from edge_runtime.workflows.stored.instances import InstanceRecord


def check_address(id: object) -> str:
    """The id of an instance that may exist: those that schedules create are of a wider form. Raises WorkflowError."""
    if not instances.is_addressable(id):
        raise WorkflowError("instance.invalid_id", "Instance ID is invalid")
    return str(id)


def find(snapshot: Snapshot, address: ActorAddress) -> InstanceRecord:
    """The record of an instance. Raises WorkflowError "instance.not_found"."""
    record = instances.read(snapshot, address)
    if record is None:
        raise WorkflowError(
            "instance.not_found",
            f"Instance does not exist: workflow {address.namespace} has no instance {address.id!r}",
        )
    return record


def send_event(
    batch: Batch,
    snapshot: Snapshot,
    address: ActorAddress,
    event_type: object,
    payload: bytes,
    *,
    clock: Clock,
    random: Randomness,
) -> None:
    """Leave an event for an instance, which gets it at its next wait of that type.

    Raises WorkflowError if the instance is unknown or finished, or the payload too large.
    """
    checked = read_event_type(event_type)
    if len(payload) > EVENT_PAYLOAD_MAX:
        raise WorkflowError(
            "instance.invalid_event", f"payload: found {len(payload)} bytes encoded; allowed are {EVENT_PAYLOAD_MAX}"
        )
    record = find(snapshot, address)
    if record.finished:
        raise WorkflowError(
            "instance.not_running", f"Cannot send an event to instance {address.id!r}: it is {record.status} already"
        )
    now_ms = clock.now_ms()
    inbox.put_event(batch, address, random.ordered_id(), checked, payload, now_ms)
    timers.wake(batch, instances.actor_of(address, record), now_ms, random.uuid())


def command(
    batch: Batch, snapshot: Snapshot, address: ActorAddress, wanted: Command, *, clock: Clock, random: Randomness
) -> None:
    """Leave a command for an instance. A pause or resume of a finished instance is accepted and has no effect.

    Raises WorkflowError "instance.not_found", "instance.cannot_terminate" and "instance.cannot_restart".
    """
    record = find(snapshot, address)
    if isinstance(wanted, Terminate) and record.finished:
        raise WorkflowError("instance.cannot_terminate", "Cannot terminate instance since its on a finite state")
    if isinstance(wanted, Restart) and wanted.origin is not None:
        _require_origin(snapshot, address, record, wanted.origin)
    if record.finished and not isinstance(wanted, Restart | Delete):
        return
    now_ms = clock.now_ms()
    inbox.put_command(batch, address, random.ordered_id(), wanted, now_ms)
    timers.wake(batch, instances.actor_of(address, record), now_ms, random.uuid())


def _require_origin(snapshot: Snapshot, address: ActorAddress, record: InstanceRecord, origin: Origin) -> None:
    try:
        entries = blocks.load(snapshot, address.worker, address.namespace, address.id, record.seq).entries
    except JournalBroken as error:
        raise WorkflowError("instance.cannot_restart", f"The journal of the instance is damaged: {error}") from None
    if restart.find(entries, origin) is None:
        raise WorkflowError("instance.cannot_restart", f'Step "{origin.name}" not found in execution history')


def read_origin(given: object) -> Origin:
    """The step of `restart({"from": ...})`. Raises TypeError."""
    allowed = "a dict with name, and perhaps count and type"
    if not isinstance(given, Mapping):
        raise TypeError(f"restart: from: found {type(given).__name__}; allowed: {allowed}")
    unknown = set(given) - {"name", "count", "type"}
    if unknown:
        raise TypeError(f"restart: from: found the unknown key {min(map(str, unknown))!r}; allowed: {allowed}")
    name, count, kind = given.get("name"), given.get("count"), given.get("type")
    count = 1 if count is None else count
    kind = "do" if kind is None else kind
    if not isinstance(name, str) or not name:
        raise TypeError(f"restart: from.name: found {name!r}; allowed: the name of a step")
    if isinstance(count, bool) or not isinstance(count, int | float) or count < 1 or count != int(count):
        raise TypeError(f"restart: from.count: found {count!r}; allowed: a whole number from 1")
    if kind not in restart.TYPES:
        raise TypeError(f"restart: from.type: found {kind!r}; allowed: {', '.join(restart.TYPES)}")
    return Origin(name, int(count), str(kind))
