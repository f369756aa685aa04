"""The workflows of the example apps, interrupted everywhere."""

import json

from edge_process import APPS

from edge_runtime.testing import Send, Witness, crash_everywhere
from edge_runtime.workers.response import Response

ORDER = {"id": "o1", "item": "lamp", "count": 2, "amount": 5000}


class Services:
    """The outside services of the apps: each does a thing once for each idempotency key."""

    def __init__(self, refused=""):
        self.witness = Witness()
        self.refused = refused
        self.done = {}

    async def fetch(self, request):
        path = request.url.rpartition("/")[2]
        self.witness.note(path)
        if path == self.refused:
            return Response("refused", status=422)
        key = request.headers["idempotency-key"]
        self.done.setdefault(key, len(self.done) + 1)
        return Response.json({"receipt": "r1", "parcel": "p1"})

    async def outcome(self, env):
        return {"done": sorted(self.done), "free": await env.STOCK.getByName("lamp").free()}

    def crash_everywhere(self, order, **options):
        return crash_everywhere(
            APPS / "order_saga",
            order,
            witness=self.witness,
            fetch=self.fetch,
            outcome=self.outcome,
            reset=self.done.clear,
            prepare=supply,
            **options,
        )


async def supply(env):
    await env.STOCK.getByName("lamp").supply(10)


def test_order_that_is_approved_is_charged_and_shipped():
    services = Services()
    report = services.crash_everywhere(ORDER, events=[Send("approval", {"approved": True})], points_max=40)
    assert report.result == ("complete", {"receipt": "r1", "parcel": "p1"}, None)
    assert report.outcome == {"done": ["charges-o1", "notices-o1", "shipments-o1"], "free": 8}


def test_cheap_order_needs_no_approval():
    report = Services().crash_everywhere({**ORDER, "amount": 5}, points_max=20)
    assert report.outcome == {"done": ["charges-o1", "shipments-o1"], "free": 8}


def test_order_that_cannot_be_shipped_is_undone():
    report = Services("shipments").crash_everywhere({**ORDER, "amount": 5}, points_max=40)
    assert report.result[0] == "errored"
    assert report.outcome == {"done": ["charges-o1", "refunds-o1"], "free": 10}


def test_order_that_nobody_approves_in_time_is_undone():
    report = Services().crash_everywhere(ORDER, points_max=20)
    assert report.result[2][0] == "WorkflowTimeoutError"
    assert report.outcome == {"done": ["notices-o1"], "free": 10}


def test_reminders_survive_interruptions():
    state = {"asked": 0}
    witness = Witness()

    async def forge(request):
        if request.method == "GET":
            return Response.json({"state": "open"})
        witness.note(json.loads(await request.text())["text"])
        return Response.json({})

    report = crash_everywhere(
        APPS / "pr_reminder",
        {"repo": "acme/site", "number": 7, "author": "ada"},
        vars={"REMINDERS_MAX": 3},
        fetch=forge,
        witness=witness,
        reset=state.clear,
        points_max=30,
    )
    assert report.result == ("complete", {"closed": False, "reminders": 3}, None)


def test_long_model_call_survives_interruptions():
    witness = Witness()

    async def model(request):
        witness.note("model asked")
        pieces = [{"choices": [{"delta": {"content": word}}]} for word in ("an ", "answer")]
        return Response("".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n")

    async def kept(env):
        return await env.ANSWERS.get("a1")

    ask = {"id": "a1", "session": "s1", "prompt": "why?"}
    report = crash_everywhere(APPS / "llm_offload", ask, fetch=model, witness=witness, outcome=kept, points_max=30)
    assert report.result == ("complete", {"answer": "an answer"}, None)
    assert json.loads(report.outcome) == {"prompt": "why?", "answer": "an answer"}


def test_batch_survives_interruptions():
    witness = Witness()

    async def files(request):
        name = request.url.rpartition("/")[2]
        witness.note(name)
        return Response("gone", status=404) if name == "missing" else Response("word " * len(name))

    report = crash_everywhere(
        APPS / "batch_files", {"files": ["a", "bb", "ccc", "missing"]}, fetch=files, witness=witness, points_max=30
    )
    assert report.result[1]["words"] == {"a": 1, "bb": 2, "ccc": 3}
    assert report.result[1]["total"] == 6
