"""A worker in the test's process: its bindings, its clock, its workflows looked into and mocked."""

import pytest

from edge_runtime.testing import introspect_workflow, introspect_workflow_instance, run_worker
from edge_runtime.workers.entrypoints import WorkerEntrypoint, WorkflowEntrypoint
from edge_runtime.workers.response import Response


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
        errors = [attempt.error.name for attempt in one.describe().steps[0].attempts if attempt.error]
        assert errors == ["ValueError", "WorkflowTimeoutError"]
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
