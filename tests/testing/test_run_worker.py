"""A worker in the test's process: its bindings, its clock, its workflows looked into and mocked."""

import pytest

from edge_runtime.errors import UsageError
from edge_runtime.testing import introspect_workflow, introspect_workflow_instance, run_worker
from edge_runtime.workers.entrypoints import WorkerEntrypoint, WorkflowEntrypoint
from edge_runtime.workers.response import Response
from edge_runtime.workers.streams import ReadableStream


class OrderFlow(WorkflowEntrypoint):
    async def run(self, event, step):
        charged = await step.do("charge", self.charge)
        await step.sleep("cool down", "30 days")
        paid = await step.wait_for_event("paid", "paid", timeout="1 day")
        return [charged, paid["payload"]]

    async def charge(self):
        raise OSError("no such service")


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        instance = await self.env.ORDER_FLOW.create(id="by-fetch")
        await self.env.SEEN.put("id", instance.id)
        return Response(instance.id)


async def test_mocks_of_an_instance_take_the_place_of_its_steps(autojump_clock):
    def paid(m):
        m.disableSleeps()
        m.mockStepResult({"name": "charge"}, 0)
        m.mockEvent({"type": "paid", "payload": 7})

    async with run_worker(OrderFlow) as worker:
        one = introspect_workflow_instance(worker, worker.env.ORDER_FLOW, "one")
        await one.modify(paid)
        began_ms = worker.clock.now_ms()
        await worker.env.ORDER_FLOW.create(id="one")
        assert await one.waitForStepResult("charge") == 0
        assert await one.getOutput() == [0, 7]
        assert worker.clock.now_ms() - began_ms < 86_400_000


async def test_mocked_errors_and_timeouts_are_recorded_as_attempts(autojump_clock):
    async def failing(m):
        m.disable_retry_delays()
        m.mock_step_error("charge", ValueError("wrong"), 1)
        m.force_step_timeout("charge", 1)
        m.mock_step_result("charge", "ok")
        m.force_event_timeout("paid")

    async with run_worker(OrderFlow) as worker, introspect_workflow(worker, "ORDER_FLOW") as every:
        await every.modify_all(failing)
        await worker.env.ORDER_FLOW.create(id="one")
        (one,) = every.get()
        assert await one.get_error() == {"name": "WorkflowTimeoutError", "message": "Execution timed out after 0ms"}
        errors = [attempt.error for attempt in one.describe().steps[0].attempts if attempt.error]
        assert [(error.name, error.message) for error in errors] == [
            ("ValueError", "wrong"),
            ("WorkflowTimeoutError", "Execution timed out after 600000ms"),
        ]
        with pytest.raises(RuntimeError, match="will not be complete"):
            await one.wait_for_status("complete")
        with pytest.raises(ValueError, match="already"):
            introspect_workflow(worker, "ORDER_FLOW")


async def test_fetch_handler_and_kv_work_and_the_store_outlives_a_crash(autojump_clock):
    async with run_worker([OrderFlow, Default], kv=["SEEN"]) as worker:
        assert await (await worker.fetch("http://test/")).text() == "by-fetch"
        assert await worker.env.SEEN.get("id") == "by-fetch"
    async with run_worker([OrderFlow, Default], kv=["SEEN"], store=worker.store.crash()) as worker:
        assert await worker.env.SEEN.get("id") == "by-fetch"
        await introspect_workflow_instance(worker, "ORDER_FLOW", "by-fetch").getError()


class StreamFlow(WorkflowEntrypoint):
    async def run(self, event, step):
        async def pieces():
            yield "real"

        async def fetch():
            return ReadableStream(pieces())

        config = {"sensitive": "output"} if event.payload == "secret" else {}
        stream = await step.do("fetch", config, fetch)
        await step.wait_for_event("go", "go")
        return b"".join([bytes(piece) async for piece in stream]).decode()


async def text_of(stream):
    return b"".join([bytes(piece) async for piece in stream]).decode()


async def test_stream_that_a_step_returned_is_read_by_the_test_as_by_the_script(autojump_clock):
    async with run_worker(StreamFlow) as worker:
        for id, params in (("open", ""), ("hidden", "secret")):
            await worker.env.STREAM_FLOW.create(id=id, params=params)
        opened, hidden = (introspect_workflow_instance(worker, "STREAM_FLOW", id) for id in ("open", "hidden"))
        for _ in range(2):
            assert await text_of(await opened.wait_for_step_result("fetch")) == "real"
        assert await hidden.wait_for_step_result({"name": "fetch", "index": 1}) == "[REDACTED]"


async def test_mocked_stream_serves_every_instance_and_every_restart(autojump_clock):
    async def mocked_pieces():
        yield b"mocked "
        yield b"stream"

    def mocked(m):
        m.mockStepResult({"name": "fetch"}, ReadableStream(mocked_pieces()))

    async with run_worker(StreamFlow) as worker, introspect_workflow(worker, "STREAM_FLOW") as every:
        await every.modifyAll(mocked)
        for id in ("one", "two"):
            instance = await worker.env.STREAM_FLOW.create(id=id)
            await instance.sendEvent({"type": "go"})
            assert await introspect_workflow_instance(worker, "STREAM_FLOW", id).getOutput() == "mocked stream"
        await instance.restart()
        await instance.send_event(type="go")
        again = introspect_workflow_instance(worker, "STREAM_FLOW", "two")
        assert await again.get_output() == "mocked stream"
        assert [len(step.attempts) for step in again.describe().steps] == [1, 0]


async def test_mock_that_would_have_no_effect_is_refused(autojump_clock):
    async with run_worker(OrderFlow) as worker, introspect_workflow(worker, "ORDER_FLOW") as every:

        def twice(m):
            m.mock_step_result("charge", None)
            for wrong in (
                lambda: m.mock_step_result({"name": "charge", "index": 1}, 2),
                lambda: m.mock_step_error("charge", ValueError("late")),
                lambda: m.force_step_timeout("charge"),
            ):
                with pytest.raises(ValueError, match=r"on step 'charge' after mocking its result|multiple times"):
                    wrong()
            with pytest.raises(UsageError, match=r'a name, or \{"name"'):
                m.mock_step_result({"nom": "charge"}, 2)

        await every.modify_all(twice)
        await worker.env.ORDER_FLOW.create(id="one")
        (one,) = every.get()
        assert await one.wait_for_step_result("charge") is None


async def test_mocks_of_some_sleeps_and_delays_leave_the_others(autojump_clock):
    class Naps(WorkflowEntrypoint):
        async def run(self, event, step):
            begun = []

            async def flaky(ctx):
                begun.append(ctx.step.name)
                if ctx.attempt == 1:
                    raise OSError("busy")

            config = {"retries": {"limit": 1, "delay": "1 hour", "backoff": "constant"}}
            await step.do("quick", config, flaky)
            await step.sleep("nap", "1 day")
            await step.do("slow", config, flaky)
            await step.sleep("nap", "1 day")

    async with run_worker(Naps) as worker:
        one = introspect_workflow_instance(worker, "NAPS", "one")
        async with one:

            def some(m):
                m.disable_sleeps([{"name": "nap", "index": 2}])
                m.disable_retry_delays(["quick"])

            await one.modify(some)
            began_ms = worker.clock.now_ms()
            await worker.env.NAPS.create(id="one")
            await one.wait_for_status("complete")
            steps = one.describe().steps
        lasted_h = [round((step.ended_ms - step.started_ms) / 3_600_000) for step in steps]
        assert lasted_h == [0, 24, 1, 0]
        assert steps[-1].ended_ms - began_ms < 26 * 3_600_000
