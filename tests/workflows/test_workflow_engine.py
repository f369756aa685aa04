"""The engine alone: what each input leads to, as traces of effects."""

from __future__ import annotations

import pytest
from engine_script import OOPS, Script, key

from edge_runtime.limits import SLEEP_MAX_MS, WORKFLOW_RESUME_MS
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core.effects import (
    AttemptRaised,
    AttemptSucceeded,
    DelayComputed,
    Delivered,
    EventArrived,
    RunRaised,
    RunReturned,
    Stopped,
    TimerFired,
    ValueRequested,
)
from edge_runtime.workflows.core.journal import Backoff, StepConfig, StepKey, StepKind, StepStarted
from edge_runtime.workflows.core.operation import retry_delay_ms


def test_step_runs_and_its_result_is_given_from_its_entry() -> None:
    script = Script()
    assert script.do("a") == ["append 2 do a-1", "start a-1 attempt 1", f"timer {WORKFLOW_RESUME_MS}"]
    assert script.done("a", at_ms=50) == ["append 3 succeeded a-1", "resolve a-1 b'v' from 3"]
    assert script.put(RunReturned(b"out")) == ["append 4 finished complete", "finish complete"]
    assert script.put(RunReturned(b"out")) == []


def test_failed_attempt_waits_for_its_delay_then_runs_again_then_fails_for_good() -> None:
    script = Script()
    script.do("a")
    assert script.put(AttemptRaised(key("a"), 1, OOPS), 10) == [
        "append 3 attempt_failed a-1 attempt 1 retry at 1010",
        "timer 1010",
    ]
    assert script.engine.waiting
    assert script.put(TimerFired(), 1010) == [
        "append 4 attempt a-1",
        "start a-1 attempt 2",
        f"timer {1010 + WORKFLOW_RESUME_MS}",
    ]
    assert script.put(AttemptRaised(key("a"), 2, OOPS), 1020)[0].endswith("retry at 3020")
    script.put(TimerFired(), 3020)
    assert script.put(AttemptRaised(key("a"), 3, OOPS)) == [
        "append 7 failed a-1 ValueError",
        "resolve a-1 ValueError from 7",
    ]


def test_error_that_must_not_be_retried_ends_the_step() -> None:
    script = Script()
    script.do("a")
    assert script.put(AttemptRaised(key("a"), 1, OOPS, retryable=False)) == [
        "append 3 failed a-1 ValueError",
        "resolve a-1 ValueError from 3",
    ]


def test_delay_of_nothing_starts_the_next_attempt_at_once() -> None:
    script = Script()
    script.do("a", StepConfig(1, 0, Backoff.CONSTANT, 1000))
    assert script.put(AttemptRaised(key("a"), 1, OOPS)) == [
        "append 3 attempt_failed a-1 attempt 1 retry at 0",
        "append 4 attempt a-1",
        "start a-1 attempt 2",
    ]


def test_delay_function_is_asked_and_its_failure_ends_the_step() -> None:
    script = Script()
    script.do("a", StepConfig(None, None, Backoff.CONSTANT, 1000))
    assert script.put(AttemptRaised(key("a"), 1, OOPS)) == ["ask delay a-1 after attempt 1"]
    assert not script.engine.waiting
    assert script.put(DelayComputed(key("a"), 1, 700)) == [
        "append 3 attempt_failed a-1 attempt 1 retry at 700",
        "timer 700",
    ]
    script.put(TimerFired(), 700)
    script.put(AttemptRaised(key("a"), 2, OOPS))
    bad = ErrorRecord("NonRetryableDelayError", "no")
    assert script.put(DelayComputed(key("a"), 2, 0, bad))[0] == "append 5 failed a-1 NonRetryableDelayError"


def test_crash_consumes_the_attempt_and_a_stop_does_not() -> None:
    script = Script()
    script.do("a")
    after_crash = script.again()
    assert after_crash.do("a")[:3] == [
        "append 3 attempt_failed a-1 attempt 1 retry at 0",
        "append 4 attempt a-1",
        "start a-1 attempt 2",
    ]
    after_another = after_crash.again()
    assert after_another.do("a")[0] == "append 5 attempt_failed a-1 attempt 2 retry at 2000"
    assert script.put(Stopped())[0] == "append 3 attempt_released a-1"
    after_stop = script.again()
    assert after_stop.do("a")[:2] == ["append 4 attempt a-1", "start a-1 attempt 1"]


def test_step_at_most_once_starts_after_its_commit_and_is_never_repeated() -> None:
    script = Script()
    assert script.do("a", at_most_once=True)[1] == "start a-1 attempt 1 after commit"
    assert script.put(Stopped()) == []
    replay = script.again()
    assert replay.do("a", at_most_once=True)[:2] == [
        "append 3 failed a-1 StepInterrupted",
        "resolve a-1 StepInterrupted from 3",
    ]


def test_sleep_ends_when_due_and_never_before() -> None:
    script = Script()
    assert script.sleep("nap", 60_000) == ["append 2 sleep nap-1", "timer 60000"]
    assert script.put(TimerFired(), 59_999) == ["timer 60000"]
    assert script.put(TimerFired(), 60_000)[:2] == ["append 3 succeeded nap-1", "resolve nap-1 b'' from 3"]


def test_sleep_that_became_due_meanwhile_ends_when_asked_for() -> None:
    script = Script()
    script.sleep("nap", 60_000)
    replay = script.again()
    replay.now_ms = 90_000
    assert replay.sleep("nap", 60_000)[:2] == ["append 3 succeeded nap-1", "resolve nap-1 b'' from 3"]


def test_event_goes_to_the_oldest_wait_of_its_type_and_is_consumed_with_the_entry() -> None:
    script = Script()
    script.put(EventArrived(b"k1", "paid", b"1", 0))
    assert script.wait("first", "paid") == [
        "append 2 waitForEvent first-1",
        "append 3 event first-1",
        "consume b'k1'",
        "resolve first-1 event paid b'1' from 3",
    ]
    script.wait("second", "paid")
    script.wait("third", "paid")
    assert script.put(EventArrived(b"k2", "other", b"x", 5)) == []
    assert script.put(EventArrived(b"k3", "paid", b"2", 6))[:2] == ["append 6 event second-1", "consume b'k3'"]


@pytest.mark.parametrize(("sent_ms", "outcome"), [(4_000, "event"), (6_000, "failed")])
def test_event_sent_before_the_end_of_a_wait_wins_however_late_it_is_looked_at(sent_ms: int, outcome: str) -> None:
    script = Script()
    script.wait("w", "paid", 5_000)
    script.now_ms = 60_000
    effects = [*script.put(EventArrived(b"k", "paid", b"", sent_ms)), *script.put(TimerFired())]
    assert any(effect.startswith(f"append 3 {outcome} w-1") for effect in effects)


def test_skipped_step_is_recorded_and_over() -> None:
    script = Script()
    assert script.do("a", condition=False)[:2] == ["append 2 do a-1 skipped", "resolve a-1 None from 2"]
    assert script.again().do("a", condition=False)[0] == "resolve a-1 None from 2"


def test_step_limit_counts_do_only() -> None:
    script = Script(steps_max=1)
    script.sleep("nap", 0)
    script.do("a")
    assert script.do("b") == ["refuse b-1 WorkflowFatalError"]


def test_value_is_recorded_when_it_is_asked_for_first() -> None:
    script = Script()
    key, position = script.engine.reserve((), "now()")
    assert script.put(ValueRequested(key, position, StepKind.NOW, b"1"))[:3] == [
        "append 2 now now()-1",
        "append 3 succeeded now()-1",
        "resolve now()-1 b'1' from 3",
    ]
    replay = script.again()
    replay.engine.reserve((), "now()")
    assert "resolve now()-1 b'1' from 3" in replay.put(ValueRequested(key, position, StepKind.NOW, b"2"))


def test_error_that_says_when_to_try_again_is_believed() -> None:
    script = Script()
    script.do("a")
    effects = script.put(AttemptRaised(key("a"), 1, OOPS, retry_after_ms=77_000))
    assert effects[0] == "append 3 attempt_failed a-1 attempt 1 retry at 77000"


def test_instant_of_a_sleep_until_may_be_computed_from_the_present_time() -> None:
    script = Script()
    script.sleep("x", 5_000, StepKind.SLEEP_UNTIL)
    replay = script.again()
    replay.now_ms = 1_000
    assert replay.sleep("x", 5_000, StepKind.SLEEP_UNTIL) == ["timer 5000"]


def test_running_instance_keeps_a_timer_that_is_not_written_with_every_step() -> None:
    script = Script()
    timers = [effect for at in range(0, 30_000, 500) for effect in _one_step(script, at) if effect.startswith("timer")]
    assert len(timers) == 30_000 // (WORKFLOW_RESUME_MS // 2)


def _one_step(script: Script, at_ms: int) -> list[str]:
    begun = script.do("again", at_ms=at_ms)
    assert script.engine.seq > 0
    last = next(entry for entry in reversed(script.entries) if isinstance(entry, StepStarted))
    return begun + script.put(AttemptSucceeded(last.key, 1, b""))


def test_uncaught_error_ends_the_instance() -> None:
    assert Script().put(RunRaised(OOPS)) == ["append 2 finished errored", "finish errored ValueError"]


def test_contexts_have_namespaces_of_their_own() -> None:
    engine = Script().engine
    assert engine.reserve(("left",), "a") == (StepKey(("left",), "a", 1), 1)
    assert engine.reserve(("right",), "a") == (StepKey(("right",), "a", 1), 1)
    assert engine.reserve(("left",), "a") == (StepKey(("left",), "a", 2), 2)
    assert str(StepKey(("left",), "a", 2)) == "left/a-2"


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (Backoff.CONSTANT, [100, 100, 100, 100]),
        (Backoff.LINEAR, [100, 200, 300, 400]),
        (Backoff.EXPONENTIAL, [100, 200, 400, 800]),
    ],
)
def test_backoff_follows_cloudflare_and_is_capped(backoff: Backoff, delays: list[int]) -> None:
    config = StepConfig(None, 100, backoff, 1000)
    assert [retry_delay_ms(config, attempt) for attempt in (1, 2, 3, 4)] == delays
    assert retry_delay_ms(config, 10**9) <= SLEEP_MAX_MS


def test_ten_thousand_sleeps_and_events_at_once_take_no_time_for_each_other() -> None:
    """Quadratic work would take minutes here."""
    script = Script(steps_max=100_000)
    for number in range(10_000):
        script.sleep(f"s{number}", 1_000 + number)
    for number in range(10_000):
        script.put(EventArrived(number.to_bytes(4, "big"), "paid", b"", 0))
    for number in range(10_000):
        assert f"consume {number.to_bytes(4, 'big')!r}" in script.wait(f"w{number}", "paid")
        script.put(Delivered())
    resolved = script.put(TimerFired(), at_ms=20_000)
    assert sum(effect.startswith("append") for effect in resolved) == 10_000
