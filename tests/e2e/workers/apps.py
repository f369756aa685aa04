"""ASGI and WSGI apps written by hand, behind one worker."""

import asyncio
import json
from urllib.parse import urlsplit

import trio
from pyodide.ffi import run_sync
from workers import WorkerEntrypoint, asgi, env, wsgi

pause = trio.sleep if env.FLAVOUR == "trio" else asyncio.sleep


async def asgi_app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["started"] = True
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("asgi app shut down")
        await send({"type": "lifespan.shutdown.complete"})
        return
    message = await receive()
    told = {
        "method": scope["method"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "env": scope["env"].FLAVOUR,
        "state": scope["state"],
        "body": message["body"].decode(),
        "header": dict(scope["headers"]).get(b"x-sent", b"").decode(),
    }
    if scope["path"] == "/asgi/fail":
        raise ZeroDivisionError("raised in the ASGI app")
    if scope["path"] == "/asgi/silent":
        return
    headers = [(b"content-type", b"application/json"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    await send({"type": "http.response.start", "status": 207, "headers": headers})
    for piece in (b"[", json.dumps(told).encode(), b"]"):
        await pause(0.01)
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


def wsgi_app(environ, start_response):
    if environ["PATH_INFO"].endswith("/fail"):
        raise ZeroDivisionError("raised in the WSGI app")
    kv = environ["workers.env"].KV
    run_sync(kv.put("from wsgi", environ["REQUEST_METHOD"]))
    told = {
        "path": environ["PATH_INFO"],
        "query": environ["QUERY_STRING"],
        "length": environ.get("CONTENT_LENGTH"),
        "header": environ.get("HTTP_X_SENT"),
        "body": environ["wsgi.input"].read().decode(),
        "kept": run_sync(kv.get("from wsgi")),
    }
    start_response("203 Partly", [("Content-Type", "application/json"), ("X-App", "wsgi")])
    if environ["PATH_INFO"].endswith("/stream"):
        return (b"%d;" % number for number in range(3))
    return [json.dumps(told).encode()]


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if urlsplit(request.url).path.startswith("/asgi"):
            return await asgi.fetch(asgi_app, request, self.env, self.ctx)
        return await wsgi.fetch(wsgi_app, request, self.env)
