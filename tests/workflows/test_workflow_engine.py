"""The engine alone: what each input leads to, as traces of effects, and what it makes of journals that do not fit."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edge_runtime.limits import SLEEP_MAX_MS, WORKFLOW_RESUME_MS
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.effects import (
    Append,
    AskDelay,
    AttemptRaised,
    AttemptSucceeded,
    Breathe,
    Consume,
    DelayComputed,
    Delivered,
    Effect,
    Error,
    EventArrived,
    Fault,
    Finish,
    Input,
    Received,
    Refuse,
    Relaunch,
    Resolve,
    RunRaised,
    RunReturned,
    SetTimer,
    SleepRequested,
    Stalled,
    StartAttempt,
    StepRequested,
    Stopped,
    StopRun,
    Suspend,
    TimerFired,
    Value,
    ValueRequested,
    WaitRequested,
)
from edge_runtime.workflows.engine import Engine
from edge_runtime.workflows.journal import (
    AttemptFailed,
    Backoff,
    Created,
    Drifted,
    Entry,
    Finished,
    Paused,
    PauseRequested,
    Resumed,
    RollbackEnded,
    RollbackStarted,
    StepConfig,
    StepFailed,
    StepKey,
    StepKind,
    StepStarted,
)
from edge_runtime.workflows.operation import retry_delay_ms

CONFIG = StepConfig(2, 1000, Backoff.EXPONENTIAL, 600_000)
CREATED = Created(seq=1, at_ms=0, params=b"")
OOPS = ErrorRecord("ValueError", "oops")


def show(effect: Effect) -> str:
    match effect:
        case Append(entry):
            return f"append {entry.seq} {_entry(entry)}"
        case Resolve(key, Value(encoded), seq):
            return f"resolve {key} {encoded!r} from {seq}"
        case Resolve(key, Received(event_type, payload, _), seq):
            return f"resolve {key} event {event_type} {payload!r} from {seq}"
        case Resolve(key, Error(record), seq):
            return f"resolve {key} {record.name} from {seq}"
        case StartAttempt(key, attempt, _, after_commit, undo):
            result = "" if undo is None else f" undo {undo.key} {undo.result.encoded if undo.result else None!r}"
            return f"start {key} attempt {attempt}{' after commit' if after_commit else ''}{result}"
        case StopRun():
            return "stop run"
        case Suspend():
            return "suspend"
        case Relaunch():
            return "relaunch"
        case AskDelay(key, attempt, _):
            return f"ask delay {key} after attempt {attempt}"
        case SetTimer(due_ms):
            return f"timer {due_ms}"
        case Consume(inbox_key):
            return f"consume {inbox_key!r}"
        case Refuse(key, error):
            return f"refuse {key} {error.name}"
        case Breathe():
            return "breathe"
        case Fault(difference):
            return f"fault {difference}"
        case Finish(status, _, error):
            return f"finish {status}{f' {error.name}' if error else ''}"


def _entry(entry: Entry) -> str:
    kind = entry.__struct_config__.tag
    match entry:
        case StepStarted():
            return f"{entry.step} {entry.key}{' skipped' if entry.skipped else ''}"
        case AttemptFailed():
            return f"{kind} {entry.key} attempt {entry.attempt} retry at {entry.retry_at_ms}"
        case Drifted():
            return f"{kind} {entry.key} {entry.difference}"
        case StepFailed():
            return f"{kind} {entry.key} {entry.error.name}"
        case Finished():
            return f"{kind} {entry.status}"
        case RollbackEnded():
            return f"{kind} {entry.completed} of {entry.total}"
        case Created() | PauseRequested() | Paused() | Resumed() | RollbackStarted():
            return str(kind)
        case _:
            return f"{kind} {entry.key}"


class Script:
    """Puts inputs into an engine as a script and its driver would, and keeps what the engine appended."""

    def __init__(self, entries: Sequence[Entry] = (CREATED,), **options) -> None:
        self.entries = list(entries)
        self.engine = Engine(lambda seq: self.entries[seq - 1], **options)
        self.engine.load(self.entries)
        self.now_ms = 0

    def put(self, input: Input, at_ms: int | None = None) -> list[str]:
        self.now_ms = self.now_ms if at_ms is None else at_ms
        effects = self.engine.apply(input, self.now_ms)
        self.entries += [effect.entry for effect in effects if isinstance(effect, Append)]
        return [show(effect) for effect in effects]

    def do(self, name: str, config: StepConfig = CONFIG, at_ms: int | None = None, **options) -> list[str]:
        key, position = self.engine.reserve((), name)
        return self.put(StepRequested(key, position, config, **options), at_ms)

    def sleep(self, name: str, ms: int, step: StepKind = StepKind.SLEEP) -> list[str]:
        key, position = self.engine.reserve((), name)
        fingerprint = f"{ms} ms" if step is StepKind.SLEEP else ""
        return self.put(SleepRequested(key, position, step, self.now_ms + ms, fingerprint))

    def wait(self, name: str, event_type: str, timeout_ms: int = 5000) -> list[str]:
        key, position = self.engine.reserve((), name)
        return self.put(WaitRequested(key, position, event_type, timeout_ms))

    def done(self, name: str, value: bytes = b"v", attempt: int = 1, at_ms: int | None = None) -> list[str]:
        return self.put(AttemptSucceeded(key(name), attempt, value), at_ms)

    def again(self, **options) -> Script:
        """The next activation, from what this one appended."""
        next_one = Script(self.entries, **options)
        next_one.now_ms = self.now_ms
        return next_one


def key(name: str, occurrence: int = 1) -> StepKey:
    return StepKey((), name, occurrence)


def test_step_runs_and_its_result_is_given_from_its_entry() -> None:
    script = Script()
    assert script.do("a") == ["append 2 do a-1", "start a-1 attempt 1", f"timer {WORKFLOW_RESUME_MS}"]
    assert script.done("a", at_ms=50) == ["append 3 succeeded a-1", "resolve a-1 b'v' from 3"]
    assert script.put(RunReturned(b"out")) == ["append 4 finished complete", "finish complete"]
    assert script.put(RunReturned(b"out")) == []


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
