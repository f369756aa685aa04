"""Drift: the script asks for something else than the journal has. Pure.

Such a script is stopped (`Fault`) before it begins anything new: where a step is found under its key with another kind,
other arguments or another condition, where a step is new in a part that ran before, or a recorded one is left out. Not
`strict`, as on Cloudflare, all but another kind is followed, what is recorded stays in force, and it is noted as
`Drifted` to be shown. A changed configuration is noted either way.
"""

from __future__ import annotations

from edge_runtime.workflows.core.effects import Fault, StepRequested
from edge_runtime.workflows.core.history import History
from edge_runtime.workflows.core.journal import Drifted, StepKey, StepStarted
from edge_runtime.workflows.core.operation import Operation
from edge_runtime.workflows.core.progress import disarm, release
from edge_runtime.workflows.core.requests import Request, difference, is_of_kind


def fits(history: History, op: Operation, request: Request, *, strict: bool) -> bool:
    """Whether a recorded step may be taken for the one that the script asks for."""
    found = difference(op.started, request)
    if found is not None:
        if strict or not is_of_kind(op.started, request):
            fault(history, op.started, found)
            return False
        _note(history, request.key, f"{found}; what is recorded stays in force")
    if isinstance(request, StepRequested) and op.started.config not in (None, request.config):
        _note(history, request.key, "its configuration has changed; the recorded one stays in force")
    return True


def may_begin(history: History, request: Request, *, strict: bool) -> bool:
    """Whether a step that the journal does not have may begin."""
    if strict and (left := history.replay.left_out) is not None:
        fault(history, history.started(left), f"the script has gone on to step {request.key} without asking for it")
        return False
    first = history.replay.expected
    if first is not None:
        expected = history.started(first)
        if strict:
            fault(history, expected, f"step {request.key}, which the journal does not have, is asked for before it")
            return False
        text = f"the journal does not have it; step {expected.key} came next when this part ran before"
        _note(history, request.key, text)
    return True


def may_end(history: History, *, strict: bool) -> bool:
    """Whether the end of the script is the instance's: strict, no recorded step may be left out."""
    if strict and (left := history.replay.left_out) is not None:
        fault(history, history.started(left), "the script has ended without asking for it")
        return False
    return True


def note_left_out(history: History) -> None:
    past = history.replay.past
    for row in past.not_requested():
        left = history.started(past.start(row))
        _note(history, left.key, "the journal has it and the script did not ask for it again")


def fault(history: History, started: StepStarted, difference: str) -> None:
    release(history)
    history.over = history.faulty = True
    history.effects.append(Fault(f"step {started.key} (entry {started.seq}): {difference}"))
    disarm(history)


def _note(history: History, key: StepKey | None, difference: str) -> None:
    if (key, difference) not in history.noted:
        history.append(Drifted(seq=history.next, at_ms=history.now_ms, key=key, difference=difference))
