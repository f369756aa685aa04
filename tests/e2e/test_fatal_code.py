"""Code that ends its process whenever it runs: bounded, told clearly, and no matter of the others in the isolate."""

import json

import httpx2
import pytest
from edge_process import EdgeProcess, eventually

BYSTANDERS = 100

SCRIPT = """
import ctypes, os, pathlib, time, trio
from workers import DurableObject, Response, WorkerEntrypoint, WorkflowEntrypoint

HERE = pathlib.Path(__file__).parent


class Flow(WorkflowEntrypoint):
    async def run(self, event, step):
        how = event["payload"]
        await step.do("before", lambda: None)
        if how == "thread":
            await trio.to_thread.run_sync(ctypes.string_at, 0)
        if how == "loop":
            os._exit(7)
        await step.wait_for_event("go", {"type": "go"})
        return "done"


class Counter(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        if (HERE / f"no {ctx.id.name}").exists():
            os._exit(7)

    async def pid(self):
        return os.getpid()

    async def end(self):
        os._exit(7)

    async def set(self):
        await self.ctx.storage.setAlarm(int(time.time() * 1000))

    async def alarm(self, info):
        with open(HERE / f"alarms {self.ctx.id.name}", "a") as file:
            file.write(f"{info['retryCount']}\\n")
        if info["retryCount"] < 1:
            os._exit(7)


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        what, *args = request.url.split("/")[3:]
        match what:
            case "create":
                try:
                    await self.env.FLOW.create(id=args[1], params=args[0])
                except Exception as error:
                    # It was asked for before, and has ended the process before the answer was sent.
                    if "already_exists" not in str(error):
                        raise
            case "bystanders":
                await self.env.FLOW.create_batch([{"id": f"by-{n}"} for n in range(int(args[0]))])
            case "go":
                for n in range(int(args[0])):
                    await (await self.env.FLOW.get(f"by-{n}")).send_event({"type": "go", "payload": None})
            case "status":
                status = await (await self.env.FLOW.get(args[0])).status()
                return Response.json([status["status"], status.get("error")])
            case "object":
                try:
                    return Response(str(await getattr(self.env.COUNTER.getByName(args[0]), args[1])()))
                except Exception as error:
                    return Response(str(error), status=400)
        return Response("ok")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("worker")
    (root / "entry.py").write_text(SCRIPT)
    config = {
        "name": "fatal",
        "main": "entry.py",
        "compatibility_date": "2026-05-01",
        "edge": {"instances": 1},
        "durable_objects": {"bindings": [{"name": "COUNTER", "class_name": "Counter"}]},
        "migrations": [{"tag": "v1", "new_sqlite_classes": ["Counter"]}],
        "workflows": [{"name": "flow", "binding": "FLOW", "class_name": "Flow"}],
    }
    (root / "wrangler.json").write_text(json.dumps(config))
    data = tmp_path_factory.mktemp("data")
    with EdgeProcess("run", root, "--port", 0, "--data", data, "--grace-s", 1) as edge:
        edge.root = root
        yield edge.wait_ready()
        assert edge.interrupt() == 0


def ask(server, path):
    """The answer, however often the isolate ends meanwhile."""

    def answer():
        with server.client() as client:
            try:
                found = client.get(path)
            except httpx2.TransportError:
                return None
        return found.text if found.status_code in (200, 400) else None

    return eventually(answer)


def status(server, id):
    return json.loads(ask(server, f"/status/{id}"))


def test_runs_that_end_their_process_fail_and_hundreds_that_wait_beside_them_go_on(server):
    ask(server, f"/bystanders/{BYSTANDERS}")
    eventually(lambda: all(status(server, f"by-{n}")[0] == "waiting" for n in (0, BYSTANDERS - 1)))
    ends = {"loop": "it exited with code 7", "thread": "it was ended by SIGSEGV"}
    for how in ends:
        ask(server, f"/create/{how}/{how}")
    for how, end in ends.items():
        error = eventually(lambda how=how: (now := status(server, how))[0] == "errored" and now)[1]
        assert error["name"] == "WorkflowFatalError"
        assert "times in a row while run() was executing outside of a step" in error["message"]
        assert end in error["message"]
        server.wait_for(rf"fatal: isolate \d+ ended: {end} while workflow flow ran")
    ask(server, f"/go/{BYSTANDERS}")
    eventually(lambda: all(status(server, f"by-{n}")[0] == "complete" for n in range(0, BYSTANDERS, 9)))


def test_object_that_ends_its_process_is_refused_for_a_while_and_the_others_are_not(server):
    def refused():
        answer = ask(server, "/object/bad/pid")
        return answer if answer and "is not started again" in answer else None

    (server.root / "no bad").touch()
    answer = eventually(refused)
    assert "ended while Counter.constructor() ran: it exited with code 7." in answer
    assert ask(server, "/object/good/pid").isdigit()
    (server.root / "no bad").unlink()
    assert eventually(lambda: (pid := ask(server, "/object/bad/pid")).isdigit() and pid)


def test_alarm_that_ends_its_process_is_retried_as_one_that_fails(server):
    ask(server, "/object/woken/set")
    alarms = server.root / "alarms woken"
    eventually(lambda: alarms.exists() and alarms.read_text().split()[-1:] == ["1"])
    # It may have ended the process before the answer was sent, and was set again.
    assert set(alarms.read_text().split()[:-1]) == {"0"}
    server.wait_for(r"the alarm of Counter \w+ ended its process \(it exited with code 7\) and is tried again in \d+")
