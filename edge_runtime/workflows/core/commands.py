"""Commands from outside, as the engine takes them: pause, resume, terminate. Pure."""

from __future__ import annotations

from edge_runtime.workflows.core.effects import Consume, Finish, PauseAsked, ResumeAsked, Suspend, TerminateAsked
from edge_runtime.workflows.core.history import History
from edge_runtime.workflows.core.journal import Paused, PauseRequested, Resumed
from edge_runtime.workflows.core.operation import Phase
from edge_runtime.workflows.core.progress import expire, match_events
from edge_runtime.workflows.core.rollback import TERMINATED
from edge_runtime.workflows.core.undoing import begin_rollback, finish, relaunch


def pause(history: History, asked: PauseAsked) -> None:
    history.effects.append(Consume(asked.inbox_key))
    if history.pausing_ms is None and history.rollback is None:
        since_ms = min(asked.sent_ms, history.now_ms)
        history.append(PauseRequested(seq=history.next, at_ms=history.now_ms, since_ms=since_ms))


def settle_pause(history: History) -> None:
    """The pause has come once nothing runs any more."""
    if not any(op.in_flight or op.phase is Phase.ASKING for op in history.open.values()):
        history.append(Paused(seq=history.next, at_ms=history.now_ms))
        history.over = True
        history.effects.append(Suspend())


def resume(history: History, asked: ResumeAsked) -> bool:
    """Whether the script goes on in this activation, with what it has asked for meanwhile."""
    history.effects.append(Consume(asked.inbox_key))
    if history.pausing_ms is None:
        return False
    was_paused = history.paused
    until_ms = min(asked.sent_ms, history.now_ms)
    history.append(Resumed(seq=history.next, at_ms=history.now_ms, until_ms=until_ms))
    if was_paused:
        relaunch(history)
        return False
    return True


def go_on(history: History) -> None:
    """After the pause: what became due or arrived in it."""
    match_events(history)
    expire(history)


def terminate(history: History, asked: TerminateAsked, *, live: bool) -> None:
    history.effects.append(Consume(asked.inbox_key))
    if not asked.rollback:
        finish(history, Finish("terminated"))
    elif history.rollback is None:
        begin_rollback(history, Finish("terminated"), TERMINATED, live=live)
