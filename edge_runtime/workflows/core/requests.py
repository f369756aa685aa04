"""What a step that the script asks for becomes in the journal, and how it compares with what the journal has. Pure."""

from __future__ import annotations

from edge_runtime.workflows.core.effects import SleepRequested, StepRequested, ValueRequested, WaitRequested
from edge_runtime.workflows.core.journal import StepKind, StepStarted

Request = StepRequested | SleepRequested | WaitRequested | ValueRequested


def start_entry(request: Request, seq: int, now_ms: int) -> StepStarted:
    match request:
        case StepRequested():
            return StepStarted(
                seq=seq,
                at_ms=now_ms,
                key=request.key,
                step=StepKind.DO,
                position=request.position,
                fingerprint="",
                config=request.config,
                at_most_once=request.at_most_once,
                skipped=not request.condition,
                rollback=request.rollback if request.condition else None,
            )
        case SleepRequested():
            return StepStarted(
                seq=seq,
                at_ms=now_ms,
                key=request.key,
                step=request.step,
                position=request.position,
                fingerprint=request.fingerprint,
                due_ms=request.due_ms,
            )
        case ValueRequested():
            return StepStarted(
                seq=seq,
                at_ms=now_ms,
                key=request.key,
                step=request.step,
                position=request.position,
                fingerprint="",
            )
        case WaitRequested():
            return StepStarted(
                seq=seq,
                at_ms=now_ms,
                key=request.key,
                step=StepKind.WAIT,
                position=request.position,
                fingerprint=_wait_fingerprint(request),
                due_ms=now_ms + request.timeout_ms,
                event_type=request.event_type,
            )


def _wait_fingerprint(request: WaitRequested) -> str:
    return f"type {request.event_type!r}"


def _kind(request: Request) -> StepKind:
    match request:
        case StepRequested():
            return StepKind.DO
        case SleepRequested() | ValueRequested():
            return request.step
        case WaitRequested():
            return StepKind.WAIT


def is_of_kind(recorded: StepStarted, request: Request) -> bool:
    return recorded.step is _kind(request)


def difference(recorded: StepStarted, request: Request) -> str | None:
    """What must not differ and does: "was X, is Y"."""
    kind, fingerprint = _kind(request), ""
    if isinstance(request, SleepRequested):
        fingerprint = request.fingerprint
    elif isinstance(request, WaitRequested):
        fingerprint = _wait_fingerprint(request)
    if recorded.step is not kind:
        return f"it was a {recorded.step} and is a {kind} now"
    if recorded.fingerprint != fingerprint:
        return f"its argument was {recorded.fingerprint} and is {fingerprint} now"
    if isinstance(request, StepRequested):
        if recorded.skipped and request.condition:
            return "its condition was false, so it was skipped, and is true now"
        if not recorded.skipped and not request.condition:
            return "its condition was true, so it ran, and is false now"
    return None
