"""Creating instances from outside, of a running worker or of one that is not.

Everything goes through the store: the new instance is committed together with what wakes its actor. Afterwards tell the
host (`timers_changed`) or the server that serves the data directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_runtime.actors import timers
from edge_runtime.limits import EVENT_PAYLOAD_MAX, INSTANCE_ID_MAX, WORKFLOW_RESUME_MS
from edge_runtime.seams import Clock, Randomness
from edge_runtime.store.api import Batch, Snapshot, Table
from edge_runtime.workflows.core.journal import Created
from edge_runtime.workflows.script.config import read_duration_ms
from edge_runtime.workflows.script.errors import WorkflowError
from edge_runtime.workflows.stored import blocks, instances
from edge_runtime.workflows.stored.instances import InstanceRecord, Status


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
        raise WorkflowError(
            "instance.invalid_params", f"params: found {len(new.params)} bytes encoded; allowed are {EVENT_PAYLOAD_MAX}"
        )
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
