"""The engine at replay: recorded results in their order, and what it makes of journals that do not fit the script."""

from __future__ import annotations

import pytest
from engine_script import OOPS, Script

from edge_runtime.limits import WORKFLOW_RESUME_MS
from edge_runtime.workflows.core.effects import Delivered, RunRaised, RunReturned, Stalled, TimerFired
from edge_runtime.workflows.core.journal import Backoff, StepConfig, StepKind


def test_replay_answers_from_the_journal_and_appends_nothing() -> None:
    script = Script()
    script.do("a")
    script.done("a")
    script.do("b")
    script.done("b", b"w")
    replay = script.again()
    assert replay.do("a")[0] == "resolve a-1 b'v' from 3"
    assert replay.do("b") == ["resolve b-1 b'w' from 5"]
    assert replay.do("b") == ["append 6 do b-2", "start b-2 attempt 1"]


def concurrent() -> Script:
    """a and b begin together; b ends first, and c is begun in between."""
    script = Script()
    script.do("a")
    script.do("b")
    script.done("b")
    script.do("c")
    script.done("a")
    script.put(Delivered())
    return script


def test_replay_gives_results_in_recorded_order_one_at_a_time() -> None:
    replay = concurrent().again()
    assert replay.do("a") == [f"timer {WORKFLOW_RESUME_MS}"]
    assert replay.do("b") == ["resolve b-1 b'v' from 4", "breathe"]
    assert replay.put(Delivered()) == []
    assert replay.engine.holding
    assert "resolve a-1 b'v' from 6" in replay.do("c")


def test_results_that_end_together_are_given_one_after_the_other_in_live_execution_too() -> None:
    script = Script()
    script.do("a")
    script.do("b")
    assert script.done("b") == ["append 4 succeeded b-1", "resolve b-1 b'v' from 4"]
    assert script.done("a") == ["append 5 succeeded a-1", "breathe"]
    assert script.put(Delivered()) == ["resolve a-1 b'v' from 5"]


def test_result_held_for_a_step_that_was_removed_is_given_after_a_stall() -> None:
    replay = concurrent().again(strict=False)
    replay.do("a")
    assert replay.put(Stalled()) == ["resolve a-1 b'v' from 6"]
    assert replay.put(RunReturned(b"")) == [
        "append 7 drift b-1 the journal has it and the script did not ask for it again",
        "append 8 drift c-1 the journal has it and the script did not ask for it again",
        "append 9 finished complete",
        "finish complete",
    ]


@pytest.mark.parametrize("end", [RunReturned(b""), RunRaised(OOPS)])
def test_removed_step_stops_a_strict_instance_at_its_end(end) -> None:
    replay = concurrent().again()
    replay.do("a")
    replay.put(Stalled())
    assert replay.put(end) == ["fault step b-1 (entry 3): the script has ended without asking for it", "timer None"]


def test_removed_step_stops_a_strict_instance_before_anything_new_begins() -> None:
    replay = concurrent().again()
    replay.do("a")
    replay.put(Stalled())
    assert replay.do("new")[0] == (
        "fault step b-1 (entry 3): the script has gone on to step new-1 without asking for it"
    )
    assert replay.put(RunReturned(b"")) == []


def test_inserted_step_stops_a_strict_instance() -> None:
    script = Script()
    script.do("a")
    script.done("a")
    assert script.again().do("new") == [
        "fault step a-1 (entry 2): step new-1, which the journal does not have, is asked for before it"
    ]


def test_lenient_instance_keeps_what_is_recorded_where_arguments_change_but_not_where_the_kind_does() -> None:
    script = Script()
    script.sleep("x", 5_000)
    replay = script.again(strict=False)
    assert replay.sleep("x", 9_000)[0] == (
        "append 3 drift x-1 its argument was 5000 ms and is 9000 ms now; what is recorded stays in force"
    )
    assert replay.put(TimerFired(), at_ms=5_000)[0] == "append 4 succeeded x-1"
    assert script.again(strict=False).do("x") == ["fault step x-1 (entry 2): it was a sleep and is a do now"]


def test_inserted_step_is_followed_and_noted_where_drift_is_allowed() -> None:
    script = Script()
    script.do("a")
    script.done("a")
    replay = script.again(strict=False)
    assert replay.do("new")[0] == (
        "append 4 drift new-1 the journal does not have it; step a-1 came next when this part ran before"
    )
    replay.done("new")
    assert "resolve a-1 b'v' from 3" in replay.do("a")


def test_changed_config_is_followed_as_recorded_and_noted_once() -> None:
    script = Script()
    script.do("a", StepConfig(0, 1, Backoff.CONSTANT, 1000))
    replay = script.again()
    effects = replay.do("a")
    assert effects[0] == "append 3 drift a-1 its configuration has changed; the recorded one stays in force"
    assert effects[1] == "append 4 failed a-1 WorkflowInternalError"
    assert not any("drift" in effect for effect in replay.again().do("a"))


@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        (lambda s: s.do("x"), lambda s: s.sleep("x", 5), "it was a do and is a sleep now"),
        (lambda s: s.sleep("x", 5), lambda s: s.sleep("x", 6), "its argument was 5 ms and is 6 ms now"),
        (
            lambda s: s.sleep("x", 5),
            lambda s: s.sleep("x", 5, StepKind.SLEEP_UNTIL),
            "it was a sleep and is a sleepUntil now",
        ),
        (lambda s: s.wait("x", "a"), lambda s: s.wait("x", "b"), "its argument was type 'a' and is type 'b' now"),
        (
            lambda s: s.do("x", condition=True),
            lambda s: s.do("x", condition=False),
            "its condition was true, so it ran, and is false now",
        ),
    ],
)
def test_drift_that_must_not_be_followed_stops_the_instance(before, after, difference) -> None:
    script = Script()
    before(script)
    replay = script.again()
    assert after(replay) == [
        f"fault step x-1 (entry 2): {difference}",
    ]
    assert replay.do("y") == []


def test_step_that_was_passed_over_and_is_asked_for_late_has_its_result_given_once() -> None:
    """In its turn, where the result that was given in its stead came before its own."""
    script = Script()
    script.do("a")
    script.do("b")
    script.done("b", b"first")
    script.put(Delivered())
    script.done("a", b"second")
    replay = script.again()
    assert not any(effect.startswith("resolve") for effect in replay.do("b"))
    assert replay.put(Stalled()) == ["resolve b-1 b'first' from 4"]
    replay.put(Delivered())
    assert replay.do("a") == ["resolve a-1 b'second' from 5"]
    assert replay.put(Delivered()) == []
    assert replay.do("c")[0] == "append 6 do c-1"
    assert replay.done("c") == ["append 7 succeeded c-1", "resolve c-1 b'v' from 7"]
