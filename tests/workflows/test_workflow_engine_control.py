"""The engine alone: what each command does in each state, traces of pauses and rollbacks, and which entries a restart
keeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from engine_script import CONFIG, CREATED, OOPS, Script, key

from edge_runtime.limits import WORKFLOW_RESUME_MS
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core.effects import (
    AttemptRaised,
    AttemptSucceeded,
    EventArrived,
    Input,
    PauseAsked,
    ResumeAsked,
    RunRaised,
    RunReturned,
    RunStopped,
    Stalled,
    StepRequested,
    Stopped,
    TerminateAsked,
    TimerFired,
    Woken,
)
from edge_runtime.workflows.core.journal import (
    AttemptReleased,
    Backoff,
    Entry,
    StepConfig,
    StepStarted,
    StepSucceeded,
    rollback_key,
)
from edge_runtime.workflows.core.restart import Origin, find, origin_of, restarted

PAUSE, RESUME = PauseAsked(b"p", 0), ResumeAsked(b"r", 0)
TERMINATE, UNDO = TerminateAsked(b"t", 0), TerminateAsked(b"t", 0, rollback=True)
ONCE = StepConfig(0, 0, Backoff.CONSTANT, 1000)


def ask(script: Script, name: str, at_ms: int | None = None) -> list[str]:
    """`step.do` with a rollback handler."""
    reserved, position = script.engine.reserve((), name)
    return script.put(StepRequested(reserved, position, CONFIG, rollback=ONCE), at_ms)


def undone(script: Script, name: str) -> list[str]:
    return script.put(AttemptSucceeded(rollback_key(key(name)), 1, b""))


def running() -> Script:
    script = Script()
    script.do("a")
    return script


def waiting() -> Script:
    script = Script()
    script.sleep("nap", 60_000)
    return script


def pausing() -> Script:
    script = running()
    script.put(PAUSE)
    return script


def paused() -> Script:
    """An activation of a paused instance: no script runs in it."""
    script = waiting()
    script.put(PAUSE)
    again = script.again()
    again.engine.live = False
    return again


def queued() -> Script:
    script = Script()
    script.engine.live = False
    return script


def undoing() -> Script:
    script = Script()
    ask(script, "a")
    script.done("a")
    script.put(RunRaised(OOPS))
    script.put(RunStopped())
    return script


def finished() -> Script:
    script = Script()
    script.put(RunReturned(b""))
    return script


NO_EFFECT: list[str] = ["consume"]
TABLE: list[tuple[Callable[[], Script], Input, list[str]]] = [
    (queued, PAUSE, ["consume", "pause", "paused", "suspend"]),
    (queued, RESUME, NO_EFFECT),
    (queued, TERMINATE, ["consume", "finished terminated", "finish terminated"]),
    (queued, UNDO, ["consume", "finished terminated", "finish terminated"]),
    (running, PAUSE, ["consume", "pause"]),
    (running, RESUME, NO_EFFECT),
    (running, TERMINATE, ["consume", "finished terminated", "finish terminated"]),
    (running, UNDO, ["consume", "finished terminated", "finish terminated"]),
    (waiting, PAUSE, ["consume", "pause", "paused", "suspend"]),
    (waiting, RESUME, NO_EFFECT),
    (waiting, TERMINATE, ["consume", "finished terminated", "finish terminated"]),
    (pausing, PAUSE, NO_EFFECT),
    (pausing, RESUME, ["consume", "resumed"]),
    (pausing, TERMINATE, ["consume", "finished terminated", "finish terminated"]),
    (paused, PAUSE, NO_EFFECT),
    (paused, RESUME, ["consume", "resumed", "relaunch"]),
    (paused, TERMINATE, ["consume", "finished terminated", "finish terminated"]),
    (paused, UNDO, ["consume", "finished terminated", "finish terminated"]),
    (undoing, PAUSE, NO_EFFECT),
    (undoing, RESUME, NO_EFFECT),
    (undoing, TERMINATE, ["consume", "finished terminated", "finish terminated"]),
    (undoing, UNDO, NO_EFFECT),
    (finished, PAUSE, []),
    (finished, RESUME, []),
    (finished, TERMINATE, []),
]


def short(effects: list[str]) -> list[str]:
    """Without numbers and timers."""
    shown = []
    for effect in effects:
        words = effect.split()
        if words[0] == "append":
            shown.append(" ".join(words[2:]))
        elif words[0] == "consume":
            shown.append("consume")
        elif words[0] != "timer":
            shown.append(effect)
    return shown


@pytest.mark.parametrize(
    ("state", "command", "effects"), TABLE, ids=[f"{row[0].__name__}-{type(row[1]).__name__}" for row in TABLE]
)
def test_command_in_each_state(state: Callable[[], Script], command: Input, effects: list[str]) -> None:
    assert short(state().put(command)) == effects


def test_pause_waits_for_what_runs_and_holds_everything_else_back() -> None:
    script = Script()
    script.do("a")
    script.sleep("nap", 1000)
    script.wait("w", "paid")
    assert short(script.put(PAUSE, 100)) == ["consume", "pause"]
    assert script.do("b") == []
    assert script.put(EventArrived(b"e", "paid", b"", 200)) == []
    assert script.put(TimerFired(), 5000) == [f"timer {5000 + WORKFLOW_RESUME_MS}"]
    assert script.done("a", at_ms=6000) == ["append 6 succeeded a-1", "append 7 paused", "suspend", "timer None"]
    assert script.put(TimerFired()) == []


def test_resume_shifts_what_waits_by_the_pause_and_no_more() -> None:
    script = Script()
    script.sleep("nap", 10_000)
    script.do("a")
    script.put(PauseAsked(b"p", 4_000), 4_000)
    # The attempt fails while the pause is coming: its delay has not begun before 5 s.
    script.put(AttemptRaised(key("a"), 1, OOPS), 5_000)
    paused = script.again()
    paused.engine.live = False
    assert short(paused.put(ResumeAsked(b"r", 9_000), 9_000)) == ["consume", "resumed", "relaunch"]
    again = paused.again()
    again.now_ms = 9_000
    again.sleep("nap", 10_000)
    again.do("a")
    assert [(op.key.name, op.due_ms) for op in again.engine.awaited(9)] == [("a", 10_000), ("nap", 15_000)]


def test_resume_before_the_pause_has_come_begins_what_was_held_back() -> None:
    script = pausing()
    script.do("b")
    assert short(script.put(RESUME)) == ["consume", "resumed", "do b-1", "start b-1 attempt 1"]


def test_crash_while_a_pause_is_coming_completes_it() -> None:
    again = pausing().again()
    again.engine.live = False
    assert short(again.put(Woken())) == ["paused", "suspend"]


def test_orderly_stop_while_a_pause_is_coming_completes_it() -> None:
    assert short(pausing().put(Stopped())) == ["attempt_released a-1", "paused", "suspend"]


def test_run_that_ends_while_a_pause_is_coming_is_over() -> None:
    assert short(pausing().put(RunReturned(b""))) == ["finished complete", "finish complete"]


def test_failed_run_is_undone_last_begun_first() -> None:
    script = Script()
    ask(script, "a")
    script.done("a", b"A")
    script.do("plain")
    script.done("plain")
    ask(script, "b")
    assert short(script.put(RunRaised(OOPS))) == ["rollback", "stop run"]
    assert script.done("b") == []
    assert short(script.put(RunStopped())) == ["rollback rollback:/b-1", "start rollback:/b-1 attempt 1 undo b-1 None"]
    assert short(undone(script, "b")) == [
        "succeeded rollback:/b-1",
        "rollback rollback:/a-1",
        "start rollback:/a-1 attempt 1 undo a-1 b'A'",
    ]
    assert script.do("more") == ["refuse more-1 WorkflowFatalError"]
    assert short(undone(script, "a")) == [
        "succeeded rollback:/a-1",
        "rollback_ended 2 of 2",
        "finished errored",
        "finish errored ValueError",
    ]


def test_failing_rollback_ends_the_chain() -> None:
    script = Script()
    for name in ("a", "b"):
        ask(script, name)
        script.done(name)
    script.put(RunRaised(OOPS))
    script.put(RunStopped())
    failed = script.put(AttemptRaised(rollback_key(key("b")), 1, ErrorRecord("OSError", "no")))
    assert short(failed) == [
        "failed rollback:/b-1 OSError",
        "rollback_ended 0 of 2",
        "finished errored",
        "finish errored ValueError",
    ]


def test_rollback_after_a_crash_asks_the_script_for_its_handlers_and_begins_nothing_else() -> None:
    script = Script()
    ask(script, "a")
    script.done("a")
    ask(script, "b")
    script.put(UNDO)
    script.put(RunStopped())
    again = script.again()
    assert ask(again, "a")[0].startswith("resolve a-1")
    assert short(again.do("new")) == []
    assert short(ask(again, "b")) == ["stop run"]
    # The attempt to undo b was cut short by the crash, and there is one attempt only.
    assert short(again.put(RunStopped())) == [
        "failed rollback:/b-1 WorkflowInternalError",
        "rollback_ended 0 of 2",
        "finished terminated",
        "finish terminated",
    ]


@pytest.mark.parametrize("end", [RunReturned(b""), RunRaised(OOPS), Stalled()], ids=["returned", "raised", "stalled"])
def test_handler_that_the_script_no_longer_names_ends_the_rollback(end: Input) -> None:
    script = undoing()
    again = script.again()
    assert short(again.put(end)) == ["stop run"]
    assert short(again.put(RunStopped())) == [
        "failed rollback:/a-1 RollbackMissing",
        "rollback_ended 0 of 1",
        "finished errored",
        "finish errored ValueError",
    ]


def test_success_and_an_end_without_rollback_undo_nothing() -> None:
    for end in (RunReturned(b""), RunRaised(OOPS, rollback=False)):
        script = Script()
        ask(script, "a")
        script.done("a")
        assert "rollback" not in " ".join(script.put(end))


def history() -> list[Entry]:
    """a, then b and c together; c ends before b does; then a again."""
    script = Script()
    script.do("a")
    script.done("a")
    script.do("b")
    script.sleep("c", 1000)
    script.put(TimerFired(), 1000)
    script.put(RunRaised(OOPS))
    return script.entries


def kinds(entries: list[Entry]) -> list[str]:
    return [
        f"{entry.__struct_config__.tag} {getattr(entry, 'key', None) or ''}".strip()
        for entry in entries
        if entry.__struct_config__.tag
    ]


@pytest.mark.parametrize(
    ("origin", "kept"),
    [
        (None, ["created", "restarted"]),
        (Origin("a"), ["created", "restarted"]),
        (Origin("b"), ["created", "step a-1", "succeeded a-1", "restarted"]),
        (
            Origin("c", 1, "sleep"),
            ["created", "step a-1", "succeeded a-1", "step b-1", "restarted", "attempt_released b-1"],
        ),
    ],
)
def test_restart_keeps_the_entries_of_steps_that_began_before_its_origin(
    origin: Origin | None, kept: list[str]
) -> None:
    entries = restarted(history(), origin, 5000)
    assert kinds(entries) == kept
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))


def test_step_to_restart_from_is_found_by_name_type_and_count_or_as_it_is_shown() -> None:
    entries = history()
    assert find(entries, Origin("c")) is None
    assert find(entries, Origin("a", 2)) is None
    found = find(entries, Origin("c", 1, "sleep"))
    assert isinstance(found, StepStarted)
    assert origin_of(entries, "c-1") == Origin("c", 1, "sleep")
    assert origin_of(entries, "a") == Origin("a")
    assert origin_of(entries, "nothing") is None


def test_restart_keeps_the_shifts_of_earlier_pauses_and_drops_an_open_one() -> None:
    script = Script([CREATED])
    script.sleep("nap", 10_000)
    script.put(PauseAsked(b"p", 1_000), 1_000)
    paused = script.again()
    paused.engine.live = False
    paused.put(ResumeAsked(b"r", 5_000), 5_000)
    again = paused.again()
    again.sleep("nap", 10_000)
    again.do("b")
    again.put(PAUSE)
    entries = restarted(again.entries, Origin("b"), 9_000)
    assert kinds(entries) == ["created", "step nap-1", "pause", "paused", "resumed", "restarted"]
    last = Script(entries)
    last.sleep("nap", 10_000)
    assert last.engine.awaited(1)[0].due_ms == 14_000
    assert not any(isinstance(entry, StepSucceeded | AttemptReleased) for entry in entries)
