"""What an instance's record shows of an engine that runs it: the status, and what is waited for."""

from __future__ import annotations

from typing import Final

import msgspec

from edge_runtime.limits import AWAITED_SHOWN_MAX
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core.engine import Engine
from edge_runtime.workflows.core.operation import Phase
from edge_runtime.workflows.script.errors import DRIFT
from edge_runtime.workflows.stored.instances import Awaited, InstanceRecord, Status

_DRIFT_TEXT: Final = (
    "The script does something else than before at {}. The instance is stopped; it goes on with the next version of "
    "the script that fits, or when it is resumed."
)


def status_of(engine: Engine) -> Status:
    if engine.running:
        return Status.RUNNING
    if engine.pausing:
        return Status.PAUSED if engine.paused else Status.WAITING_FOR_PAUSE
    if not engine.live:
        return Status.QUEUED
    return Status.WAITING


def shown_record(
    record: InstanceRecord, engine: Engine, status: Status, fault: str, version: str, now_ms: int
) -> InstanceRecord:
    """The record of an instance that has not ended. `fault`: why this `version` of the script was stopped."""
    return msgspec.structs.replace(
        record,
        status=status,
        awaited=awaited_of(engine) if status is Status.WAITING else (),
        error=ErrorRecord(DRIFT, _DRIFT_TEXT.format(fault)) if fault else None,
        stopped_version=version if fault else None,
        started_ms=now_ms if record.started_ms is None and engine.live else record.started_ms,
    )


def awaited_of(engine: Engine) -> tuple[Awaited, ...]:
    """Soonest first, as far as it is shown."""
    return tuple(
        Awaited(
            str(op.key),
            "retry" if op.phase is Phase.RETRYING else op.started.step,
            op.due_ms or 0,
            op.started.event_type,
        )
        for op in engine.awaited(AWAITED_SHOWN_MAX)
    )
