"""KV as scripts use it, in both flavours: values, metadata, expirations, pages, errors, the command line beside it."""

import json

import pytest
from script_workers import FLAVOURS, client_of, edge_command, served, write_flavours

SUBJECTS = ("KINDS", "METADATA", "ERRORS", "PAGES")


@pytest.fixture(scope="module")
def edge(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("workers")
    for flavour in FLAVOURS:
        namespaces = [{"binding": name, "id": f"{flavour}-{name.lower()}"} for name in SUBJECTS]
        write_flavours(root, "kv", [flavour], kv_namespaces=namespaces)
    with served(root, data) as edge:
        yield edge


@pytest.fixture(params=FLAVOURS)
def client(edge, request):
    with client_of(edge, f"kv-{request.param}") as client:
        yield client


def ask(client, name):
    answer = client.get(f"/{name}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_values_of_each_kind(client):
    assert ask(client, "kinds") == {
        "text": "grüße",
        "json": [{"a": [1, {"b": None}]}, None, 1],
        "buffer": ["memoryview", [0, 255]],
        "array": [1],
        "stream": "grüße",
        "streamed": "one two",
        "empty": "",
        "missing": [None, None, "grüße"],
        "bulk": {"text": "grüße", "missing": None, "empty": ""},
        "bulk json": {"json": {"a": [1, {"b": None}]}},
        "deleted": [None, None, None],
    }


def test_metadata_and_expirations(client):
    nothing = {"value": None, "metadata": None, "cacheStatus": None}
    assert ask(client, "metadata") == {
        "one": ["v", 1, {"tag": [1]}],
        "plain": {**nothing, "value": "v"},
        "missing": nothing,
        "bulk": {"with": {"tag": [1]}, "until": "text", "none": None},
        "listed": {
            "both": [["expiration", "name"], None],
            "plain": [["name"], None],
            "until": [["expiration", "metadata", "name"], "text"],
            "with": [["expiration", "metadata", "name"], {"tag": [1]}],
        },
        "expiration": [True, True, True],
    }


def test_errors_are_cloudflares(client):
    found = ask(client, "errors")
    begins = {
        "ttl": "KV PUT failed: 400 Invalid expiration_ttl of 59. Expiration TTL must be at least 60.",
        "ttl_zero": "KV PUT failed: 400 Invalid expiration_ttl of 0. Please specify integer greater than 0.",
        "past": "KV PUT failed: 400 Invalid expiration of ",
        "soon": "KV PUT failed: 400 Invalid expiration of ",
        "metadata": "KV PUT failed: 413 Metadata length of 2002 exceeds limit of 1024.",
        "empty": "Key name cannot be empty.",
        "dot": '"." is not allowed as a key name.',
        "long": "KV PUT failed: 414 UTF-8 encoded length of 514 exceeds key length limit of 512.",
        "large": "KV PUT failed: 413 Value length of 26214401 exceeds limit of 26214400.",
        "cache": "KV GET failed: 400 Invalid cache_ttl of 10. Cache TTL must be at least 30.",
        "limit": "KV GET failed: 400 Invalid key_count_limit of 1001.",
        "limit_zero": "KV GET failed: 400 Invalid key_count_limit of 0.",
        "many": "KV GET_BULK failed: 400 You can request a maximum of 100 keys",
        "bulk_type": 'KV GET_BULK failed: 400 "stream" is not a valid type. Use "json" or "text"',
        "iterated": "'KvNamespace' object is not iterable",
    }
    for name, text in begins.items():
        assert found[name][1].removeprefix("Error: ").startswith(text), found[name]
    assert [found[name][0] for name in ("empty", "dot", "dict", "number", "iterated")] == ["TypeError"] * 5
    assert found["not_json"] is not None
    assert found["kept_out"] is None


def test_lists_page_by_page(client):
    found = ask(client, "pages")
    assert found.pop("bad_cursor") is not None
    assert found == {
        "found": True,
        "cursors": 2,
        "last": ["cacheStatus", "keys", "list_complete"],
        "order": ["q:z", "q:é"],
        "none": {"keys": [], "list_complete": True, "cacheStatus": None},
    }


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_command_line_sees_what_the_running_worker_wrote(edge, data, flavour):
    with client_of(edge, f"kv-{flavour}") as client:
        ask(client, "pages")
    listed = edge_command("kv", "key", "list", "--namespace-id", f"{flavour}-pages", "--prefix", "p:", "--data", data)
    assert len(json.loads(listed)) == 25
    assert edge_command("kv", "key", "get", "p:003", "--namespace-id", f"{flavour}-pages", "--data", data) == "p:003"
