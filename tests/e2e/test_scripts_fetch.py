"""What scripts send out, and what they do beside the response, in both flavours."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from edge_process import eventually
from script_workers import FLAVOURS, client_of, served, write_flavours


class Backend(ThreadingHTTPServer):
    """The other server: tells what it was asked, redirects, streams, is slow, breaks off."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), BackendHandler)
        self.left = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class BackendHandler(BaseHTTPRequestHandler):
    server: Backend
    protocol_version = "HTTP/1.1"

    def answer(self):
        match self.path:
            case "/echo":
                told = {"method": self.command, "body": self.body().decode("latin-1"), **self.told_headers()}
                self.reply(200, json.dumps(told).encode(), {"content-type": "application/json"})
            case "/head":
                heads = [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-two", "1"), ("x-two", "2")]
                self.reply(404, b"nothing", heads)
            case "/slow":
                self.stream([b"one", b"two", b"three"])
            case "/redirect":
                self.body()
                self.reply(302, b"moved", {"location": "/echo"})
            case "/loop":
                self.reply(302, b"", {"location": "/loop"})
            case "/cut":
                self.send_response(200)
                self.send_header("content-length", "100")
                self.end_headers()
                self.wfile.write(b"short")
                self.close_connection = True
            case "/never":
                self.connection.recv(1)
                self.server.left += 1
                self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def body(self):
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def told_headers(self):
        names = ("content-type", "x-int", "x-via", "transfer-encoding")
        return {name: self.headers[name] for name in names if self.headers[name]}

    def reply(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items() if isinstance(headers, dict) else headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, pieces):
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            time.sleep(0.01)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format, *arguments):
        pass


@pytest.fixture(scope="module")
def backend():
    server = Backend()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def edge(tmp_path_factory, backend):
    root = tmp_path_factory.mktemp("workers")
    write_flavours(
        root,
        "fetch",
        vars={"BACKEND": backend.url, "TABLE": {"a": [1, None], "b": True}},
        kv_namespaces=[{"binding": "KV"}],
        durable_objects={"bindings": [{"name": "COUNTER", "class_name": "Counter"}]},
        migrations=[{"tag": "v1", "new_sqlite_classes": ["Counter"]}],
    )
    with served(root, tmp_path_factory.mktemp("data")) as edge:
        yield edge


@pytest.fixture(params=FLAVOURS)
def client(edge, request):
    with client_of(edge, f"fetch-{request.param}") as client:
        yield client


def test_fetch_sends_each_method_and_body(client):
    found = client.get("/methods").json()
    form = found.pop(3)
    assert (form["method"], 'name="a"\r\n\r\nb' in form["body"]) == ("PATCH", True)
    text = {"content-type": "text/plain;charset=UTF-8"}
    assert found == [
        {"method": "GET", "body": ""},
        {"method": "POST", "body": "text", "x-int": "3", **text},
        {"method": "PUT", "body": "\x00bytes"},
        {"method": "POST", "body": "0;1;2;3;", "transfer-encoding": "chunked"},
        {"method": "POST", "body": "q=a+b", "content-type": "application/x-www-form-urlencoded;charset=UTF-8"},
        {"method": "DELETE", "body": ""},
    ]


def test_fetch_gives_head_and_body(client):
    assert client.get("/properties").json() == [404, False, "Not Found", "1, 2", ["a=1", "b=2"], "nothing"]
    assert client.get("/streamed").json() == ["one", "two", "three"]


def test_redirects_are_followed_shown_or_refused(client):
    followed, shown, refused, after_post, loop = client.get("/redirects").json()
    assert followed[:3] == [200, True, "/echo"]
    assert shown == [302, False, "/redirect", "moved"]
    assert refused.startswith("OSError: fetch() to /redirect was redirected")
    assert json.loads(after_post) == {"method": "GET", "body": ""}
    assert loop == "Too many redirects"


def test_failures_of_the_network_are_os_errors(client):
    *failures, second_argument = client.get("/errors").json()
    assert failures == ["OSError"] * 5
    assert second_argument == "fetch() takes 1 positional argument but 2 were given"


def test_a_timeout_closes_the_connection(client, backend):
    for action in ("timeout", "aborted", *(["wait_for"] if "asyncio" in client.headers["host"] else [])):
        left = backend.left
        found = client.get(f"/{action}").json()
        assert found is True or found[0] is True or "Timeout" in found[0], found
        eventually(lambda left=left: backend.left == left + 1)


def test_a_request_is_passed_on_with_its_body_and_the_answer_back(client):
    big = b"0123456789" * 50_000
    found = client.post("/proxied", content=big).json()
    assert (found["method"], found["x-via"], len(found["body"])) == ("POST", "worker", len(big))


def test_wait_until_work_ends_after_the_response_and_its_failure_is_only_logged(edge, client):
    ways = ("method", "function", "promise", "failing")
    for way in (*ways, "task") if "asyncio" in client.headers["host"] else ways:
        assert client.get(f"/wait_until/{way}").text == "at once"
        eventually(lambda way=way: client.get("/later").text == way)
    edge.wait_for("LookupError: failed after the response")


def test_bindings_are_used_together(client):
    values, counts, statuses = client.get("/together").json()
    assert values == [str(number) for number in range(20)]
    assert counts == list(range(counts[0], counts[0] + 20))
    assert statuses == [200] * 10
    assert client.get("/tasks").json() == ["3"]


def test_env_is_there_at_import_with_json_variables(client):
    table = {"a": [1, None], "b": True}
    assert client.get("/env").json() == [table, True, 1]
