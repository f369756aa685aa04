from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from bindings.kv.cli import kv
from bindings.kv.namespace import KvNamespace
from edge_runtime.errors import ConfigError, UsageError
from edge_runtime.seams import SystemClock
from edge_runtime.store.lmdb_store import open_store


@pytest.fixture
def worker(tmp_path, monkeypatch) -> Path:
    (tmp_path / "entry.py").write_text("")
    (tmp_path / "wrangler.toml").write_text(
        'name = "shop"\nmain = "entry.py"\ncompatibility_date = "2026-01-01"\n'
        '[[kv_namespaces]]\nbinding = "CACHE"\nid = "<YOUR_KV_NAMESPACE_ID>"\n'
        '[[kv_namespaces]]\nbinding = "SHARED"\nid = "abc"\n'
        '[env.staging]\n[[env.staging.kv_namespaces]]\nbinding = "CACHE"\nid = "staged"\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(kv, [str(argument) for argument in arguments], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def put(*arguments: object) -> None:
    assert run("key", "put", *arguments, "--binding", "CACHE").exit_code == 0


def get(*arguments: object) -> Result:
    return run("key", "get", *arguments, "--binding", "CACHE")


def test_put_then_get_prints_the_bytes(worker):
    result = run("key", "put", "greeting", "hello", "--binding", "CACHE")
    assert result.output == 'Writing the value "hello" to key "greeting" on namespace shop/CACHE.\n'
    assert get("greeting").stdout_bytes == b"hello"
    assert get("greeting", "--text").stdout_bytes == b"hello\n"


def test_missing_value_is_told_on_stderr_with_exit_code_1(worker):
    put("other", "x")
    result = get("missing")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Value not found\n")


def test_path_stores_a_file_byte_for_byte(worker):
    content = bytes(range(256)) * 100
    (worker / "image.bin").write_bytes(content)
    put("image", "--path", worker / "image.bin")
    assert get("image").stdout_bytes == content


def test_list_prints_json_with_metadata_and_expiration(worker):
    put("b", "2", "--metadata", '{"m": [1]}')
    put("a", "1", "--ttl", 3600)
    rows = json.loads(run("key", "list", "--binding", "CACHE").stdout)
    assert [row["name"] for row in rows] == ["a", "b"]
    assert rows[0]["expiration"] > 1_700_000_000
    assert rows[1] == {"name": "b", "metadata": {"m": [1]}}
    assert json.loads(run("key", "list", "--prefix", "zzz", "--binding", "CACHE").stdout) == []


def test_delete_removes_the_key(worker):
    put("k", "v")
    assert run("key", "delete", "k", "--binding", "CACHE").exit_code == 0
    assert get("k").exit_code == 1


def test_binding_environment_and_id_lead_to_the_same_namespace(worker):
    run("key", "put", "k", "shared", "--binding", "SHARED")
    assert run("key", "get", "k", "--namespace-id", "abc").stdout == "shared"
    run("key", "put", "k", "staged", "--binding", "CACHE", "--env", "staging")
    assert run("key", "get", "k", "--namespace-id", "staged").stdout == "staged"


def test_config_and_data_options_choose_other_places(worker, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run("key", "put", "k", "v", "--binding", "CACHE", "-c", worker / "wrangler.toml")
    assert (worker / ".edge" / "store").is_dir()
    assert run("key", "get", "k", "--namespace-id", "shop/CACHE", "--data", worker / ".edge").stdout == "v"


def test_bulk_put_get_delete(worker):
    pairs = [
        {"key": "a", "value": "1", "metadata": {"m": 1}},
        {"key": "b", "value": base64.b64encode(b"\xff\x00").decode(), "base64": True},
        {"key": "c", "value": "3", "expiration_ttl": 600},
    ]
    (worker / "pairs.json").write_text(json.dumps(pairs))
    (worker / "keys.json").write_text('["a", "c", "missing"]')
    (worker / "gone.json").write_text('["a", {"name": "b"}]')
    assert run("bulk", "put", "pairs.json", "--binding", "CACHE").exit_code == 0
    assert get("b").stdout_bytes == b"\xff\x00"
    found = json.loads(run("bulk", "get", "keys.json", "--binding", "CACHE").stdout)
    assert found == {"a": {"value": "1", "metadata": {"m": 1}}, "c": {"value": "3"}, "missing": {"value": None}}
    assert run("bulk", "delete", "gone.json", "--force", "--binding", "CACHE").exit_code == 0
    rows = json.loads(run("key", "list", "--binding", "CACHE").stdout)
    assert [row["name"] for row in rows] == ["c"]


def test_bulk_put_of_one_bad_pair_writes_none(worker):
    put("before", "x")
    (worker / "pairs.json").write_text(json.dumps([{"key": "good", "value": "1"}, {"key": "", "value": "2"}]))
    with pytest.raises(UsageError, match=r"item 1 \(key ''\): Key name cannot be empty\."):
        run("bulk", "put", "pairs.json", "--binding", "CACHE")
    assert get("good").exit_code == 1


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{}", "Expected `array`"),
        ("[1]", "pairs.json does not hold a list of"),
        ('[{"key": "k"}]', "missing required field `value`"),
        ("[", "does not hold"),
        ('[{"key": "k", "value": "!", "base64": true}]', "is not base64"),
        ('[{"key": "k", "value": "v", "expiration_ttl": 5}]', "KV PUT failed: 400 Invalid expiration_ttl of 5"),
    ],
)
def test_bad_bulk_files_are_refused_by_place(worker, content, text):
    (worker / "pairs.json").write_text(content)
    with pytest.raises(UsageError, match=text):
        run("bulk", "put", "pairs.json", "--binding", "CACHE")


def test_values_that_kv_refuses_are_refused_here(worker):
    with pytest.raises(UsageError, match="KV PUT failed: 400 Invalid expiration_ttl of 5"):
        run("key", "put", "k", "v", "--ttl", 5, "--binding", "CACHE")
    with pytest.raises(UsageError, match="Key name cannot be empty"):
        run("key", "delete", "", "--binding", "CACHE")


def test_wrong_arguments_are_usage_errors(worker):
    assert run("key", "get", "k").exit_code == 2
    assert run("key", "get", "k", "--binding", "A", "--namespace-id", "b").exit_code == 2
    assert run("key", "put", "k", "--binding", "CACHE").exit_code == 2
    assert run("key", "put", "k", "v", "--metadata", "{", "--binding", "CACHE").exit_code == 2


def test_unknown_binding_names_the_known_ones(worker):
    with pytest.raises(UsageError, match="no KV namespace with binding 'NOPE'; it has: CACHE, SHARED"):
        run("key", "get", "k", "--binding", "NOPE")


def test_reading_where_there_is_no_data_makes_nothing(worker):
    with pytest.raises(UsageError, match="no data directory"):
        run("key", "get", "k", "--binding", "CACHE")
    assert not (worker / ".edge").exists()


def test_folder_without_configuration_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=str(tmp_path)):
        run("key", "get", "k", "--binding", "CACHE")


def test_store_that_a_server_has_open_is_read_and_written(worker):
    put("k", "old")
    script = "from bindings.kv.cli import kv; kv()"

    async def serve_meanwhile() -> str | None:
        async with open_store(worker / ".edge" / "store") as store:
            namespace = KvNamespace("shop/CACHE", store, SystemClock())
            await namespace.put("mine", "v")
            await trio.run_process([sys.executable, "-c", script, "key", "put", "k", "new", "--binding", "CACHE"])
            return await namespace.get("k")

    assert trio.run(serve_meanwhile) == "new"
    assert get("mine").stdout == "v"
