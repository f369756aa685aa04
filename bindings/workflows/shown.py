"""Instances as rows for people and as JSON for programs. Shapes follow Cloudflare's REST API of workflows. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.control.describe import AttemptView, Description, StepView
from edge_runtime.workflows.core.journal import StepKind
from edge_runtime.workflows.stored.instances import Awaited, InstanceRecord, Status

Rows = Sequence[tuple[str, ...]]
_WORDS: Final = {
    Status.QUEUED: "Queued",
    Status.RUNNING: "Running",
    Status.PAUSED: "Paused",
    Status.ERRORED: "Errored",
    Status.TERMINATED: "Terminated",
    Status.COMPLETE: "Completed",
    Status.WAITING: "Waiting",
    Status.WAITING_FOR_PAUSE: "Waiting for Pause",
}
_TYPES: Final = {StepKind.DO: "step", StepKind.WAIT: "waitForEvent", StepKind.ROLLBACK: "rollback"} | {
    kind: kind.value for kind in (StepKind.NOW, StepKind.RANDOM, StepKind.UUID4)
}


def status_word(status: Status) -> str:
    return _WORDS[status]


def time_text(at_ms: int | None) -> str:
    if at_ms is None:
        return "-"
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")


def instance_json(id: str, record: InstanceRecord) -> dict[str, Any]:
    return {
        "id": id,
        "status": record.status.value,
        "version_id": record.version,
        "pinned": record.pinned,
        "created_on": iso(record.created_ms),
        "modified_on": iso(record.updated_ms),
        "waiting_for": [_awaited_json(awaited) for awaited in record.awaited],
    }


def _awaited_json(awaited: Awaited) -> dict[str, Any]:
    return {
        "name": awaited.step,
        "type": awaited.kind,
        "until": iso(awaited.due_ms),
        "eventType": awaited.event_type or None,
    }


def description_json(shown: Description) -> dict[str, Any]:
    record = shown.record
    return {
        "id": shown.id,
        "status": record.status.value,
        "versionId": record.version,
        "pinned": record.pinned,
        "trigger": {"source": shown.trigger} | ({"cron": shown.cron} if shown.cron else {}),
        "params": plain(shown.params),
        "queued": iso(record.created_ms),
        "start": iso(record.started_ms),
        "end": iso(record.ended_ms),
        "success": None if record.ended_ms is None else record.status is Status.COMPLETE,
        "output": plain(shown.output),
        "error": error_json(record.error),
        "steps": [_step_json(step) for step in shown.steps],
        "step_count": len(shown.steps),
        "waitingFor": [_awaited_json(awaited) for awaited in record.awaited],
        "processEnded": 0 if record.deaths is None else record.deaths.count,
        "pending": shown.pending,
        "moments": [{"at": iso(moment.at_ms), "text": moment.text} for moment in shown.moments],
        "cpuUs": sum(step.cpu_us for step in shown.steps),
        "notes": shown.notes,
    }


def _step_json(step: StepView) -> dict[str, Any]:
    over = step.ended_ms is not None
    shown: dict[str, Any] = {
        "type": _TYPES.get(step.kind, "sleep"),
        "name": step.name,
        "state": step.state,
        "start": iso(step.started_ms),
        "end": iso(step.ended_ms),
    }
    if step.kind in (StepKind.DO, StepKind.ROLLBACK):
        shown |= {
            "cpuUs": step.cpu_us,
            "success": step.state in ("succeeded", "skipped") if over else None,
            "output": plain(step.output),
            "attempts": [_attempt_json(attempt) for attempt in step.attempts],
            "retriesAt": iso(step.due_ms),
        }
    else:
        shown |= {"finished": over, "due": iso(step.due_ms)}
        if step.kind is StepKind.WAIT:
            shown |= {"eventType": step.event_type, "output": plain(step.output)}
    return shown | {"error": error_json(step.error), "drift": step.drift}


def _attempt_json(attempt: AttemptView) -> dict[str, Any]:
    return {
        "attempt": attempt.number,
        "state": attempt.state,
        "start": iso(attempt.started_ms),
        "end": iso(attempt.ended_ms),
        "success": None if attempt.ended_ms is None else attempt.state == "succeeded",
        "cpuUs": attempt.cpu_us,
        "error": error_json(attempt.error),
    }


def labels(workflow: str, shown: Description, *, output_max: int) -> Rows:
    """What stands above the steps of a described instance."""
    record = shown.record
    done = [step.name for step in shown.steps if step.kind is StepKind.DO and step.state == "succeeded"]
    rows = [
        ("Workflow Name", workflow),
        ("Instance Id", shown.id),
        ("Version Id", (record.version or "-") + (", pinned to it" if record.pinned else "")),
        ("Status", status_word(record.status)),
        ("Trigger", shown.trigger or "-"),
        ("Params", _cut(value_text(shown.params), output_max)),
        ("Queued", time_text(record.created_ms)),
        ("Start", time_text(record.started_ms)),
        ("End", time_text(record.ended_ms)),
        ("Duration", _duration(record.started_ms, record.ended_ms)),
        ("Last Successful Step", done[-1] if done else "-"),
        ("CPU Time", _cpu(sum(step.cpu_us for step in shown.steps))),
    ]
    rows += [("Waiting For", _awaited_text(awaited)) for awaited in record.awaited]
    if record.status is Status.QUEUED and record.not_before_ms:
        rows.append(("Starts", time_text(record.not_before_ms)))
    if record.deaths is not None and record.deaths.count:
        again = "" if record.finished else f", runs again {time_text(record.not_before_ms)}"
        rows.append(("Process Ended", f"{record.deaths.count} times in a row while run() was executing{again}"))
    rows += [("Pending", f"{command}, taken once the worker runs") for command in shown.pending]
    if shown.events_waiting:
        rows.append(("Events Waiting", str(shown.events_waiting)))
    if record.error is not None:
        rows.append(("Error", _error_text(record.error)))
    if record.status is Status.COMPLETE:
        rows.append(("Output", _cut(value_text(shown.output), output_max)))
    rows += [("Note", note) for note in shown.notes]
    return rows


STEP_COLUMNS: Final = ("Name", "Type", "State", "Start", "End", "Duration", "CPU", "Attempts", "Result")


def step_rows(shown: Description, *, with_output: bool, output_max: int) -> Rows:
    rows: list[tuple[str, ...]] = []
    for step in shown.steps:
        if step.error is not None:
            result = _error_text(step.error)
        elif step.due_ms is not None:
            result = f"{'retries' if step.attempts else 'until'} {time_text(step.due_ms)}"
        else:
            shows = with_output and step.state == "succeeded"
            result = _cut(value_text(step.output), output_max) if shows else ""
        if step.drift:
            result = "; ".join((*filter(None, [result]), *(f"drift: {drift}" for drift in step.drift)))
        rows.append(
            (
                step.name,
                _TYPES.get(step.kind, "sleep"),
                step.state,
                time_text(step.started_ms),
                time_text(step.ended_ms),
                _duration(step.started_ms, step.ended_ms),
                _cpu(step.cpu_us) if step.attempts else "",
                str(len(step.attempts)) if step.attempts else "",
                result,
            )
        )
    return rows


ATTEMPT_COLUMNS: Final = ("Step", "Attempt", "State", "Start", "End", "Duration", "Error")


def attempt_rows(shown: Description) -> Rows:
    """The attempts of the steps that took more than one, or failed."""
    return [
        (
            step.name,
            str(attempt.number),
            attempt.state,
            time_text(attempt.started_ms),
            time_text(attempt.ended_ms),
            _duration(attempt.started_ms, attempt.ended_ms),
            "" if attempt.error is None else _error_text(attempt.error),
        )
        for step in shown.steps
        if len(step.attempts) > 1 or step.error is not None
        for attempt in step.attempts
    ]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}[...output truncated]"


def value_text(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False)


def _awaited_text(awaited: Awaited) -> str:
    event = f" {awaited.event_type}" if awaited.event_type else ""
    return f"{awaited.step} ({awaited.kind}{event}) until {time_text(awaited.due_ms)}"


def _cpu(cpu_us: int) -> str:
    return f"{cpu_us / 1000:.3f} ms"


def _duration(start_ms: int | None, end_ms: int | None) -> str:
    return "-" if start_ms is None or end_ms is None else f"{(end_ms - start_ms) / 1000:.3f} s"


def iso(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def error_json(error: ErrorRecord | None) -> dict[str, str] | None:
    return None if error is None else {"name": error.name, "message": error.message}


def _error_text(error: ErrorRecord) -> str:
    return f"{error.name}: {error.message}"


def plain(value: Any) -> Any:
    """The value with what JSON lacks written as text; bytes as Cloudflare's log shows them."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return f"[Uint8Array({len(value)} bytes)]"
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
