"""Recorded instances replayed against scripts that changed, or did not, by the function and by the command."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from bindings.workflows import export
from edge_runtime.cli.main import edge
from edge_runtime.errors import UsageError
from edge_runtime.testing import ReplayDifference, introspect_workflow_instance, replay, run, run_worker
from edge_runtime.workers.entrypoints import WorkflowEntrypoint
from edge_runtime.workers.streams import ReadableStream
from edge_runtime.workflows.control import asking
from edge_runtime.workflows.stored import blocks, instances
from edge_runtime.workflows.stored.streams import KeptStreams

SCRIPT = """
from workers import Response, WorkerEntrypoint, WorkflowEntrypoint

ONCE = {{"retries": {{"limit": 0, "delay": 1}}}}

class Order(WorkflowEntrypoint):
    async def run(self, event, step):
        {body}

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response("")
"""

BODY = """
        reserved = await step.do("reserve", lambda: 5)
        await step.sleep("pause", "1 day")
        paid = (await step.wait_for_event("payment", "paid"))["payload"]
        shipped = await step.do("ship", lambda: "parcel")
        return [reserved, paid, shipped]
"""


@pytest.fixture
def folder(tmp_path):
    def write(body):
        (tmp_path / "entry.py").write_text(SCRIPT.format(body=body.strip()))
        config = {
            "name": "shop",
            "main": "entry.py",
            "compatibility_date": "2026-05-01",
            "workflows": [{"binding": "ORDERS", "name": "order", "class_name": "Order"}],
        }
        (tmp_path / "wrangler.json").write_text(json.dumps(config))
        return tmp_path

    return write


def written(entries, record, snapshot, address):
    lines = export.lines("order", "o1", entries, record, KeptStreams(snapshot, address), raw=True)
    return "\n".join(json.dumps(line) for line in lines)


def recorded(worker, until, *, paid=True):
    """The journal of an instance once it has a status, as the command prints it."""

    async def live():
        async with run_worker(worker) as tested:
            await tested.env.ORDERS.create(id="o1")
            if paid:
                await (await tested.env.ORDERS.get("o1")).send_event({"type": "paid", "payload": 7})
            instance = introspect_workflow_instance(tested, "ORDERS", "o1")
            await instance.waitForStatus(until)
            address = instances.address_of("shop", "order", "o1")
            with tested.store.snapshot() as snapshot:
                record = asking.find(snapshot, address)
                entries = blocks.load(snapshot, "shop", "order", "o1", record.seq).entries
                return written(entries, record, snapshot, address)

    return run(live)


def test_unchanged_script_fits_what_is_finished_and_what_is_under_way(folder):
    finished = recorded(folder(BODY), "complete")
    assert replay(folder(BODY), finished).steps == 4
    asleep = recorded(folder(BODY), "waiting")
    report = replay(folder(BODY), asleep)
    assert (report.instance, report.steps, report.beyond) == ("o1", 2, ())


def test_change_of_what_has_not_happened_yet_fits(folder):
    asleep = recorded(folder(BODY), "waiting")
    assert replay(folder(BODY.replace('"ship"', '"send"')), asleep).steps == 2


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (('"reserve"', '"book"'), "step reserve-1"),
        (('"1 day"', '"2 days"'), "its argument was 86400000 ms and is 172800000 ms now"),
        (('await step.sleep("pause", "1 day")', "pass"), "pause-1"),
        (('step.sleep("pause", "1 day")', 'step.do("pause", lambda: 1)'), "it was a sleep and is a do now"),
        (("return [reserved, paid, shipped]", "return [paid]"), "was complete with [5, 7, 'parcel'] and is complete"),
        (("return [", 'await step.do("bill", lambda: 1)\n        return ['), "goes on to step bill-1"),
        (("return [", "raise ValueError(["), "is errored with"),
    ],
)
def test_change_of_what_has_happened_is_shown(folder, change, difference):
    finished = recorded(folder(BODY), "complete")
    changed = BODY.replace(*change)
    if "raise" in change[1]:
        changed = changed.replace("shipped]", "shipped])")
    with pytest.raises(ReplayDifference) as found:
        replay(folder(changed), finished)
    text = str(found.value)
    assert difference in text
    assert "workflow order, instance o1:" in text
    assert "recorded:" in text


def test_bodies_of_steps_are_not_called_and_failures_are_replayed(folder):
    body = 'await step.do("charge", ONCE, lambda: 1 / 0)'
    failed = recorded(folder(body), "errored", paid=False)
    assert replay(folder(body.replace("1 / 0", "exit()")), failed).steps == 1


def test_what_is_no_journal_is_refused(folder):
    finished = recorded(folder(BODY), "complete")
    without = "\n".join(json.dumps({**json.loads(line), "entry": None}) for line in finished.splitlines())
    for text in ("", "{}", without, "\n".join(finished.splitlines()[1:])):
        with pytest.raises(UsageError, match="journal"):
            replay(folder(BODY), text)
    with pytest.raises(UsageError, match="it has ORDERS"):
        replay(folder(BODY), finished, binding="OTHER")


def test_command_fails_where_one_differs_and_says_which(folder, tmp_path):
    good = tmp_path / "good.jsonl"
    good.write_text(recorded(folder(BODY), "complete"))
    root = folder(BODY)
    said = CliRunner().invoke(edge, ["replay", str(good), "-c", str(root), "--json"])
    assert said.exit_code == 0, said.output
    assert json.loads(said.output)[0]["steps"] == 4
    folder(BODY.replace('"reserve"', '"book"'))
    said = CliRunner().invoke(edge, ["replay", str(good), "-c", str(root)])
    assert isinstance(said.exception, UsageError)
    assert "1 of 1 do not fit" in str(said.exception)
    assert "recorded:  reserve-1" in str(said.exception)


class Order(WorkflowEntrypoint):
    async def run(self, event, step):
        return await step.do("a", lambda: 1)


def test_classes_of_the_test_are_replayed_too():
    async def live():
        async with run_worker(Order) as tested:
            await tested.env.ORDER.create(id="o1")
            await introspect_workflow_instance(tested, "ORDER", "o1").waitForStatus("complete")
            with tested.store.snapshot() as snapshot:
                address = instances.address_of(tested.name, "order", "o1")
                record = asking.find(snapshot, address)
                entries = blocks.load(snapshot, tested.name, "order", "o1", record.seq).entries
                return written(entries, record, snapshot, address)

    assert replay(Order, run(live)).steps == 1


@pytest.mark.parametrize("sensitive", [False, True])
def test_streams_are_recorded_too_and_read_again(sensitive):
    class Order(WorkflowEntrypoint):
        async def run(self, event, step):
            async def pieces():
                yield b"x" * 300_000
                yield "end"

            config = {"sensitive": "output"} if sensitive else {}
            stream = await step.do("fetch", config, lambda: ReadableStream(pieces()))
            data = b"".join([bytes(piece) async for piece in stream])
            return [len(data), data[-3:].decode()]

    async def live():
        async with run_worker(Order) as tested:
            await tested.env.ORDER.create(id="o1")
            assert await introspect_workflow_instance(tested, "ORDER", "o1").getOutput() == [300_003, "end"]
            with tested.store.snapshot() as snapshot:
                address = instances.address_of(tested.name, "order", "o1")
                record = asking.find(snapshot, address)
                entries = blocks.load(snapshot, tested.name, "order", "o1", record.seq).entries
                return written(entries, record, snapshot, address)

    assert replay(Order, run(live)).beyond == ()
