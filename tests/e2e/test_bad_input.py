"""Wrong configurations and scripts, hostile clients: a clear error for whoever must act, and the server goes on."""

import json
import re
import socket
import subprocess
import threading
from contextlib import ExitStack, closing
from textwrap import dedent

import httpx2
import pytest
from edge_process import EDGE, PATIENCE_S, EdgeProcess, eventually, plain_client

HEADER = 'name = "w"\nmain = "entry.py"\ncompatibility_date = "2026-05-01"\n'
SCRIPT = dedent("""
    from workers import DurableObject, Response, WorkerEntrypoint


    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            return Response("ok")


    class Room(DurableObject):
        pass
    """)


def write_worker(folder, config, script=SCRIPT):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "wrangler.toml").write_text(config)
    (folder / "entry.py").write_bytes(script if isinstance(script, bytes) else script.encode())
    return folder


CONFIGS = {
    "no name": ('main = "entry.py"', r"wrangler.toml: name: found nothing; allowed: the worker's name"),
    "not toml": ("name = ", r"wrangler.toml: line 1, column 8: .*allowed: valid TOML"),
    "wrong type": ('name = 3\nmain = "entry.py"', r"name: found the number 3; allowed: a string"),
    "no script": ('name = "w"\nmain = "no.py"', r'main: found "no.py", which does not exist; allowed: the path of a'),
    "memory": (HEADER + "edge = {memory_mb = 1}", r"edge.memory_mb: found the number 1; allowed: .* from 128 to"),
    "cron": (HEADER + 'triggers = {crons = ["99 * * * *"]}', r'crons\[0\]: found "99 .*; allowed: minute 0-59'),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_wrong_configuration_is_refused_with_place_and_what_is_allowed(tmp_path, case):
    config, error = CONFIGS[case]
    folder = write_worker(tmp_path / "w", config)
    command = [*EDGE, "dev", folder, "--port", "0", "--data", tmp_path / "data"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 1
    assert re.fullmatch(rf"edge: {re.escape(str(folder))}/.*{error}.*\n", ended.stderr), ended.stderr
    assert ended.stdout == ""


CLASS_LESS = (
    "durable_objects = {{bindings = [{{name = 'A', class_name = '{0}'}}]}}\n"
    "migrations = [{{tag = 'v1', new_sqlite_classes = ['{0}']}}]\n"
)
WORKFLOW = "workflows = [{name = 'flow', binding = 'FLOW', class_name = 'Gone'}]\n"
SCRIPTS = {
    "syntax": ("", "def f(:\n", "invalid syntax (entry.py, line 1)", "def f(:"),
    "bytes": ("", b"\x00\xff\xfe", "source code string cannot contain null bytes", "SyntaxError"),
    "encoding": ("", b"name = '\xe9'\n", "invalid", "entry.py"),
    "missing": ("", "import nosuch\n", "no module named 'nosuch'; name its package under [project]", "import nosuch"),
    "raises": ("", "1 / 0\n", "ZeroDivisionError: division by zero", "1 / 0"),
    "exits": ("", "import sys\nsys.exit(3)\n", "the script called sys.exit(3) while it was imported", "sys.exit(3)"),
    "dies": ("", "import os\nos._exit(3)\n", "its script ended the process while it was imported", ""),
    "object": (CLASS_LESS.format("Gone"), SCRIPT, "names the class Gone, which the script does not export", "Room"),
    "no object": (CLASS_LESS.format("Default"), SCRIPT, "not export as a subclass of DurableObject", "Default"),
    "workflow": (WORKFLOW, SCRIPT, "workflow flow of worker w names the class Gone", "WorkflowEntrypoint"),
    "cron": ("triggers = {crons = ['* * * * *']}\n", SCRIPT, "has triggers.crons but no scheduled handler", ""),
    "no fetch": ("", "x = 1\n", "Handler does not export a fetch() function", "Default(WorkerEntrypoint)"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A server with a good worker and one for each of SCRIPTS, in production."""
    root = tmp_path_factory.mktemp("workers")
    write_worker(root / "good", HEADER.replace('"w"', '"good"'))
    for case, (config, script, _, _) in SCRIPTS.items():
        name = case.replace(" ", "-")
        write_worker(root / name, HEADER.replace('"w"', f'"{name}"') + config, script)
    with EdgeProcess("run", root, "--port", 0, "--data", tmp_path_factory.mktemp("data")) as edge:
        yield edge.wait_ready()
        assert edge.interrupt() == 0


@pytest.mark.parametrize("case", SCRIPTS)
def test_script_that_does_not_load_is_told_to_the_operator_and_not_to_clients(folders, case):
    name = case.replace(" ", "-")
    message = SCRIPTS[case][2].replace("worker w", f"worker {name}")
    with folders.client() as client:
        answer = client.get("/", headers={"host": f"{name}.localhost"})
        neighbour = client.get("/", headers={"host": "good.localhost"})
    if case == "no fetch":
        assert (answer.status_code, answer.text) == (500, "error code: 1101")
    else:
        assert (answer.status_code, answer.text) == (503, "The worker is not available.\n")
        assert answer.headers["retry-after"]
    folders.wait_for(re.escape(message))
    assert neighbour.text == "ok"
    assert no_frames_of_ours(folders.output)


@pytest.mark.parametrize("case", ["syntax", "raises", "object", "no fetch"])
def test_development_shows_the_scripts_error_to_the_client(tmp_path, case):
    config, script, message, detail = SCRIPTS[case]
    folder = write_worker(tmp_path / "w", HEADER + config, script)
    with (
        EdgeProcess("dev", folder, "--port", 0, "--data", tmp_path / "data") as edge,
        edge.wait_ready().client() as client,
    ):
        answer = client.get("/")
        assert answer.status_code == 500
        assert message in answer.text
        assert detail in answer.text
        assert no_frames_of_ours(answer.text)
        assert edge.interrupt() == 0
        assert no_frames_of_ours(edge.output)


def no_frames_of_ours(text):
    return "edge_runtime/" not in text and "/bindings/" not in text


MISUSE = dedent("""
    import trio
    from workers import Response, WorkerEntrypoint


    async def endless():
        while True:
            yield b"x" * 65536


    async def broken():
        yield b"begun"
        raise ValueError("in the middle")


    async def numbers():
        yield 3


    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            kv = self.env.KV
            match request.url.rpartition("/")[2]:
                case "none":
                    return None
                case "text":
                    return "text"
                case "class":
                    return Response
                case "header":
                    return Response("x", headers={"x-a": "b\\r\\nset-cookie: evil=1"})
                case "header_name":
                    return Response("x", headers={"x-a\\r\\nset-cookie": "evil=1"})
                case "status":
                    return Response("x", status=999)
                case "null_body":
                    return Response("x", status=204)
                case "key":
                    await kv.put("k" * 513, "v")
                case "value":
                    await kv.put("k", "v" * (25 * 1024 * 1024 + 1))
                case "value_type":
                    await kv.put("k", 3)
                case "metadata":
                    await kv.put("k", "v", metadata={"a": "b" * 2000})
                case "ttl":
                    await kv.put("k", "v", expirationTtl=3)
                case "binding":
                    return self.env.NOPE
                case "length":
                    return Response("abc", headers={"content-length": "10"})
                case "204":
                    return Response(None, status=204)
                case "304":
                    return Response(None, status=304, headers={"etag": '"a"'})
                case "endless":
                    return Response(endless())
                case "broken":
                    return Response(broken())
                case "numbers":
                    return Response(numbers())
                case "wait":
                    await trio.sleep(1000)
                case "read":
                    return Response(str(len(await request.bytes())))
            return Response(f"{request.method} ok")
    """)


@pytest.fixture(scope="module")
def production(tmp_path_factory):
    """`edge run` on the misused worker alone."""
    config = HEADER + "kv_namespaces = [{binding = 'KV', id = 'kv'}]\n"
    folder = write_worker(tmp_path_factory.mktemp("misuse"), config, MISUSE)
    data = tmp_path_factory.mktemp("data")
    with EdgeProcess("run", folder, "--port", 0, "--data", data, "--grace-s", 1) as edge:
        yield edge.wait_ready()
        assert edge.interrupt() == 0
        assert no_frames_of_ours(edge.output)
        assert "site-packages" not in edge.output


MISUSES = {
    "none": "TypeError: the fetch handler returned NoneType; allowed: a workers.Response (was a return missing?)",
    "text": "TypeError: the fetch handler returned str; allowed: a workers.Response",
    "class": "TypeError: the fetch handler returned type; allowed: a workers.Response",
    "header": "TypeError: Invalid header value for 'x-a': line breaks and NUL are not allowed in it",
    "header_name": r"TypeError: Invalid header name: 'x-a\r\nset-cookie'",
    "status": "ValueError: Responses may only be constructed with status codes in the range 200 to 599",
    "null_body": "TypeError: Response with null body status (101, 204, 205, or 304) cannot have a body",
    "key": "KV PUT failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512.",
    "value": "KV PUT failed: 413 Value length of 26214401 exceeds limit of 26214400.",
    "value_type": "TypeError: KV put() accepts only strings, ArrayBuffers, ArrayBufferViews, and ReadableStreams",
    "metadata": "KV PUT failed: 413 Metadata length of 2008 exceeds limit of 1024.",
    "ttl": "KV PUT failed: 400 Invalid expiration_ttl of 3. Expiration TTL must be at least 60.",
    "binding": "AttributeError: env has no binding or variable 'NOPE'; Available: KV",
}


@pytest.mark.parametrize("case", MISUSES)
def test_misuse_of_the_api_names_what_is_allowed(production, case):
    with production.client() as client:
        answer = client.get(f"/{case}")
        assert (answer.status_code, answer.text) == (500, "error code: 1101")
        assert "set-cookie" not in answer.headers
        production.wait_for(re.escape(MISUSES[case]))
        assert client.get("/").text == "GET ok"


@pytest.mark.parametrize("case", ["broken", "numbers"])
def test_stream_that_fails_is_cut_off(production, case):
    with production.client() as client, pytest.raises(httpx2.RemoteProtocolError):
        client.get(f"/{case}")
    production.wait_for("ValueError: in the middle" if case == "broken" else "must give bytes or text, not int")


def test_length_that_the_script_states_gives_way_to_the_bodys(production):
    with production.client() as client:
        answer = client.get("/length")
    assert (answer.text, answer.headers["content-length"]) == ("abc", "3")


HOST = b"Host: localhost\r\n"
CLOSE = HOST + b"Connection: close\r\n\r\n"
FRAMES = {
    "head": (b"HEAD / HTTP/1.1\r\n" + CLOSE, 200, b""),
    "204": (b"GET /204 HTTP/1.1\r\n" + CLOSE, 204, b""),
    "304": (b"GET /304 HTTP/1.1\r\n" + CLOSE, 304, b""),
    "head of 204": (b"HEAD /204 HTTP/1.1\r\n" + CLOSE, 204, b""),
    "http 1.0 without host": (b"GET / HTTP/1.0\r\n\r\n", 200, b"GET ok"),
    "garbage": (b"\x00\x01\x02garbage\r\n\r\n", 400, b"Bad Request: this is not an HTTP request"),
    "tls": (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", 400, b""),
    "unknown method": (b"BREW / HTTP/1.1\r\n" + CLOSE, 501, b"Not Implemented: method BREW"),
    "connect": (b"CONNECT a:1 HTTP/1.1\r\n" + CLOSE, 501, b"Not Implemented: method CONNECT"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, b"Bad Request: no Host header"),
    "two hosts": (b"GET / HTTP/1.1\r\n" + HOST + CLOSE, 400, b"Bad Request: more than one Host header"),
    "not a host": (b"GET / HTTP/1.1\r\nHost: a b/c\r\n\r\n", 400, b"Bad Request: the Host header is not a host"),
    "length and chunks": (
        b"POST /read HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n" + CLOSE + b"0\r\n\r\n",
        400,
        b"Bad Request: both Content-Length and Transfer-Encoding",
    ),
    "two lengths": (
        b"POST /read HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n" + CLOSE + b"ab",
        400,
        b"Bad Request: Duplicate Content-Length",
    ),
    "negative length": (
        b"POST /read HTTP/1.1\r\nContent-Length: -1\r\n" + CLOSE,
        400,
        b"Bad Request: Invalid character in Content-Length",
    ),
    "10 GB": (
        b"POST /read HTTP/1.1\r\nContent-Length: 10000000000\r\n" + CLOSE + b"abc",
        413,
        b"Payload Too Large: 10000000000 bytes, at most 104857600",
    ),
    "not a chunk": (
        b"POST /read HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + CLOSE + b"zz\r\n",
        400,
        b"Bad Request: Invalid character in chunk size",
    ),
    "unknown encoding": (
        b"POST /read HTTP/1.1\r\nTransfer-Encoding: gzip\r\n" + CLOSE,
        501,
        b"Not Implemented: transfer codings other than chunked",
    ),
    "long url": (
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + CLOSE,
        414,
        b"URI Too Long: at most 16384 bytes",
    ),
    "large headers": (
        b"GET / HTTP/1.1\r\n" + b"x-y: %s\r\n" % (b"v" * 200_000) + CLOSE,
        431,
        b"Request Header Fields Too Large: at most 131072 bytes",
    ),
    "many headers": (
        b"GET / HTTP/1.1\r\n" + b"x-y: v\r\n" * 100_000 + CLOSE,
        431,
        b"Request Header Fields Too Large: at most 131072 bytes",
    ),
    "NUL in a header": (
        b"GET / HTTP/1.1\r\nx-y: a\x00b\r\n" + CLOSE,
        400,
        b"Bad Request: Invalid header value char",
    ),
    "cut body": (
        b"POST /read HTTP/1.1\r\nContent-Length: 10\r\n" + HOST + b"\r\nabc",
        400,
        b"Bad Request: the body is shorter than it must be",
    ),
}


def connect(edge):
    client = socket.create_connection(("127.0.0.1", edge.port), timeout=PATIENCE_S)
    return closing(client)


@pytest.mark.parametrize("case", FRAMES)
def test_answers_to_odd_requests_are_framed_and_the_server_goes_on(production, case):
    request, status, body = FRAMES[case]
    with connect(production) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR) if case == "cut body" else None
        head, _, rest = read_to_end(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert rest == body
    if status in (204, 304):
        assert b"content-length" not in head
    with production.client() as client:
        assert client.get("/").text == "GET ok"


def read_to_end(client):
    data = b""
    try:
        while piece := client.recv(65536):
            data += piece
    except ConnectionResetError:
        pass  # it had not read all that was sent; its answer has arrived all the same
    return data


def test_body_without_length_is_cut_off_at_the_limit(production):
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with connect(production) as client:
        client.sendall(b"POST /read HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + CLOSE)
        try:
            for _ in range(1700):
                client.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was told, and sent on all the same
        answer = read_to_end(client)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"Payload Too Large: at most 104857600 bytes")
    production.wait_for("POST /read 413")


def test_client_that_leaves_cancels_its_request(production):
    with connect(production) as client:
        client.sendall(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n")
        with production.client() as other:
            assert other.get("/").text == "GET ok"
    production.wait_for("GET /wait canceled")
    with connect(production) as client:
        client.sendall(b"GET /endless HTTP/1.1\r\n" + HOST + b"\r\n")
        assert client.recv(100)
    production.wait_for("GET /endless canceled")


def test_500_connections_at_once_are_all_answered(production):
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(production)) for _ in range(500)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\n" + CLOSE)
        assert {read_to_end(client).partition(b"\r\n\r\n")[2] for client in clients} == {b"GET ok"}


def test_development_ends_with_every_kind_of_stuck_client_connected(tmp_path):
    config = HEADER + "kv_namespaces = [{binding = 'KV', id = 'kv'}]\n"
    folder = write_worker(tmp_path / "w", config, MISUSE)
    stuck = [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: loc",
        b"POST /read HTTP/1.1\r\nContent-Length: 10\r\n" + HOST + b"\r\nabc",
        b"GET /endless HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
    with EdgeProcess("dev", folder, "--port", 0, "--data", tmp_path / "data") as edge, ExitStack() as stack:
        edge.wait_ready()
        clients = [stack.enter_context(connect(edge)) for _ in stuck]
        for client, data in zip(clients, stuck, strict=True):
            client.sendall(data)
        assert clients[4].recv(10)
        assert clients[6].recv(10)
        family = edge.family()
        assert edge.interrupt() == 0
        eventually(lambda: not [pid for pid in family if running(pid)])
        assert no_frames_of_ours(edge.output)


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_trickled_request_is_served_and_disturbs_nobody(production):
    with connect(production) as slow, production.client() as other:
        for byte in b"GET /slow HTTP/1.1\r\n" + CLOSE:
            slow.sendall(bytes([byte]))
            assert other.get("/").text == "GET ok"
        assert read_to_end(slow).endswith(b"GET ok")


def test_output_that_nobody_reads_stops_nothing(tmp_path):
    """More log lines than a pipe holds, with the reader standing still."""
    folder = write_worker(tmp_path / "w", HEADER)
    command = [*EDGE, "run", folder, "--port", "0", "--data", tmp_path / "data", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True) as process:
        url = next(
            event["url"]
            for line in iter(process.stdout.readline, b"")
            if (event := json.loads(line))["type"] == "ready"
        )
        with plain_client(url) as client:
            for _ in range(600):
                assert client.get("/" + "x" * 500).text == "ok"
        process.terminate()
        drained = threading.Thread(target=process.stdout.read, daemon=True)
        assert process.wait(PATIENCE_S) == 0
        drained.start()
        drained.join()
