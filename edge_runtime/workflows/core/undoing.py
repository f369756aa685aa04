"""Undoing the steps of an instance that fails or is terminated, and its end. Pure.

Source: Cloudflare's engine (workflows-shared, lib/rollback.ts).
"""

from __future__ import annotations

from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core.effects import Finish, Refuse, Relaunch, StopRun
from edge_runtime.workflows.core.history import History
from edge_runtime.workflows.core.journal import (
    Finished,
    RollbackEnded,
    RollbackStarted,
    StepFailed,
    StepKind,
    StepStarted,
    rollback_key,
)
from edge_runtime.workflows.core.operation import Operation, Phase
from edge_runtime.workflows.core.progress import run, take_up
from edge_runtime.workflows.core.requests import Request, difference
from edge_runtime.workflows.core.rollback import MISSING, REFUSED, Rollback, RollbackPhase, undoable


def finish(history: History, end: Finish) -> None:
    history.append(Finished(seq=history.next, at_ms=history.now_ms, status=end.status))
    history.effects.append(end)


def relaunch(history: History) -> None:
    history.over = True
    history.effects.append(Relaunch())


def begin_rollback(history: History, end: Finish, error: ErrorRecord, *, live: bool) -> None:
    """Undo what there is to be undone; then the instance ends with `end`."""
    steps = undoable(history.operations)
    if not steps:
        finish(history, end)
        return
    history.append(
        RollbackStarted(seq=history.next, at_ms=history.now_ms, status=end.status, error=error, total=len(steps))
    )
    if not live:
        relaunch(history)


def is_gathering(history: History) -> bool:
    """The script runs to name its handlers, and for nothing else."""
    return history.rollback is not None and history.rollback.phase is RollbackPhase.GATHERING


def request_while_undoing(history: History, rollback: Rollback, request: Request) -> None:
    if rollback.phase is not RollbackPhase.GATHERING:
        history.effects.append(Refuse(request.key, REFUSED))
        return
    op = history.find(request.key)
    if op is not None and difference(op.started, request) is None:
        history.replay.found(op)


def stop_run(history: History, rollback: Rollback) -> None:
    """All handlers are known that will be: the script has nothing to do any more."""
    rollback.phase = RollbackPhase.STOPPING
    for op in history.open.values():
        op.in_flight = False
    history.open.clear()
    history.timetable.clear()
    history.replay.clear()
    history.effects.append(StopRun())


def run_stopped(history: History) -> None:
    rollback = history.rollback
    if rollback is not None and rollback.phase is RollbackPhase.STOPPING:
        rollback.phase = RollbackPhase.UNDOING


def go_on(history: History, rollback: Rollback) -> None:
    """Undo the next steps, if their handlers have been gathered."""
    if rollback.phase is RollbackPhase.GATHERING:
        if rollback.gathered:
            stop_run(history, rollback)
    elif rollback.phase is RollbackPhase.UNDOING:
        while (found := rollback.next) is not None:
            if not _undo(history, *found):
                return
        _end(history, rollback)


def _undo(history: History, step: Operation, undo: Operation | None) -> bool:
    """Begin or take up the undoing of a step; returns whether it is over already."""
    if undo is not None and undo.requested:
        return False
    begun = undo is None
    if undo is None:
        assert step.started.rollback is not None, "only steps with a handler are undone"
        history.append(
            StepStarted(
                seq=history.next,
                at_ms=history.now_ms,
                key=rollback_key(step.key),
                step=StepKind.ROLLBACK,
                position=step.started.position,
                fingerprint="",
                config=step.started.rollback,
            )
        )
        undo = history.operations[rollback_key(step.key)]
    history.ask(undo)
    if not step.requested:
        history.append(StepFailed(seq=history.next, at_ms=history.now_ms, key=undo.key, error=MISSING))
    elif begun:
        run(history, undo)
    else:
        take_up(history, undo)
    return undo.phase is Phase.DONE


def _end(history: History, rollback: Rollback) -> None:
    started = rollback.started
    history.append(
        RollbackEnded(seq=history.next, at_ms=history.now_ms, completed=rollback.completed, total=len(rollback.steps))
    )
    finish(history, Finish(started.status, error=started.error if started.status == "errored" else None))
