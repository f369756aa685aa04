"""What is told of errors, to clients and to the script's author, and what never is: secrets, and our own frames."""

import re

import pytest
from edge_process import EdgeProcess
from script_workers import SCRIPTS, served, write_worker

SECRETS = "TOKEN=kept-to-itself\nOVERRIDDEN='by the secret'\n"


def place(folder):
    return write_worker(
        folder,
        (SCRIPTS / "errors.py").read_text(),
        {".dev.vars": SECRETS},
        compatibility_flags=["python_workers"],
        vars={"PLAIN": "plain", "OVERRIDDEN": "by vars"},
    )


@pytest.fixture(scope="module")
def development(tmp_path_factory):
    folder = place(tmp_path_factory.mktemp("dev") / "errors")
    data = tmp_path_factory.mktemp("data")
    with EdgeProcess("dev", folder, "--port", 0, "--data", data, "--no-reload") as edge:
        yield edge.wait_ready()


@pytest.fixture(scope="module")
def production(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    place(root / "errors")
    with served(root, tmp_path_factory.mktemp("data")) as edge:
        yield edge


ERRORS = {
    "raise": "ValueError: told by the script, 14 letters",
    "deep": "AttributeError: 'Default' object has no attribute 'missing_attribute'",
    "group": "KeyError: 'failed in a group'",
    "env": "UNKNOWN",
    "nothing": "the fetch handler returned NoneType; allowed: a workers.Response",
    "text": "the fetch handler returned str; allowed: a workers.Response",
}


def test_in_development_the_traceback_is_the_answer(development):
    with development.client() as client:
        for path, told in ERRORS.items():
            answer = client.get(f"/{path}")
            assert answer.status_code == 500
            assert told in answer.text
            assert "edge_runtime" not in answer.text
            if path in ("raise", "deep", "group"):
                assert answer.text.startswith(("Traceback", "  + Exception Group Traceback"))
                assert 'src/entry.py", line' in answer.text


def test_in_production_the_answer_says_nothing_and_the_log_everything(production):
    with production.client() as client:
        for path, told in ERRORS.items():
            answer = client.get(f"/{path}")
            assert (answer.status_code, answer.text) == (500, "error code: 1101")
            assert set(answer.headers) <= {"content-type", "content-length", "date", "server"}
            production.wait_for(told.replace("(", r"\("))


@pytest.mark.parametrize("server", ["development", "production"])
def test_an_error_with_half_a_character_or_of_megabytes_harms_neither_answer_nor_log(server, request):
    edge = request.getfixturevalue(server)
    with edge.client() as client:
        answers = [client.get(path) for path in ("/surrogate", "/huge", "/surrogate")]
        assert [answer.status_code for answer in answers] == [500, 500, 500]
        edge.wait_for(r"ValueError: half of \?")
        edge.wait_for("many words many words, the last of them")
        assert client.get("/").status_code == 200
    assert not re.search("isolate .* ended", edge.output)


@pytest.mark.parametrize("server", ["development", "production"])
def test_secrets_reach_the_script_and_no_output(server, request):
    edge = request.getfixturevalue(server)
    with edge.client() as client:
        assert client.get("/").text == "True plain by the secret"
        assert client.get("/print").status_code == 200
        edge.wait_for(r"printed \[Secret")
        edge.wait_for(r"logged \[Secret")
        answer = client.get("/secret_key")
        assert answer.status_code == 500
        assert "kept-to-itself" not in answer.text
    edge.wait_for("KeyError")
    assert "kept-to-itself" not in edge.output
    assert "by the secret" not in edge.output
