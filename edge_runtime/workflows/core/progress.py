"""How steps that have begun go on: their attempts, their retries, the times and events that they wait for. Pure."""

from __future__ import annotations

from edge_runtime.limits import SLEEP_MAX_MS, WORKFLOW_RESUME_MS
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core.effects import AskDelay, Consume, DelayComputed, SetTimer, StartAttempt
from edge_runtime.workflows.core.history import History
from edge_runtime.workflows.core.journal import (
    AttemptFailed,
    AttemptReleased,
    AttemptStarted,
    EventReceived,
    StepFailed,
    StepKey,
    StepKind,
    StepSucceeded,
)
from edge_runtime.workflows.core.operation import Operation, Phase, retry_delay_ms


def take_up(history: History, op: Operation) -> None:
    """Go on with a step that an earlier activation has begun."""
    match op.phase:
        case Phase.RUNNING:
            # It began in an activation that did not end in an orderly way. The second attempt begins at once, as in
            # Cloudflare's engine: the delay is for what the step calls. Later ones wait as after an error, since by
            # then it may be the step that ends the process, or others that do so again and again.
            attempt_failed(history, op, op.interruption, retryable=True, retry_after_ms=0 if op.attempt == 1 else None)
        case Phase.RELEASED:
            start_attempt(history, op, op.attempt)
        case _:
            match_events(history)
            expire(history)


# Attempts


def run(history: History, op: Operation) -> None:
    """Have the attempt that has begun with the last entry run."""
    undo = None
    if op.started.step is StepKind.ROLLBACK and history.rollback is not None:
        undone = history.operations[StepKey(op.key.path[1:], op.key.name, op.key.occurrence)]
        undo = history.rollback.undo(undone, history.result(undone) if undone.phase is Phase.DONE else None)
    op.in_flight = True
    history.effects.append(StartAttempt(op.key, op.attempt, op.config, op.started.at_most_once, undo))


def start_attempt(history: History, op: Operation, attempt: int) -> None:
    history.append(AttemptStarted(seq=history.next, at_ms=history.now_ms, key=op.key, attempt=attempt))
    run(history, op)


def attempt_failed(
    history: History, op: Operation, error: ErrorRecord, retryable: bool, retry_after_ms: int | None = None
) -> None:
    if not retryable or not op.may_retry:
        history.append(StepFailed(seq=history.next, at_ms=history.now_ms, key=op.key, error=error, cpu_us=op.cpu_us))
    elif retry_after_ms is not None:
        _retry_after(history, op, error, min(retry_after_ms, SLEEP_MAX_MS))
    elif op.config.delay_ms is None:
        op.phase, op.pending_error = Phase.ASKING, error
        history.effects.append(AskDelay(op.key, op.attempt, error))
    else:
        _retry_after(history, op, error, retry_delay_ms(op.config, op.attempt))


def delay_computed(history: History, answer: DelayComputed) -> None:
    op = history.operations.get(answer.key)
    if op is None or op.phase is not Phase.ASKING or op.attempt != answer.attempt:
        return
    error, op.pending_error = op.pending_error, None
    assert error is not None, "a delay is asked for after an error"
    if answer.error is not None:
        history.append(StepFailed(seq=history.next, at_ms=history.now_ms, key=op.key, error=answer.error))
    else:
        _retry_after(history, op, error, min(answer.delay_ms, SLEEP_MAX_MS))


def _retry_after(history: History, op: Operation, error: ErrorRecord, delay_ms: int) -> None:
    history.append(
        AttemptFailed(
            seq=history.next,
            at_ms=history.now_ms,
            key=op.key,
            attempt=op.attempt,
            error=error,
            retry_at_ms=history.now_ms + delay_ms,
            cpu_us=op.cpu_us,
        )
    )
    if delay_ms <= 0 and history.pausing_ms is None:
        start_attempt(history, op, op.attempt + 1)


def release(history: History) -> None:
    """The activation ends in an orderly way: what runs does not count."""
    for op in list(history.open.values()):
        if op.phase is Phase.ASKING:
            assert op.pending_error is not None, "a delay is asked for after an error"
            history.append(
                AttemptFailed(
                    seq=history.next,
                    at_ms=history.now_ms,
                    key=op.key,
                    attempt=op.attempt,
                    error=op.pending_error,
                    retry_at_ms=history.now_ms,
                )
            )
        elif op.in_flight and not op.started.at_most_once:
            history.append(AttemptReleased(seq=history.next, at_ms=history.now_ms, key=op.key, attempt=op.attempt))


# Times and events


def expire(history: History) -> None:
    """End the sleeps and waits that are due and begin the attempts that are."""
    if history.pausing_ms is not None:
        return
    while (op := history.timetable.pop_due(history.now_ms)) is not None:
        if op.phase is Phase.SLEEPING:
            history.append(StepSucceeded(seq=history.next, at_ms=history.now_ms, key=op.key))
        elif op.phase is Phase.WAITING:
            waited_ms = (op.started.due_ms or 0) - op.started.at_ms
            error = ErrorRecord("WorkflowTimeoutError", f"Execution timed out after {waited_ms}ms")
            history.append(StepFailed(seq=history.next, at_ms=history.now_ms, key=op.key, error=error))
        elif op.phase is Phase.RETRYING:
            start_attempt(history, op, op.attempt + 1)


def match_events(history: History) -> None:
    """Give buffered events to the waits of their type."""
    if history.pausing_ms is not None:
        return
    for op, event in history.timetable.matches(history.now_ms):
        history.append(
            EventReceived(
                seq=history.next,
                at_ms=history.now_ms,
                key=op.key,
                event_type=event.event_type,
                payload=event.payload,
                sent_ms=event.sent_ms,
            )
        )
        history.effects.append(Consume(event.inbox_key))


def arm(history: History) -> None:
    """Keep the stored timer early enough: when something is due, and for as long as the script runs soon.

    A running instance always has a timer, for that is what brings it back after a crash. A paused one has none.
    """
    if history.paused:
        disarm(history)
        return
    due_ms = history.due_ms
    if due_ms is not None and not history.timetable.timed and history.pausing_ms is None:
        # As nearly always: steps run, and the timer that would bring the instance back is set.
        left_ms = due_ms - history.now_ms
        if WORKFLOW_RESUME_MS - WORKFLOW_RESUME_MS // 2 <= left_ms <= WORKFLOW_RESUME_MS:
            return
    soonest = None if history.pausing_ms is not None else history.timetable.soonest
    wanted_ms = None if soonest is None else soonest.due_ms
    if not history.waiting or wanted_ms is None:
        resume_ms = history.now_ms + WORKFLOW_RESUME_MS
        if wanted_ms is None or wanted_ms > resume_ms:
            # One that is set for a little earlier will do: this is not written with every step.
            early_ms = resume_ms - WORKFLOW_RESUME_MS // 2
            if history.due_ms is not None and early_ms <= history.due_ms <= resume_ms:
                return
            wanted_ms = resume_ms
    if wanted_ms != history.due_ms:
        history.due_ms = wanted_ms
        history.effects.append(SetTimer(wanted_ms))


def disarm(history: History) -> None:
    if history.due_ms is not None:
        history.due_ms = None
        history.effects.append(SetTimer(None))
