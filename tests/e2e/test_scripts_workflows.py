"""Workflows as scripts use them, in both flavours: every form of a step, retries, sleeps, events, misuse, crashes."""

import json
from urllib.parse import quote

import pytest
from edge_process import EdgeProcess, eventually
from script_workers import FLAVOURS, OLD_DATE, client_of, edge_command, served, write_flavours

FLOW = {"workflows": [{"name": "flow", "binding": "FLOW", "class_name": "Flow"}]}


@pytest.fixture(scope="module")
def edge(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("workers")
    write_flavours(root, "flows", **FLOW)
    old = tmp_path_factory.mktemp("old")
    write_flavours(old, "flows", compatibility_date=OLD_DATE, **FLOW)
    for flavour in FLAVOURS:
        folder = (old / f"flows-{flavour}").rename(root / f"old-{flavour}")
        config = folder / "wrangler.json"
        config.write_text(config.read_text().replace(f'"flows-{flavour}"', f'"old-{flavour}"'))
    with served(root, data) as edge:
        yield edge


@pytest.fixture(params=FLAVOURS)
def client(edge, request):
    with client_of(edge, f"flows-{request.param}") as client:
        yield client


@pytest.fixture(params=FLAVOURS)
def old_client(edge, request):
    with client_of(edge, f"old-{request.param}") as client:
        yield client


def create(client, flow, **params):
    answer = client.post(f"/create/{flow}", json=params)
    assert answer.status_code == 200, answer.text
    return answer.text


def send(client, id, kind, payload):
    assert client.get(f"/send/{id}/{kind}/{quote(json.dumps(payload))}").text == "sent"


def status_of(client, id):
    answer = client.get(f"/status/{id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def ended(client, id):
    def status():
        found = status_of(client, id)
        assert set(found) - {"waitingFor"} == {"status", "output", "error"}
        return found["status"] in ("complete", "errored") and found

    return eventually(status)


def output_of(client, flow, **params):
    found = ended(client, create(client, flow, **params))
    assert found["status"] == "complete", found
    return found["output"]


def assert_did(edge, id, expected):
    """What an instance has printed; that may arrive after the answer that tells of its end."""

    def printed():
        return [line.partition(f"did {id} ")[2] for line in edge.lines if f"did {id} " in line]

    eventually(lambda: len(printed()) >= len(expected))
    assert printed() == expected


def test_steps_depend_on_each_other_as_in_cloudflares_example(edge, old_client):
    id = create(old_client, "graph")
    assert ended(old_client, id)["output"] == [1, 2]
    assert_did(edge, id, ["dependency 1", "dependency 2", "final step"])


def test_parameters_name_the_steps_to_wait_for(edge, client, old_client):
    id = create(client, "implicit")
    assert ended(client, id)["output"] == [6, [5, "right"]]
    assert_did(edge, id, ["base"])
    refused = ended(old_client, create(old_client, "implicit"))
    assert refused["status"] == "errored"
    assert refused["error"]["name"] == "TypeError"


def test_plain_calls_run_steps(client):
    assert output_of(client, "plain") == [["with ctx", 1, 1], [0, 10, 20], 1, "memoryview"]


def test_failed_attempts_are_repeated_until_one_succeeds(edge, client):
    id = create(client, "retried")
    assert ended(client, id)["output"] == 3
    assert_did(edge, id, [f"attempt {number} of 2" for number in (1, 2, 3)])


def test_last_error_reaches_run_and_ends_the_instance_if_not_caught(edge, client):
    id = create(client, "exhausted")
    found = ended(client, id)
    assert found == {"status": "errored", "output": None, "error": {"name": "RuntimeError", "message": "not caught"}}
    assert_did(edge, id, ["never"] * 3)


def test_non_retryable_error_ends_the_attempts(edge, client):
    id = create(client, "final")
    found = ended(client, id)
    assert found["status"] == "errored"
    assert_did(edge, id, ["final", "after"])
    assert "no more" in found["error"]["message"] or "NonRetryableError" in found["error"]["message"]


def test_sleeps_end_in_time(client):
    id = create(client, "slept", extra=[1])
    assert status_of(client, id)["status"] in ("queued", "running", "waiting")
    assert ended(client, id)["output"] == [True, {"flow": "slept", "extra": [1]}]


def test_events_are_waited_for_sent_early_or_late(edge, client, data):
    id = create(client, "waits")
    send(client, id, "second", "early")
    send(client, id, "first", {})
    found = ended(client, id)
    assert found["output"][:3] == [{}, "early", "second"]
    assert found["output"][3][0] == "WorkflowTimeoutError"
    id = create(client, "waits")
    eventually(lambda: status_of(client, id)["status"] == "waiting")
    send(client, id, "first", [1])
    eventually(lambda: status_of(client, id)["status"] == "waiting")
    worker = client.headers["host"].partition(".")[0]
    edge_command(
        "workflows", "instances", "send-event", "flow", id, "--type", "second", "--payload", "2", "--worker", worker,
        "--data", data,
    )  # fmt: skip
    assert ended(client, id)["output"][:3] == [[1], 2, "second"]


def test_step_that_takes_too_long_is_timed_out(client):
    assert output_of(client, "slow") == ["WorkflowTimeoutError", "WorkflowTimeoutError: Execution timed out after 50ms"]


def test_conditional_steps_run_or_are_skipped(edge, client):
    id = create(client, "conditional", wanted=True)
    assert ended(client, id)["output"] == ["ran", None]
    assert_did(edge, id, ["chosen"])
    id = create(client, "conditional")
    assert ended(client, id)["output"] == [None, "plain"]
    assert_did(edge, id, [])


def test_results_that_cannot_be_kept_end_the_instance(client):
    assert "too large" in ended(client, create(client, "too_large"))["error"]["message"]
    assert "not serialisable" in ended(client, create(client, "not_serialisable"))["error"]["message"]


def test_misuse_of_the_binding_is_refused_with_cloudflares_codes(client):
    found = client.get("/misuse").json()
    for name, code in {
        "duplicate": "(instance.already_exists)",
        "bad id": "(instance.invalid_id) Workflow instance has invalid id",
        "unknown": "(instance.not_found)",
        "empty": "batchCreate should have at least 1 instance",
        "many": "at most 100",
        "finished": "(instance.not_running)",
    }.items():
        assert code in found[name], found[name]
    assert found["bad type"]
    assert (found["batch"], found["ids"]) == (["new"], 3)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_instances_go_on_after_a_kill_without_repeating_steps(tmp_path, flavour):
    write_flavours(tmp_path, "flows", [flavour], **FLOW)
    arguments = ("dev", tmp_path / f"flows-{flavour}", "--port", 0, "--data", tmp_path / "data", "--no-reload")
    with EdgeProcess(*arguments).wait_ready() as edge, edge.client() as client:
        id = create(client, "waits")
        send(client, id, "first", 1)
        sleeping = create(client, "slept")
        eventually(lambda: status_of(client, id)["status"] == "waiting")
    with EdgeProcess(*arguments).wait_ready() as edge, edge.client() as client:
        send(client, id, "second", 2)
        assert ended(client, id)["output"][:3] == [1, 2, "second"]
        assert ended(client, sleeping)["output"][0] is True
