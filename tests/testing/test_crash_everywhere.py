"""crash_everywhere passes what is right, finds what is wrong, and shows the same failure again."""

import random

import pytest
import trio
import trio.lowlevel

from edge_runtime.errors import UsageError
from edge_runtime.testing import CrashDifference, Point, Send, Witness, crash_everywhere, run
from edge_runtime.workers.entrypoints import WorkflowEntrypoint

RETRY = {"retries": {"limit": 5, "delay": 1000, "backoff": "constant"}}


def test_workflow_that_keeps_the_rules_passes_at_every_point():
    witness = Witness()

    class OrderFlow(WorkflowEntrypoint):
        async def run(self, event, step):
            async def body(ctx):
                name = ctx["step"]["name"]
                witness.note(name)
                await trio.sleep(0.5)
                if name == "flaky" and ctx["attempt"] == 1:
                    raise OSError("busy")
                return name

            a = await step.do("a", RETRY, body)
            pair = [step.do("b", RETRY, body), step.do("flaky", RETRY, body)]
            both = [await promise for promise in pair]
            await step.sleep("nap", "3 days")
            early = await step.wait_for_event("first", "early")
            paid = await step.wait_for_event("second", "paid")
            try:
                await step.wait_for_event("third", "never", timeout="1 hour")
            except Exception as error:
                return [a, both, early["payload"], paid["payload"], error.name, event["payload"]]

    events = [Send("early", 1, early=True), Send("paid", 2)]
    report = crash_everywhere(OrderFlow, {"n": 1}, events=events, witness=witness, points_max=60)
    assert report.result == ("complete", ["a", ["b", "flaky"], 1, 2, "WorkflowTimeoutError", {"n": 1}], None)
    assert report.commits > 10
    assert report.rests > 5
    assert len(report.tried) == 60
    assert [Point.read(str(point)) for point in report.tried] == list(report.tried)


class Forgetful(WorkflowEntrypoint):
    """Keeps in memory what a replay does not find again."""

    async def run(self, event, step):
        numbers = []

        async def append():
            numbers.append(1)

        await step.do("append", RETRY, append)
        await step.sleep("nap", "1 day")
        return len(numbers)


def test_state_kept_outside_of_results_is_found_and_shown_again():
    with pytest.raises(CrashDifference) as found:
        crash_everywhere(Forgetful)
    text = str(found.value)
    assert "result: was complete with 1, is complete with 0" in text
    assert "crash_everywhere(..., seed=0, only=" in text
    point = text.rpartition('only="')[2].rstrip('")')
    with pytest.raises(CrashDifference) as again:
        crash_everywhere(Forgetful, only=point)
    assert str(again.value) == text


def test_moment_that_never_comes_is_refused():
    with pytest.raises(UsageError, match="the undisturbed run has"):
        crash_everywhere(Forgetful, only="killed after commit 1000")


def test_side_effect_outside_of_steps_is_found():
    witness = Witness()

    class Loud(WorkflowEntrypoint):
        async def run(self, event, step):
            witness.note("mail sent")
            await step.do("a", RETRY, lambda: None)

    with pytest.raises(CrashDifference, match="put side effects into steps"):
        crash_everywhere(Loud, witness=witness)


def test_result_that_is_random_is_found():
    class Dice(WorkflowEntrypoint):
        async def run(self, event, step):
            await step.do("a", RETRY, lambda: None)
            return random.random()

    with pytest.raises(CrashDifference, match="result: was complete with 0"):
        crash_everywhere(Dice)


def test_steps_that_depend_on_chance_are_found():
    chance = iter(range(1000))

    class Drifting(WorkflowEntrypoint):
        async def run(self, event, step):
            await step.do(f"step {next(chance)}", RETRY, lambda: None)
            await step.sleep("nap", "1 day")

    with pytest.raises(CrashDifference, match=r"replay found other steps than before|its status is paused"):
        crash_everywhere(Drifting)


def test_step_that_may_not_be_retried_fails_where_it_is_cut():
    class Once(WorkflowEntrypoint):
        async def run(self, event, step):
            return await step.do("charge", {"retries": {"limit": 0, "delay": 1}}, self.charge)

        async def charge(self):
            await trio.sleep(1)
            return "charged"

    with pytest.raises(CrashDifference, match="result: was complete with 'charged', is errored"):
        crash_everywhere(Once)


def test_side_effects_that_are_done_twice_on_one_attempt_are_found():
    witness = Witness()
    state = {"attempts": 0}

    class Growing(WorkflowEntrypoint):
        async def run(self, event, step):
            async def body():
                state["attempts"] += 1
                for _ in range(state["attempts"]):
                    witness.note("mail sent")
                await trio.sleep(1)

            await step.do("send", RETRY, body)

    with pytest.raises(CrashDifference, match="its last attempt did mail sent, mail sent"):
        crash_everywhere(Growing, witness=witness, reset=lambda: state.update(attempts=0))


def test_workflow_that_never_ends_is_told_rather_than_waited_for():
    class Stuck(WorkflowEntrypoint):
        async def run(self, event, step):
            await trio.sleep_forever()

    with pytest.raises(CrashDifference, match=r"fails undisturbed .*\n.*never ends"):
        crash_everywhere(Stuck)


def test_same_seed_gives_the_same_order_of_tasks():
    async def order():
        seen = []

        async def note(number):
            for _ in range(3):
                seen.append(number)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(note, number)
        return seen, random.random()

    assert run(order, seed=1) == run(order, seed=1)
    assert run(order, seed=1) != run(order, seed=2)


def test_wrong_use_is_told():
    with pytest.raises(UsageError, match="allowed: killed before commit"):
        crash_everywhere(Forgetful, only="killed sometimes")
    with pytest.raises(UsageError, match="allowed: the name of a workflow's binding: FORGETFUL"):
        crash_everywhere(Forgetful, binding="OTHER")
