"""Requests and responses as scripts use them, in both flavours and on both implementations of HTTP/1, over real
connections."""

import http.client
import json

import httpx2
import pytest
from edge_process import PATIENCE_S, eventually
from script_workers import FLAVOURS, SCRIPTS, client_of, served, write_flavours, write_worker

TEXT = "text/plain;charset=UTF-8"


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    root = tmp_path_factory.mktemp("workers")
    write_flavours(root, "http")
    script = (SCRIPTS / "http.py").read_text()
    write_worker(root / "http-hypercorn", script, vars={"FLAVOUR": "trio"}, edge={"http1": "hypercorn"})
    with served(root, tmp_path_factory.mktemp("data")) as edge:
        yield edge


@pytest.fixture(params=[*FLAVOURS, "hypercorn"])
def client(edge, request):
    with client_of(edge, f"http-{request.param}") as client:
        yield client


BODIES = {
    "none": (200, b"", None),
    "empty": (200, b"", TEXT),
    "text": (200, "grüße".encode(), TEXT),
    "bytes": (200, b"\x00\xff", None),
    "array": (200, b"\x01\x02", None),
    "array_buffer": (200, b"\x03\x04", None),
    "blob": (200, b"ab", "text/x-blob"),
    "search": (200, b"q=a+b", "application/x-www-form-urlencoded;charset=UTF-8"),
    "generator": (200, b"".join(b"piece %d\n" % number for number in range(5)), None),
    "pushed": (200, b"one two", None),
    "transformed": (200, b"SHOUT", None),
    "fixed": (200, b"12345", TEXT),
    "js": (201, b"from js", TEXT),
    "js_wrapped": (202, b"wrapped", TEXT),
}


def test_each_kind_of_body_is_sent(client):
    found = {}
    for kind in BODIES:
        answer = client.get(f"/body/{kind}")
        found[kind] = (answer.status_code, answer.content, answer.headers.get("content-type"))
    assert found == BODIES
    assert client.get("/body/js").headers["x-js"] == "1"
    form = client.get("/body/form")
    assert form.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b'name="a"\r\n\r\n1\r\n' in form.content


@pytest.mark.parametrize("chunked", [False, True])
def test_each_way_to_read_a_body_gives_what_was_sent(client, chunked):
    def post(kind, data):
        content = (data[at : at + 70_000] for at in range(0, len(data), 70_000)) if chunked else data
        return client.post(f"/echo/{kind}", content=content, headers={"content-type": "text/x-sent"})

    big = bytes(range(256)) * 8192
    assert post("text", "grüße".encode()).text == "grüße"
    assert post("json", b'{"a": [1, 2.5, null]}').content == b'{"a": [1, 2.5, null]}'
    for kind in ("bytes", "buffer", "stream"):
        assert post(kind, big).content == big
    blob = post("blob", big)
    assert (blob.content, blob.headers["x-size"], blob.headers["content-type"]) == (big, str(len(big)), "text/x-sent")
    assert post("pieces", big).text == post("reader", big).text == str(len(big))
    assert post("upper", b"abc" * 50_000).content == b"ABC" * 50_000
    assert post("text", b"").text == ""


def test_a_generated_body_arrives_piece_by_piece(client):
    with client.stream("GET", "/body/generator") as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"piece 0\n"
        assert len(list(pieces)) >= 3


def test_an_upload_is_answered_while_it_is_still_being_sent(edge, client):
    connection = http.client.HTTPConnection("localhost", edge.port, timeout=PATIENCE_S)
    connection.putrequest("POST", "/echo/stream", skip_host=True)
    connection.putheader("host", client.headers["host"])
    connection.putheader("transfer-encoding", "chunked")
    connection.endheaders()
    connection.send(b"5\r\nfirst\r\n")
    answer = connection.getresponse()
    assert answer.read(5) == b"first"
    connection.send(b"6\r\nsecond\r\n0\r\n\r\n")
    assert answer.read() == b"second"
    connection.close()


def test_a_body_that_breaks_off_is_seen_as_broken_and_logged(edge, client):
    with pytest.raises(httpx2.RemoteProtocolError):
        client.get("/body/broken")
    edge.wait_for("RuntimeError: the body broke off")
    assert client.get("/body/text").status_code == 200


def test_a_client_that_leaves_ends_the_generator(edge, client):
    with client.stream("GET", "/body/endless") as answer:
        next(answer.iter_raw())
    name = client.headers["host"].partition(".")[0]
    eventually(lambda: any(f"{name} fetch Default.fetch GET /body/endless" in line for line in edge.lines))
    assert client.get("/body/text").status_code == 200


def test_forms_and_files_in_both_directions(client):
    fields = {"name": "Ada", "note": "grüße"}
    files = {"file": ("ä.bin", b"\x00\x01\xff", "application/x-thing")}
    found = client.post("/form", data=fields, files=files).json()
    assert found == [["name", "Ada"], ["note", "grüße"], ["file", "ä.bin", "application/x-thing", "\x00\x01ÿ"]]
    assert client.post("/form", data={"a": "1 2", "b": "&"}).json() == [["a", "1 2"], ["b", "&"]]
    answer = client.post("/form", data={"a": "x"}, headers={"accept": "multipart/form-data"})
    assert answer.headers["content-type"].startswith("multipart/form-data; boundary=")
    for part in (b'name="first"\r\n\r\nx\r\n', b'filename="given.txt"', b"made here"):
        assert part in answer.content
    assert client.post("/form", content=b"x", headers={"content-type": "text/plain"}).status_code == 500


def test_heads_of_responses(client):
    def head(what):
        return client.get(f"/head/{what}", follow_redirects=False)

    redirect = head("redirect")
    assert (redirect.status_code, redirect.headers["location"]) == (307, "https://example.com/a%20b")
    assert (head("no_content").status_code, head("no_content").content) == (204, b"")
    assert "content-length" not in head("no_content").headers
    unchanged = head("not_modified")
    assert (unchanged.status_code, unchanged.headers["etag"], unchanged.content) == (304, '"1"', b"")
    cookies = head("cookies").headers
    assert cookies.get_list("set-cookie") == ["a=1; Path=/", "b=2"]
    assert cookies["x-a"] == "1, 2"
    values = head("values").headers
    assert (values["x-true"], values["x-int"], values["x-case"]) == ("true", "3", "kept")
    assert (head("teapot").status_code, head("teapot").text) == (418, "short and stout")
    problem = head("json")
    assert (problem.status_code, problem.text) == (201, '{"a": [1, null]}')
    assert problem.headers["content-type"] == "application/problem+json"
    replaced = head("replaced")
    assert (replaced.status_code, replaced.text, replaced.headers["x-kept"]) == (202, "new", "1")


def test_head_requests_have_the_headers_and_no_body(client):
    for kind in ("text", "generator", "bytes"):
        answer = client.head(f"/body/{kind}")
        assert (answer.status_code, answer.content) == (200, b"")
    assert client.head("/body/text").headers["content-length"] == str(len("grüße".encode()))
    assert client.head("/anything").headers["content-type"] == "application/json"


def test_requests_arrive_as_cloudflare_shows_them(edge, client):
    headers = [("x-many", "a"), ("x-many", "b"), ("cookie", "s=1; t=2"), ("accept", "x/y")]
    found = client.get("/pl%C3%A4ce/ü%20x?q=1&q=%C3%BC&e=", headers=headers).json()
    host = f"http://{client.headers['host']}"
    assert found["method"] == "GET"
    assert found["url"] == f"{host}/pl%C3%A4ce/%C3%BC%20x?q=1&q=%C3%BC&e="
    assert found["path"] == "/pläce/ü x"
    assert found["query"] == {"q": ["1", "ü"]}
    assert found["accept"] == "x/y"
    assert found["all"] == ["a, b"]
    assert found["cookies"] == {"s": "1", "t": "2"}
    assert found["has_body"] is False
    assert found["js"] == ["GET", "a, b", found["url"]]
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS"):
        assert client.request(method, "/x", content=b"1").json()["method"] == method
    assert client.post("/x", content=b"1").json()["has_body"] is True


def test_urls_are_normalised(edge, client):
    def url_of(target):
        connection = http.client.HTTPConnection("localhost", edge.port, timeout=PATIENCE_S)
        connection.putrequest("GET", target, skip_host=True)
        connection.putheader("host", client.headers["host"].upper() + ":80")
        connection.endheaders()
        answer = connection.getresponse()
        found = json.loads(answer.read())["url"]
        connection.close()
        return found

    host = f"http://{client.headers['host']}"
    assert url_of("/a/../b/./c") == f"{host}/b/c"
    assert url_of("/") == f"{host}/"
    assert url_of("/%7Ea?x=%20'") == f"{host}/%7Ea?x=%20%27"
    assert url_of("/a/%2e%2E/b") == f"{host}/b"
    assert url_of("//double//slash") == f"{host}//double//slash"
    assert url_of(f"{host}/x/../y") == f"{host}/y"


def test_bodies_are_read_once_and_clones_apart(client):
    assert client.post("/clones", content=b"sent").json() == [
        "sent",
        "sent",
        "Body already used",
        "again",
        "again",
        "Response(status=200, status_text='OK', content_type='application/json')",
    ]


def test_requests_that_scripts_make(client):
    assert client.get("/made").json() == [
        "https://test.com/",
        "Request(method='POST', url='https://test.com/')",
        "POST",
        "d",
        "payload",
    ]


def test_wrong_responses_are_refused_with_cloudflares_errors(client):
    kinds = {
        "tuple": "TypeError",
        "dict": "TypeError",
        "status": "ValueError",
        "null_body": "TypeError",
        "redirect_status": "ValueError",
        "headers": "TypeError",
        "js_and_status": "ValueError",
        "not_json": "TypeError",
        "unknown": "AttributeError",
    }
    found = {what: client.get(f"/wrong/{what}").json() for what in kinds}
    assert {what: error[0] for what, error in found.items()} == kinds
    assert found["tuple"][1] == "Unsupported type in Response: tuple"
    assert found["not_json"][1] == "Object of type set is not JSON serializable"
