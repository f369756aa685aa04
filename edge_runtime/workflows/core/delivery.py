"""Giving the script the results of its steps, one at a time, and taking what it ends with. Pure."""

from __future__ import annotations

from edge_runtime.workflows.core import drift, undoing
from edge_runtime.workflows.core.effects import Breathe, Finish, Resolve, RunRaised, RunReturned
from edge_runtime.workflows.core.history import History


def deliver(history: History) -> None:
    """Give the result that is next, if nothing holds it back."""
    replay = history.replay
    if not replay.held or (op := replay.ready) is None:
        return
    if replay.delivering:
        history.effects.append(Breathe())
        return
    replay.give()
    history.effects.append(Resolve(op.key, history.result(op), op.done_seq))
    history.given(op)
    if replay.held:
        history.effects.append(Breathe())


def stalled(history: History) -> None:
    """The script has asked for nothing new for a while, and a result is held back."""
    replay = history.replay
    if replay.held and not replay.delivering:
        replay.pass_over()
    elif history.rollback is not None and undoing.is_gathering(history):
        # The script waits for what is held back; it names no further handlers.
        undoing.stop_run(history, history.rollback)


def run_over(history: History, ended: RunReturned | RunRaised, *, live: bool, strict: bool) -> None:
    """The script has ended, and the instance with it, unless something is to be undone or was left out."""
    if history.rollback is not None:
        if undoing.is_gathering(history):
            undoing.stop_run(history, history.rollback)
    elif not drift.may_end(history, strict=strict):
        return
    elif isinstance(ended, RunReturned):
        drift.note_left_out(history)
        undoing.finish(history, Finish("complete", output=ended.output))
    elif ended.rollback:
        undoing.begin_rollback(history, Finish("errored", error=ended.error), ended.error, live=live)
    else:
        undoing.finish(history, Finish("errored", error=ended.error))
