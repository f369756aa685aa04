"""The bill of a workflow that really ran: what each tariff counts of it."""

import json

from edge_process import PATIENCE_S, EdgeProcess, eventually
from script_workers import edge_command, write_worker

SCRIPT = """
from workers import DurableObject, Response, WorkerEntrypoint, WorkflowEntrypoint

attempts = 0


class Counter(DurableObject):
    async def increment(self):
        value = (await self.ctx.storage.get("value") or 0) + 1
        await self.ctx.storage.put("value", value)
        return value


class Flow(WorkflowEntrypoint):
    async def run(self, event, step):
        @step.do("flaky", config={"retries": {"limit": 3, "delay": 1, "backoff": "constant"}})
        async def flaky():
            global attempts
            attempts += 1
            if attempts < 3:
                raise ValueError("not yet")
            return "x" * 100

        await flaky()
        await step.sleep("nap", 10)

        @step.do("last")
        async def last():
            return None

        await last()


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.url.endswith("/flow"):
            await self.env.FLOW.create({"id": "one"})
        elif request.url.endswith("/status"):
            return Response((await (await self.env.FLOW.get("one")).status())["status"])
        elif request.url.endswith("/count"):
            await self.env.COUNTER.getByName("a").increment()
            await self.env.KV.put("key", "value")
        return Response("ok")
"""


def test_each_tariff_counts_what_ran(tmp_path):
    folder = write_worker(
        tmp_path / "shop",
        SCRIPT,
        kv_namespaces=[{"binding": "KV", "id": "shop"}],
        durable_objects={"bindings": [{"name": "COUNTER", "class_name": "Counter"}]},
        migrations=[{"tag": "v1", "new_sqlite_classes": ["Counter"]}],
        workflows=[{"name": "flow", "binding": "FLOW", "class_name": "Flow"}],
    )
    data = tmp_path / "data"
    # With time to write the last of its usage, however slow the disk.
    with EdgeProcess("run", folder, "--port", 0, "--data", data, "--grace-s", PATIENCE_S).wait_ready() as edge:
        with edge.client() as client:
            assert client.get("/flow").text == "ok"
            eventually(lambda: client.get("/status").text == "complete")
            for _ in range(4):
                assert client.get("/count").text == "ok"
        assert edge.interrupt() == 0
    tariffs = ("cloudflare", "lambda-durable", "cloudflow")
    arguments = [part for name in tariffs for part in ("--tariff", name)]
    bills = {
        bill["tariff"]: {line["meter"]: line for line in bill["lines"]}
        for bill in json.loads(edge_command("bill", "--data", data, "--from", "24h", *arguments, "--json"))
    }
    aws = bills["lambda-durable"]
    # The execution, a step with two retries, a sleep, a step.
    assert aws["Durable operations"]["quantity"] == "6"
    assert aws["Durable operations"]["list_cost"] == "0.000048"
    assert float(aws["Data written"]["quantity"]) > 100e-9
    assert bills["cloudflow"]["Step transitions"]["quantity"] == "3"
    cloudflare = bills["cloudflare"]
    assert int(cloudflare["Workers requests"]["quantity"]) >= 1 + 1 + 1 + 4
    assert float(cloudflare["Workers CPU time"]["quantity"]) > 0
    assert cloudflare["Durable Objects requests"]["quantity"] == "4"
    assert cloudflare["Durable Objects rows written"]["quantity"] == "4"
    assert cloudflare["Durable Objects rows read"]["quantity"] == "4"
    assert cloudflare["KV writes"]["quantity"] == "4"
    assert cloudflare["KV reads"]["quantity"] == "0"
