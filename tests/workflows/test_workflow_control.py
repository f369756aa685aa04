"""Commands on instances: statuses, transitions, errors, restarts, deletion, delayed start."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from workflow_world import World, flow, open_world

from edge_runtime.store.api import Table
from edge_runtime.testing.surroundings import JumpingClock
from edge_runtime.workflows.script.errors import WorkflowError
from edge_runtime.workflows.stored import instances

ONCE = {"retries": {"limit": 0, "delay": 0}}
HOUR_MS = 3_600_000


async def call(world: World, name: str, *args: Any, id: str = "one", **named: Any) -> Any:
    async def fetch() -> Any:
        return await getattr(await world.namespace.get(id), name)(*args, **named)

    return await world.handler(fetch)


async def status(world: World, id: str = "one") -> str:
    return str((await world.status(id)).status)


async def test_pause_lets_running_steps_end_and_begins_no_other(autojump_clock: object) -> None:
    begun: list[str] = []

    async def run(event: Any, step: Any) -> str:
        async def long(ctx: Any) -> str:
            begun.append(ctx.step.name)
            await trio.sleep(5)
            return "done"

        await step.do("first", long)
        await step.do("second", long)
        return "end"

    async with open_world(flow(run)) as world:
        await world.create()
        await trio.sleep(1)
        await call(world, "pause")
        assert await status(world) == "waitingForPause"
        await call(world, "pause")
        await trio.sleep(10)
        assert await status(world) == "paused"
        assert begun == ["first"]
        await call(world, "pause")
        await call(world, "resume")
        assert (await world.settled()).output == "end"
        assert begun == ["first", "second"]
        await call(world, "pause")
        await call(world, "resume")
        assert await status(world) == "complete"


async def test_resume_before_the_pause_has_come_goes_on_without_replay(autojump_clock: object) -> None:
    runs: list[int] = []

    async def run(event: Any, step: Any) -> list[Any]:
        runs.append(1)

        async def short() -> str:
            await trio.sleep(1)
            return "short"

        async def long() -> str:
            await trio.sleep(5)
            return "long"

        pair = [step.do("short", short), step.do("long", long)]
        return [await pair[0], await step.do("after", short), await pair[1]]

    async with open_world(flow(run)) as world:
        await world.create()
        await trio.sleep(0.5)
        await call(world, "pause")
        await trio.sleep(2)
        assert await status(world) == "waitingForPause"
        await call(world, "resume")
        assert await status(world) == "running"
        assert (await world.settled()).output == ["short", "short", "long"]
        assert runs == [1]


@pytest.mark.parametrize("restarted", [False, True], ids=["same process", "new process"])
async def test_pause_shifts_sleeps_by_its_duration(autojump_clock: object, restarted: bool) -> None:
    async def run(event: Any, step: Any) -> str:
        await step.sleep("hour", "1 hour")
        return "awake"

    async with open_world(flow(run)) as world:
        await world.create()
        await world.settled("one", "waiting")
        await trio.sleep(600)
        await call(world, "pause")
        assert await status(world) == "paused"
        await trio.sleep(7200)
        assert await status(world) == "paused"
        if not restarted:
            await call(world, "resume")
            start = trio.current_time()
            await world.settled()
            assert 2990 < trio.current_time() - start < 3100
            return
    async with open_world(flow(run), world.store.crash()) as world:
        await call(world, "resume")
        start = trio.current_time()
        await world.settled()
        assert 2990 < trio.current_time() - start < 3100


async def test_pause_shifts_retry_delays_and_timeouts_of_waits_and_keeps_events(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> Any:
        async def fail(ctx: Any) -> int:
            if ctx.attempt == 1:
                raise OSError("busy")
            return int(trio.current_time())

        retried = step.do("retried", {"retries": {"limit": 1, "delay": "10 minutes"}}, fail)
        try:
            await step.wait_for_event("never", "never", timeout="20 minutes")
        except Exception as error:
            timed_out = [error.name, str(error.message), int(trio.current_time())]
        paid = await step.wait_for_event("paid", "paid")
        return [await retried, timed_out, paid.payload]

    async with open_world(flow(run)) as world:
        await world.create()
        await world.settled("one", "waiting")
        start = trio.current_time()
        await call(world, "pause")
        await trio.sleep(3000)
        await world.send("paid", 7)
        await trio.sleep(3000)
        await call(world, "resume")
        retried, timed_out, paid = (await world.settled()).output
        assert 6595 <= retried - start <= 6605
        assert timed_out[:2] == ["WorkflowTimeoutError", "Execution timed out after 1200000ms"]
        assert 7195 <= timed_out[2] - start <= 7205
        assert paid == 7


async def test_waiting_tells_for_what_and_until_when(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> None:
        nap = step.sleep("nap", "2 hours")
        await step.wait_for_event("paid", "paid", timeout="1 hour")
        await nap

    async with open_world(flow(run)) as world:
        await world.create()
        shown = await world.settled("one", "waiting")
        assert [(item.name, item.type, item.eventType) for item in shown.waitingFor] == [
            ("paid-1", "waitForEvent", "paid"),
            ("nap-1", "sleep", None),
        ]
        assert shown.waitingFor[0].until < shown.waitingFor[1].until
        await world.send("paid")
        await world.settled("one", "waiting")
        await call(world, "terminate")
        assert await world.status() == {"status": "terminated", "output": None, "error": None}


async def test_terminate_cancels_what_runs_and_is_refused_for_a_finished_instance(autojump_clock: object) -> None:
    cancelled: list[str] = []

    async def run(event: Any, step: Any) -> None:
        async def forever() -> None:
            try:
                await trio.sleep_forever()
            finally:
                cancelled.append("step")

        await step.do("forever", forever)

    async with open_world(flow(run)) as world:
        await world.create()
        await trio.sleep(1)
        await call(world, "terminate")
        assert await status(world) == "terminated"
        await trio.sleep(0.1)
        assert cancelled == ["step"]
        for event_name, code in (("terminate", "instance.cannot_terminate"), ("sendEvent", "instance.not_running")):
            with pytest.raises(WorkflowError) as caught:
                await call(world, event_name, {} if event_name == "terminate" else {"type": "x"})
            assert caught.value.code == code
        with pytest.raises(
            WorkflowError, match=r"\(instance.cannot_terminate\) Cannot terminate instance since its on"
        ):
            await call(world, "terminate")


@pytest.mark.parametrize("ended", ["complete", "errored", "terminated", "running", "paused"])
async def test_restart_runs_again_from_the_top(autojump_clock: object, ended: str) -> None:
    begun: list[str] = []

    async def run(event: Any, step: Any) -> str:
        async def work() -> int:
            begun.append("work")
            return len(begun)

        count = await step.do("work", work)
        if count == 1 and ended in ("terminated", "running", "paused"):
            await step.sleep("long", "1 day")
        if count == 1 and ended == "errored":
            raise ValueError("first")
        return f"{event.payload}, {count}"

    async with open_world(flow(run)) as world:
        await world.create(params="given")
        await world.settled("one", "complete", "errored", "waiting")
        if ended == "terminated":
            await call(world, "terminate")
        elif ended == "paused":
            await call(world, "pause")
        await call(world, "restart")
        assert await world.settled() == {"status": "complete", "output": "given, 2", "error": None}
        assert [str(step.key) for step in world.describe().steps] == ["work-1"]
        assert [moment.text for moment in world.describe().moments] == ["restarted", "complete"]


async def test_restart_from_a_step_keeps_what_began_before(autojump_clock: object) -> None:
    begun: list[str] = []

    async def run(event: Any, step: Any) -> list[Any]:
        def body(name: str) -> Any:
            async def work() -> int:
                begun.append(name)
                return len(begun)

            return work

        first = await step.do("a", body("a"))
        await step.sleep("a", 10)
        again = await step.do("a", body("a2"))
        last = await step.do("b", body("b"))
        return [first, again, last]

    async with open_world(flow(run)) as world:
        await world.create()
        assert (await world.settled()).output == [1, 2, 3]
        await call(world, "restart", {"from": {"name": "a", "count": 2}})
        assert (await world.settled()).output == [1, 4, 5]
        await call(world, "restart", {"from": {"name": "a", "type": "sleep"}})
        assert (await world.settled()).output == [1, 6, 7]
        await call(world, "restart", from_={"name": "b", "type": "do"})
        assert (await world.settled()).output == [1, 6, 8]
        assert begun == ["a", "a2", "b", "a2", "b", "a2", "b", "b"]
        unknown: tuple[dict[str, Any], ...] = (
            {"name": "c"},
            {"name": "a", "count": 3},
            {"name": "b", "type": "sleep"},
            {"name": "a", "type": "waitForEvent"},
        )
        for origin in unknown:
            with pytest.raises(
                WorkflowError, match=r"\(instance.cannot_restart\) Step .* not found in execution history"
            ):
                await call(world, "restart", {"from": origin})
        for wrong in ({"name": ""}, {"name": "a", "count": 0}, {"name": "a", "type": "x"}, {"nom": "a"}):
            with pytest.raises(TypeError):
                await call(world, "restart", {"from": wrong})


async def test_restart_drops_events_sent_before_it_and_keeps_those_sent_after(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> Any:
        await step.sleep("short", "1 minute")
        return (await step.wait_for_event("paid", "paid")).payload

    async with open_world(flow(run)) as world:
        await world.create()
        await world.send("paid", "before")
        await call(world, "restart")
        await world.send("paid", "after")
        assert (await world.settled()).output == "after"


async def test_deleted_instance_leaves_nothing_and_its_id_is_free(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> None:
        await step.sleep("long", "1 day")

    async with open_world(flow(run)) as world:
        await world.create()
        await world.settled("one", "waiting")
        await call(world, "delete")
        with pytest.raises(WorkflowError) as caught:
            await world.status()
        assert caught.value.code == "instance.not_found"
        await trio.sleep(1)
        with world.store.snapshot() as snapshot:
            for table in (Table.INSTANCES, Table.JOURNAL, Table.INBOX, Table.TIMERS, Table.ACTORS):
                assert list(snapshot.keys(table)) == [], table
        await world.create()
        await world.settled("one", "waiting")


async def test_delete_batch_answers_for_each_position(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> None:
        await step.sleep("long", "1 day")

    async with open_world(flow(run)) as world:
        await world.create("a")
        await world.create("b")

        async def delete(ids: Any) -> Any:
            async def fetch() -> Any:
                return await world.namespace.delete_batch(ids)

            return await world.handler(fetch)

        missing = {"code": 10400, "message": "workflows.api.error.instance.not_found"}
        cron = "*/30 * * * *-1786001400000"
        assert await delete(["a", cron, "b", "a", cron]) == {
            "deleted": [{"id": "a"}, {"id": "b"}, {"id": "a"}],
            "errors": [{"id": cron, **missing}, {"id": cron, **missing}],
        }
        for wrong, text in (
            ([], "at least 1 instance"),
            (["x"] * 101, "only supports 100"),
            ("abc", "Provided argument is invalid"),
            ([""], r"\(instance.invalid_id\) Instance ID is invalid"),
        ):
            with pytest.raises(WorkflowError, match=text):
                await delete(wrong)


async def test_delete_batch_tells_of_a_failure_without_its_reason(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> None:
        await step.sleep("long", "1 day")

    async with open_world(flow(run)) as world:
        await world.create("kept")
        await world.settled("kept", "waiting")
        world.store.fail()

        async def fetch() -> Any:
            return await world.namespace.delete_batch(["kept"])

        internal = {"id": "kept", "code": 10001, "message": "workflows.api.error.internal_server"}
        assert await world.handler(fetch) == {"deleted": [], "errors": [internal]}


async def test_instance_controls_itself(autojump_clock: object) -> None:
    after: list[str] = []
    worlds: list[World] = []

    async def run(event: Any, step: Any) -> None:
        async def act() -> None:
            await getattr(await worlds[0].namespace.get(event.instanceId), event.payload)()

        await step.do("act", act)
        after.append(event.payload)

    async with open_world(flow(run)) as world:
        worlds.append(world)
        await world.create("t", "terminate")
        await world.create("d", "delete")
        await world.create("p", "pause")
        await trio.sleep(5)
        assert await status(world, "t") == "terminated"
        assert await status(world, "p") == "paused"
        with pytest.raises(WorkflowError, match=r"instance\.not_found"):
            await status(world, "d")
        assert after == []
        await call(world, "resume", id="p")
        await world.settled("p")


async def test_delayed_instance_starts_when_its_delay_is_over(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> int:
        return int(trio.current_time())

    async with open_world(flow(run)) as world:
        start = trio.current_time()
        await world.create(delay="1 hour")
        await trio.sleep(3000)
        assert await status(world) == "queued"
        ended = await world.settled()
        assert 3600 <= ended.output - start < 3602
        await world.create("paused", delay="1 hour")
        await call(world, "pause", id="paused")
        assert await status(world, "paused") == "paused"
        await call(world, "resume", id="paused")
        assert await status(world, "paused") == "queued"
        await world.settled("paused")


async def test_finished_instances_are_deleted_when_their_retention_is_over(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> None:
        if event.payload == "fail":
            raise ValueError("no")

    retention = {"successRetention": "1 hour", "errorRetention": "2 hours"}
    async with open_world(flow(run)) as world:
        await world.create("good", retention=retention)
        await world.create("bad", params="fail", retention=retention)
        await world.settled("good")
        await world.settled("bad")
        await trio.sleep(3590)
        assert await status(world, "good") == "complete"
        await trio.sleep(20)
        with pytest.raises(WorkflowError, match=r"instance\.not_found"):
            await status(world, "good")
        assert await status(world, "bad") == "errored"
    async with open_world(flow(run), world.store.crash(), clock=JumpingClock(HOUR_MS)) as world:
        await trio.sleep(1)
        with world.store.snapshot() as snapshot:
            assert list(instances.workflows(snapshot)) == []
