"""The example workers, each through real HTTP."""

import json
import subprocess
import sys

import pytest
from edge_process import APPS, EdgeProcess, eventually
from outside_services import OutsideHandler, OutsideServer


@pytest.fixture
def serve(tmp_path):
    """Start `edge dev` for an app on a data directory of the test's own."""
    started = []

    def start(app, *arguments):
        edge = EdgeProcess("dev", APPS / app, "--port", 0, "--data", tmp_path / "data", *arguments)
        started.append(edge)
        return edge.wait_ready()

    yield start
    for edge in started:
        edge.kill()


@pytest.fixture
def model(tmp_path):
    """The stand-in model server; gives its base URL and the log of what it was asked."""
    log = tmp_path / "asked.jsonl"
    command = [sys.executable, APPS / "llm_offload/model_server.py", "--port", "0", "--word-delay-s", "0.01"]
    with subprocess.Popen([*command, "--log", log], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip().rpartition(" ")[2] + "/v1", log
        process.terminate()


def test_hello_answers(serve):
    with serve("hello").client() as client:
        answer = client.get("/")
    assert (answer.status_code, answer.text) == (200, "Hello, world!")
    assert answer.headers["content-type"] == "text/plain;charset=UTF-8"


def test_counter_counts_apart_by_name_and_resets_by_alarm(serve):
    with serve("counter").client() as client:
        assert [client.post("/a").json()["value"] for _ in range(3)] == [1, 2, 3]
        assert client.get("/b").json() == {"name": "b", "value": 0}
        assert client.post("/a/reset?after_s=0.2").status_code == 202
        eventually(lambda: client.get("/a").json()["value"] == 0)
        assert client.get("/").status_code == 404


def ask(client, prompt, session="s1"):
    answer = client.post("/ask", json={"session": session, "prompt": prompt})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def answer_of(client, ask_id):
    return eventually(lambda: (found := client.get(f"/answers/{ask_id}").json())["status"] == "complete" and found)


def test_llm_offload_answers_at_once_and_the_workflow_keeps_the_answer(serve, model):
    base_url, log = model
    edge = serve("llm_offload", "--var", f"OPENAI_BASE_URL:{base_url}")
    with edge.client() as client:
        ask_id = ask(client, "What is an actor?")
        found = answer_of(client, ask_id)
        assert "What is an actor?" in found["answer"]
        assert found["prompt"] == "What is an actor?"
        assert [json.loads(line)["prompt"] for line in log.read_text().splitlines()] == ["What is an actor?"]


def test_llm_offload_refuses_by_a_conditional_step_without_asking_the_model(serve, model):
    base_url, log = model
    edge = serve("llm_offload", "--var", f"OPENAI_BASE_URL:{base_url}")
    with edge.client() as client:
        found = answer_of(client, ask(client, "Tell me the password"))
        assert "'password'" in found["output"]["refused"]
        assert not log.exists()


def test_llm_offload_pushes_progress_to_the_session(serve, model):
    base_url, _ = model
    edge = serve("llm_offload", "--var", f"OPENAI_BASE_URL:{base_url}")
    with edge.client() as client, client.stream("GET", "/sessions/s9/events") as events:
        lines = (line for line in events.iter_lines() if line)
        assert next(lines) == ": listening"
        with edge.client() as other:
            ask_id = ask(other, "Push it", session="s9")
        messages = []
        for line in lines:
            messages.append(json.loads(line.removeprefix("data: ")))
            if messages[-1]["state"] == "complete":
                break
        assert {message["id"] for message in messages} == {ask_id}
        assert len(messages) > 3
        assert messages[-1]["text"].startswith("You asked: Push it")


def test_llm_offload_answers_wrong_input_with_400_and_serves_its_page(serve):
    with serve("llm_offload").client() as client:
        for body in (b"nonsense", b"[]", b'{"session": "s", "prompt": 3}', b'{"session": "s"}'):
            answer = client.post("/ask", content=body)
            assert answer.status_code == 400
            assert "error" in answer.json()
        assert client.get("/answers/nothing").status_code == 404
        answer = client.get("/")
        assert "EventSource" in answer.text
        assert answer.headers["content-type"] == "text/html;charset=utf-8"


class Forge(OutsideServer):
    """Stands for the outside services: pull requests that are open until told otherwise, and a chat."""

    def __init__(self):
        self.state = "open"
        self.messages = []
        super().__init__(ForgeHandler)


class ForgeHandler(OutsideHandler):
    server: Forge

    def do_GET(self):
        self.reply(200, json.dumps({"state": self.server.state}).encode())

    def do_POST(self):
        self.server.messages.append(json.loads(self.received())["text"])
        self.reply(200, b"{}")


@pytest.fixture
def forge():
    with Forge() as server:
        yield server


NOTICE = {"repo": "acme/site", "number": 7, "author": "ada"}


def start_reminders(serve, forge):
    urls = [f"FORGE_URL:{forge.url}", f"CHAT_URL:{forge.url}", "REMIND_EVERY:1 second"]
    return serve("pr_reminder", *(part for url in urls for part in ("--var", url)))


def test_pr_reminder_reminds_until_a_notice_of_closing(serve, forge):
    with start_reminders(serve, forge).client() as client:
        assert client.post("/webhook", json={"action": "opened", **NOTICE}).status_code == 202
        assert client.post("/webhook", json={"action": "opened", **NOTICE}).json()["started"] is False
        eventually(lambda: len(forge.messages) >= 2)
        assert forge.messages[0] == "@ada: acme/site#7 is waiting for you"
        assert client.post("/webhook", json={"action": "closed", **NOTICE}).status_code == 200
        found = eventually(
            lambda: (shown := client.get("/reminders/acme/site/7").json())["status"] == "complete" and shown
        )
        assert found["output"]["closed"] is True
        assert found["output"]["reminders"] >= 2


def test_pr_reminder_ends_when_the_forge_says_closed(serve, forge):
    forge.state = "closed"
    with start_reminders(serve, forge).client() as client:
        client.post("/webhook", json={"action": "opened", **NOTICE})
        eventually(lambda: client.get("/reminders/acme/site/7").json()["status"] == "complete")
        assert forge.messages == []
        assert client.get("/reminders/acme/other/1").status_code == 404
        assert client.post("/webhook", content=b"{}").status_code == 400
