"""Names, ids, configs and delay functions that scripts give, as the public tests of cloudflare/workers-sdk,
packages/workflows-shared, have them accepted and refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from workflow_world import open_world

from edge_runtime.limits import ADDRESSED_ID_MAX, INSTANCE_ID_MAX, STEP_NAME_MAX, WORKFLOW_NAME_MAX
from edge_runtime.workers.entrypoints import WorkflowEntrypoint
from edge_runtime.workers.js_object import JsException
from edge_runtime.workflows.script.config import read_config, read_step_name
from edge_runtime.workflows.stored import instances


@pytest.mark.parametrize("name", ["", math.nan, None, "   ", "\n\nhello", "w" * (WORKFLOW_NAME_MAX + 1), "#1!", "-bad"])
def test_name_that_no_workflow_may_have(name: object) -> None:
    assert not instances.is_workflow_name(name)


@pytest.mark.parametrize("name", ["abc", "NAME_123-hello", "a-valid-string", "w" * WORKFLOW_NAME_MAX])
def test_name_that_a_workflow_may_have(name: str) -> None:
    assert instances.is_workflow_name(name)


@pytest.mark.parametrize("id", ["", math.nan, None, "   ", "\n\nhello", "w" * (INSTANCE_ID_MAX + 1), "#1!", "a\n"])
def test_id_that_no_instance_may_be_created_with(id: object) -> None:
    assert not instances.is_instance_id(id)


@pytest.mark.parametrize("id", ["abc", "NAME_123-hello", "a-valid-string", "w" * INSTANCE_ID_MAX])
def test_id_that_an_instance_may_be_created_with(id: str) -> None:
    assert instances.is_instance_id(id)


@pytest.mark.parametrize(
    "id", ["", math.nan, None, "w" * (ADDRESSED_ID_MAX + 1), "invalid!", "0 0 * * MON?2-1786001400000", "abc\n"]
)
def test_id_that_addresses_nothing(id: object) -> None:
    assert not instances.is_addressable(id)


@pytest.mark.parametrize(
    "id",
    [
        "abc",
        "*/30 * * * *-1786001400000",
        "0 0 * * MON#2-1786001400000",
        "0 0 1,15 * *-1786001400000",
        "NAME_123-/cron",
        "w" * ADDRESSED_ID_MAX,
    ],
)
def test_id_that_addresses_an_instance_such_as_those_of_schedules(id: str) -> None:
    assert instances.is_addressable(id)


@pytest.mark.parametrize("name", ["\x00", "a\nb", "w" * (STEP_NAME_MAX + 1), None, 5])
def test_name_that_no_step_may_have(name: object) -> None:
    with pytest.raises(JsException, match=r"exceeds max length \(256 chars\) or invalid characters found"):
        read_step_name(name)


@pytest.mark.parametrize("name", ["abc", "NAME_123-hello", "a-valid-string", "w" * STEP_NAME_MAX, "valid step name"])
def test_name_that_a_step_may_have(name: str) -> None:
    assert read_step_name(name) == name


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ({"timeout": "5 years", "retries": {"limit": 1}}, "config.retries: delay is missing"),
        ({"timeout": "5 years", "retries": {"delay": 50}}, "config.retries: limit is missing"),
        ({"timeout": "5 years", "retries": {"backoff": "exponential"}}, "config.retries: limit is missing"),
        ({"retries": {"delay": "10 minutes", "limit": 5, "i-like-trains": "yes" * 100}}, "unknown key 'i-like-trains'"),
        ({"retries": {"limit": 3, "delay": "i like trains", "backoff": "constant"}}, "config.retries.delay"),
        ({"retries": {"limit": 3, "delay": 10, "backoff": "constant"}, "timeout": 0}, "config.timeout"),
        ({"retries": {"limit": 3, "delay": -1}}, "config.retries.delay"),
        ({"timeout": math.nan}, "config.timeout"),
        ({"timeout": "5 minutes", "sensitive": "all"}, "config.sensitive"),
        ({"timeout": "5 minutes", "sensitive": True}, "config.sensitive"),
        ({"retries": 3}, "config.retries"),
        ("5 minutes", "config"),
    ],
)
def test_config_that_is_refused_with_its_place(config: Any, place: str) -> None:
    with pytest.raises(JsException) as caught:
        read_config(config)
    assert caught.value.name == "WorkflowFatalError"
    assert place in caught.value.message


@pytest.mark.parametrize(
    "config",
    [
        {"retries": {"limit": 0, "delay": 100_000, "backoff": "exponential"}, "timeout": "15 minutes"},
        {"retries": {"limit": 5, "delay": 0, "backoff": "constant"}, "timeout": "2 minutes"},
        {"retries": {"limit": math.inf, "delay": 10, "backoff": "linear"}, "timeout": "2 minutes"},
        {"retries": {"limit": 3, "delay": lambda given: "10 seconds"}, "timeout": 1, "sensitive": "output"},
        {},
        None,
    ],
)
def test_config_that_is_accepted(config: Any) -> None:
    assert read_config(config).config.timeout_ms > 0


async def late(given: Any) -> int:
    await trio.sleep(1)
    return 7000


async def never(given: Any) -> int:
    await trio.sleep_forever()
    raise AssertionError("it is cancelled")


async def rejects(given: Any) -> int:
    raise ValueError("async boom")


def throws(given: Any) -> int:
    raise ValueError("sync boom")


def leaves(given: Any) -> int:
    raise SystemExit(3)


async def attempts_with(delay: Any, failures: int = 1) -> tuple[Any, list[float]]:
    """How a step ended whose delay this is, and when its attempts began after the first."""
    times: list[float] = []

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            async def flaky(ctx: Any) -> str:
                times.append(trio.current_time())
                if ctx.attempt <= failures:
                    raise OSError("busy")
                return "ok"

            return await step.do("flaky", {"retries": {"limit": 5, "delay": delay, "backoff": "constant"}}, flaky)

    async with open_world(Flow) as world:
        await world.create()
        return await world.settled(), [at - times[0] for at in times[1:]]


@pytest.mark.parametrize(("delay", "waited_s"), [(lambda given: 7000, 7), (late, 8), (lambda given: "1 minute", 60)])
async def test_delay_function_may_be_sync_or_async(autojump_clock: object, delay: Any, waited_s: float) -> None:
    ended, waited = await attempts_with(delay)
    assert ended.output == "ok"
    assert waited == [pytest.approx(waited_s, abs=0.1)]


@pytest.mark.parametrize(
    ("delay", "reason"),
    [
        (never, "did not return within 5 seconds"),
        (throws, "threw an error: sync boom"),
        (rejects, "threw an error: async boom"),
        (leaves, "threw an error: 3"),
        (lambda given: "soon", "returned an invalid delay value (expected a number of ms or a duration string like"),
        (lambda given: -1, "returned an invalid delay value"),
        (lambda given: math.nan, "returned an invalid delay value"),
        (lambda given: None, "returned an invalid delay value"),
    ],
)
async def test_delay_function_that_gives_no_delay_fails_the_step_at_once(
    autojump_clock: object, delay: Any, reason: str
) -> None:
    ended, waited = await attempts_with(delay)
    assert (ended.status, ended.error.name, waited) == ("errored", "NonRetryableDelayError", [])
    assert ended.error.message.startswith(f'The delay function for step "flaky-1" {reason}')


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda orders: orders.create("id"), "create: found str; allowed: a dict of options, or options by name"),
        (
            lambda orders: orders.create({"nom": "x"}),
            "create: found the unknown option 'nom'; allowed: id, params, ret",
        ),
        (lambda orders: orders.create(id=5), r"\(instance.invalid_id\) Workflow instance has invalid id: found 5"),
        (lambda orders: orders.create(retention={"success": 1}), "retention"),
        (lambda orders: orders.create(retention={"successRetention": "soon"}), "retention.successRetention"),
        (lambda orders: orders.create(delay="soon"), "delay: "),
        (lambda orders: orders.create(params={"a": [object()]}), r"The value in question is at \['a'\]\[0\]"),
        (lambda orders: orders.create(params="x" * 2**20), r"\(instance.invalid_params\) params: found \d+ bytes"),
        (lambda orders: orders.create_batch("abc"), "createBatch: found str; allowed: a list of options of create"),
        (lambda orders: orders.create_batch([5]), "create: found int; allowed: a dict of options"),
        (lambda orders: orders.create_batch([{"id": "a"}] * 101), "at most 100 instances, found 101"),
        (lambda orders: orders.get(None), r"\(instance.invalid_id\) Instance ID is invalid"),
        (lambda orders: orders.delete_batch({"instances": "abc"}), r"\(body\) Provided argument is invalid"),
    ],
)
async def test_wrong_call_of_a_binding_is_refused_with_what_is_allowed_and_creates_nothing(
    autojump_clock: object, call: Any, text: str
) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> None:
            return

    async with open_world(Flow) as world:

        async def fetch() -> None:
            with pytest.raises((TypeError, JsException), match=text):
                await call(world.namespace)

        await world.handler(fetch)
        with world.store.snapshot() as snapshot:
            assert list(instances.workflows(snapshot)) == []


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda one: one.send_event("paid"), "sendEvent: found str; allowed: a dict of options, or options by name"),
        (lambda one: one.send_event({"type": "paid", "payloads": 1}), "sendEvent: found the unknown option 'payloads'"),
        (lambda one: one.send_event({}), "event type: found None"),
        (lambda one: one.restart("step"), "restart: found str"),
        (lambda one: one.restart({"from": "step"}), "restart: from: found str; allowed: a dict with name"),
        (lambda one: one.terminate(5), "terminate: found int"),
        (lambda one: one.terminate(roll_back=True), "terminate: found the unknown option 'roll_back'; allowed: rollb"),
    ],
)
async def test_wrong_call_of_an_instance_is_refused_and_changes_nothing(
    autojump_clock: object, call: Any, text: str
) -> None:
    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> None:
            await step.wait_for_event("paid", "paid")

    async with open_world(Flow) as world:
        await world.create()
        await world.settled("one", "waiting")

        async def fetch() -> None:
            with pytest.raises((TypeError, JsException), match=text):
                await call(await world.namespace.get("one"))

        await world.handler(fetch)
        assert (await world.status()).status == "waiting"
