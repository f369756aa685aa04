"""What Cloudflare's Python examples do, in scripts of our own with the examples' dates and flags."""

import json
import struct
import zlib

import pytest
from edge_process import EdgeProcess, eventually
from script_workers import OLD_DATE, client_of, edge_command, served, write_worker

EXAMPLE = {"compatibility_date": OLD_DATE, "compatibility_flags": ["python_workers"]}
TEXT = "text/plain;charset=UTF-8"
PYPROJECT = """
[project]
name = "example"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = {dependencies}

[dependency-groups]
dev = ["workers-py", "workers-runtime-sdk"]
"""

HELLO = """
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response("Hello from a test!")
"""

BINDING = """
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        await self.env.STORE.put("key", "kept")
        return Response(await self.env.STORE.get("key"))
"""

ASSETS = """
from workers import WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return await self.env.ASSETS.fetch(request)
"""

ROOMS = """
from urllib.parse import urlparse
from pyodide.ffi import to_js
from workers import DurableObject, Response, WorkerEntrypoint

class Room(DurableObject):
    async def read(self):
        return await self.ctx.storage.get("lines") or []

    async def write(self, line):
        lines = await self.read()
        lines.append(line)
        await self.ctx.storage.put("lines", to_js(lines))
        return

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        _, room, *line = urlparse(request.url).path.split("/")
        stub = self.env.ROOMS.get(self.env.ROOMS.idFromName(room))
        if line:
            assert await stub.write(line[0]) is None
        return Response("; ".join(await stub.read()) or "empty")
"""

CRON = """
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def scheduled(self, controller, env, ctx):
        print("fired", controller.cron, controller.scheduledTime, env is self.env)

    async def fetch(self):
        return Response("Served without a request argument")
"""

FLOW = """
import asyncio
from urllib.parse import urlparse
from workers import Response, WorkerEntrypoint, WorkflowEntrypoint

class Graph(WorkflowEntrypoint):
    async def run(self, event, step):
        @step.do("one")
        async def one():
            print("step one of", event.instanceId)
            await asyncio.sleep(0.05)

        @step.do("two")
        async def two():
            print("step two of", event.instanceId)
            await asyncio.sleep(0.1)

        @step.do("three", depends=[one, two], concurrent=True)
        async def three(res1=None, res2=None):
            print("step three of", event.instanceId)

        await three()

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        url = urlparse(request.url)
        if url.path == "/start":
            return Response((await self.env.GRAPH.create()).id)
        instance = await self.env.GRAPH.get(url.path.split("/")[-1])
        return Response.json(await instance.status())
"""

FASTAPI = """
import jinja2
from fastapi import FastAPI, Request
from workers import WorkerEntrypoint, asgi

template = jinja2.Environment().from_string("Good day, {{ name }}!")
app = FastAPI()

@app.get("/")
async def root():
    return {"message": "up"}

@app.get("/name/{name}")
def name(name: str):
    return {"message": template.render(name=name)}

@app.get("/env")
async def env(request: Request):
    return {"message": request.scope["env"].MESSAGE}

@app.get("/depends")
async def depends(env=asgi.env):
    return {"message": env.MESSAGE}

@app.post("/echo")
async def echo(item: dict):
    return item

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        import asgi

        return await asgi.fetch(app, request.js_object, self.env)
"""


def png():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


FILES = {
    "index.html": (b"<title>start</title>", "text/html; charset=utf-8"),
    "page.svg": (b"<svg/>", "image/svg+xml"),
    "style.css": (b"p {}", "text/css; charset=utf-8"),
    "code.js": (b"1", "text/javascript; charset=utf-8"),
    "icon.ico": (b"\0", "image/vnd.microsoft.icon"),
    "photo.jpg": (b"\xff\xd8", "image/jpeg"),
    "dot.png": (png(), "image/png"),
    "data.json": (b"{}", "application/json"),
    "code.wasm": (b"\0asm", "application/wasm"),
    "font.woff2": (b"wOF2", "font/woff2"),
    "notes.txt": ("grüße".encode(), "text/plain; charset=utf-8"),
}


@pytest.fixture(scope="module")
def edge(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("workers")
    no_packages = {"pyproject.toml": PYPROJECT.format(dependencies=[])}
    write_worker(root / "hello", HELLO, no_packages, **EXAMPLE)
    store = [{"binding": "STORE", "id": "<YOUR_KV_NAMESPACE_ID>"}]
    write_worker(root / "binding", BINDING, no_packages, kv_namespaces=store, **EXAMPLE)
    assets = {f"assets/{name}": content for name, (content, _) in FILES.items()}
    write_worker(root / "assets", ASSETS, assets, assets={"directory": "./assets/", "binding": "ASSETS"}, **EXAMPLE)
    write_worker(
        root / "rooms",
        ROOMS,
        durable_objects={"bindings": [{"name": "ROOMS", "class_name": "Room"}]},
        migrations=[{"tag": "v1", "new_sqlite_classes": ["Room"]}],
        **EXAMPLE,
    )
    write_worker(root / "cron", CRON, triggers={"crons": ["0 0 1 1 *"]}, **EXAMPLE)
    graph = [{"name": "graph", "binding": "GRAPH", "class_name": "Graph"}]
    write_worker(root / "flow", FLOW, workflows=graph, **EXAMPLE)
    with served(root, data) as edge:
        yield edge


def get(edge, worker, path="/"):
    with client_of(edge, worker) as client:
        answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return answer


def test_hello(edge):
    answer = get(edge, "hello")
    assert (answer.text, answer.headers["content-type"]) == ("Hello from a test!", TEXT)


def test_kv_binding_with_a_placeholder_id(edge):
    answer = get(edge, "binding")
    assert (answer.text, answer.headers["content-type"]) == ("kept", TEXT)


def test_assets_of_each_type(edge):
    for name, (content, content_type) in FILES.items():
        answer = get(edge, "assets", "/" if name == "index.html" else f"/{name}")
        assert (answer.content, answer.headers["content-type"]) == (content, content_type)
    with client_of(edge, "assets") as client:
        assert client.get("/missing").status_code == 404
        assert client.get("/index.html", follow_redirects=False).headers["location"] == "/"
        etag = client.get("/style.css").headers["etag"]
        assert client.get("/style.css", headers={"if-none-match": etag}).status_code == 304
        assert client.head("/style.css").content == b""


def test_objects_keep_lists(edge):
    assert get(edge, "rooms", "/a").text == "empty"
    assert get(edge, "rooms", "/a/one").text == "one"
    assert get(edge, "rooms", "/a/two").text == "one; two"
    assert get(edge, "rooms", "/b").text == "empty"


def test_cron_worker_whose_fetch_takes_no_request(edge, data):
    answer = get(edge, "cron")
    assert (answer.text, answer.headers["content-type"]) == ("Served without a request argument", TEXT)
    edge_command("workers", "run-scheduled", "cron", "0 0 1 1 *", "--time", 1_800_000_000_000, "--data", data)
    edge.wait_for(r"fired 0 0 1 1 \* 1800000000000 True")


def test_workflow_of_three_steps(edge):
    id = get(edge, "flow", "/start").text
    first = get(edge, "flow", f"/status/{id}").json()
    assert first["status"] in ("queued", "running", "waiting", "complete")
    found = eventually(lambda: (now := get(edge, "flow", f"/status/{id}").json())["status"] == "complete" and now)
    assert found == {"status": "complete", "output": None, "error": None}
    edge.wait_for(f"step three of {id}")
    ran = [line.partition("step ")[2].split()[0] for line in edge.lines if line.endswith(f" of {id}")]
    assert (sorted(ran[:2]), ran[2:]) == (["one", "two"], ["three"])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fastapi_and_jinja2_are_installed_from_the_workers_pyproject(tmp_path):
    dependencies = json.dumps(["fastapi", "jinja2"])
    files = {"pyproject.toml": PYPROJECT.format(dependencies=dependencies)}
    folder = write_worker(tmp_path / "fastapi", FASTAPI, files, vars={"MESSAGE": "from vars"}, **EXAMPLE)
    data = tmp_path / "data"
    arguments = ("dev", folder, "--port", 0, "--data", data, "--no-reload")
    with EdgeProcess(*arguments).wait_ready(240) as edge, edge.client() as client:
        told = edge.wait_for("(?i)install.*fastapi.*jinja2")[0]
        assert str(data / "packages") in edge.output, told
        answers = {path: client.get(path).text for path in ("/", "/name/Ada", "/env", "/depends")}
        assert answers == {
            "/": '{"message":"up"}',
            "/name/Ada": '{"message":"Good day, Ada!"}',
            "/env": '{"message":"from vars"}',
            "/depends": '{"message":"from vars"}',
        }
        echoed = client.post("/echo", json={"a": [1]})
        assert (echoed.json(), echoed.headers["content-type"]) == ({"a": [1]}, "application/json")
        assert client.get("/nowhere").status_code == 404
        assert client.post("/echo", content=b"[").status_code == 422
        assert client.get("/docs").headers["content-type"] == "text/html; charset=utf-8"
    with EdgeProcess(*arguments).wait_ready() as edge, edge.client() as client:
        assert client.get("/").text == answers["/"]
        assert "nstalling" not in edge.output
