"""What may be asked of instances from outside: create, send an event or a command, look.

Everything goes through the store, so it works from any process, whether or not the instance is in memory or its
worker is running: what is left for the instance is committed together with a wake-up of its actor. Afterwards tell the
host (`timers_changed`) or the server that serves the data directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_runtime.actors import timers
from edge_runtime.actors.api import ActorAddress
from edge_runtime.limits import EVENT_PAYLOAD_MAX, INSTANCE_ID_MAX, WORKFLOW_RESUME_MS
from edge_runtime.seams import Clock, Randomness
from edge_runtime.store.api import Batch, Snapshot, Table
from edge_runtime.workflows import blocks, inbox, instances
from edge_runtime.workflows.blocks import JournalBroken
from edge_runtime.workflows.core import restart
from edge_runtime.workflows.core.journal import Created
from edge_runtime.workflows.core.restart import Origin
from edge_runtime.workflows.errors import WorkflowError
from edge_runtime.workflows.inbox import Command, Delete, Restart, Terminate
from edge_runtime.workflows.instances import InstanceRecord, Status
from edge_runtime.workflows.step_config import read_duration_ms, read_event_type


@dataclass(frozen=True, slots=True)
class NewInstance:
    """What `create` was given, checked."""

    id: str
    params: bytes
    success_retention_ms: int | None = None
    """Once it is complete; None: INSTANCE_RETENTION_MS."""
    error_retention_ms: int | None = None
    trigger: str = "binding"
    delay_ms: int = 0
    """How long after its creation it starts."""
    cron: str = ""
    scheduled_ms: int | None = None
    """For trigger "cron": the schedule and the time it stands for."""


def check_id(id: object) -> str:
    """Raises WorkflowError with Cloudflare's text."""
    if not isinstance(id, str) or not instances.is_instance_id(id):
        raise WorkflowError(
            "instance.invalid_id",
            f"Workflow instance has invalid id: found {id!r}; allowed are 1 to {INSTANCE_ID_MAX} letters, digits, "
            "hyphens and underscores, not beginning with a hyphen",
        )
    return id


def check_address(id: object) -> str:
    """The id of an instance that may exist: those that schedules create are of a wider form. Raises WorkflowError."""
    if not instances.is_addressable(id):
        raise WorkflowError("instance.invalid_id", "Instance ID is invalid")
    return str(id)


def read_retention(given: object) -> tuple[int | None, int | None]:
    """(success, error) in milliseconds of `retention`; None for what is not given."""
    if given is None:
        return None, None
    if not isinstance(given, Mapping):
        raise TypeError(
            f"retention: found {type(given).__name__}; allowed: a dict with successRetention, errorRetention"
        )
    unknown = set(given) - {"successRetention", "errorRetention"}
    if unknown:
        raise TypeError(f"retention: found the unknown key {min(unknown)!r}; allowed: successRetention, errorRetention")
    return _retention_ms(given, "successRetention"), _retention_ms(given, "errorRetention")


def _retention_ms(given: Mapping[str, Any], name: str) -> int | None:
    value = given.get(name)
    return None if value is None else read_duration_ms(f"retention.{name}", value)


def create(
    batch: Batch,
    snapshot: Snapshot,
    worker: str,
    workflow: str,
    new: NewInstance,
    *,
    clock: Clock,
    random: Randomness,
    version: str = "",
    pinned: bool = False,
    told: bool = False,
) -> bytes:
    """Add a queued instance and what starts it; `pinned` to `version` of its worker, if it is to be.

    Raises WorkflowError if the id is taken. The batch expects it to be free: if somebody takes it meanwhile, the commit
    is refused with Conflict. `told`: the caller, in whose isolate the instance lives, has it look (`Poke`) once it is
    durable; should the process die before, the instance starts WORKFLOW_RESUME_MS later.

    Returns its key in the index of queued instances.
    """
    address = instances.address_of(worker, workflow, new.id)
    if snapshot.get(Table.INSTANCES, instances.record_key(address)) is not None:
        raise already_exists(new.id)
    if len(new.params) > EVENT_PAYLOAD_MAX:
        raise WorkflowError("instance.invalid_params", _too_large("params", len(new.params)))
    now_ms = clock.now_ms()
    stored, _ = blocks.encode(
        [
            Created(
                seq=1,
                at_ms=now_ms,
                params=new.params,
                trigger=new.trigger,
                cron=new.cron,
                scheduled_ms=new.scheduled_ms,
            )
        ],
        blocks.FIRST_DIGEST,
    )
    start_ms = now_ms + new.delay_ms
    record = InstanceRecord(
        status=Status.QUEUED,
        created_ms=now_ms,
        updated_ms=now_ms,
        seq=1,
        version=version,
        pinned=pinned,
        success_retention_ms=new.success_retention_ms,
        error_retention_ms=new.error_retention_ms,
        not_before_ms=start_ms if new.delay_ms else 0,
    )
    batch.expect(Table.INSTANCES, instances.record_key(address), None)
    batch.put(Table.JOURNAL, blocks.key(worker, workflow, new.id, 1), stored)
    instances.write(batch, address, None, record)
    actor = instances.actor_of(address, record)
    if told:
        timers.schedule_new(batch, actor, start_ms if new.delay_ms else now_ms + WORKFLOW_RESUME_MS)
    else:
        timers.wake(batch, actor, start_ms, random.uuid())
    return instances.status_key(address, record)


def already_exists(id: str) -> WorkflowError:
    return WorkflowError("instance.already_exists", f"Workflow instance with id {id!r} already exists")


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
        raise WorkflowError("instance.invalid_event", _too_large("payload", len(payload)))
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


def _too_large(what: str, size: int) -> str:
    return f"{what}: found {size} bytes encoded; allowed are {EVENT_PAYLOAD_MAX}"
