"""Every kind of body in both directions, and what scripts do with requests and responses."""

import asyncio
import json
from http import HTTPStatus
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, unquote, urlsplit

import js
import trio
from pyodide.ffi import to_js
from workers import Blob, File, FormData, Request, Response, WorkerEntrypoint, env

pause = trio.sleep if env.FLAVOUR == "trio" else asyncio.sleep
seen_pieces = []


async def generated():
    for number in range(5):
        yield f"piece {number}\n"
        await pause(0.01)


async def endless():
    while True:
        yield b"x" * 65536
        await pause(0)


async def broken():
    yield b"begun"
    await pause(0.01)
    raise RuntimeError("the body broke off")


def transformed(source):
    async def transform(piece, controller):
        await pause(0)
        controller.enqueue(bytes(piece).upper())

    return source.pipeThrough(js.TransformStream.new({"transform": transform}))


def pushed():
    def start(controller):
        controller.enqueue(b"one ")
        controller.enqueue(js.Uint8Array.new([116, 119, 111]))
        controller.close()

    return js.ReadableStream.new({"start": start})


async def echo_kind(request, kind):
    match kind:
        case "text":
            return Response(await request.text())
        case "json":
            return Response.json(await request.json())
        case "bytes":
            return Response(await request.bytes())
        case "buffer":
            return Response(await request.buffer())
        case "blob":
            blob = await request.blob()
            return Response(blob, headers={"x-size": blob.size})
        case "stream":
            return Response(request.body, headers={"content-type": "application/x-echo"})
        case "pieces":
            size = 0
            async for piece in request.body:
                size += len(piece)
            return Response(str(size))
        case "reader":
            reader, size = request.body.getReader(), 0
            while not (result := await reader.read()).done:
                size += result.value.byteLength
            return Response(str(size))
        case "upper":
            return Response(transformed(request.body))


def body_of(kind):
    match kind:
        case "none":
            return Response(None)
        case "empty":
            return Response("")
        case "text":
            return Response("grüße")
        case "bytes":
            return Response(b"\x00\xff")
        case "array":
            return Response(to_js(b"\x01\x02"))
        case "array_buffer":
            return Response(to_js(b"\x03\x04").buffer)
        case "blob":
            return Response(Blob(["a", b"b"], content_type="text/x-blob"))
        case "form":
            return Response(FormData({"a": "1"}))
        case "search":
            return Response(js.URLSearchParams.new({"q": "a b"}))
        case "generator":
            return Response(generated())
        case "pushed":
            return Response(pushed())
        case "transformed":
            return Response(transformed(js.ReadableStream.new({"start": start_text})))
        case "fixed":
            return Response("12345", headers={"content-length": "99"})
        case "js":
            return js.Response.new("from js", status=201, headers={"x-js": "1"})
        case "js_wrapped":
            return Response(js.Response.new("wrapped", status=202))
        case "broken":
            return Response(broken())
        case "endless":
            return Response(endless())


def start_text(controller):
    controller.enqueue(b"shout")
    controller.close()


async def form(request):
    data = await request.form_data()
    found = []
    for name, value in data.items():
        if isinstance(value, File):
            content = (await value.bytes()).decode("latin-1")
            found.append([name, value.name, value.content_type, content])
        else:
            found.append([name, value])
    answer = FormData({"first": str(found[0][1])})
    answer.append("file", File(["made here"], "made.txt", content_type="text/plain"), filename="given.txt")
    if "multipart" in request.headers.get("accept", ""):
        return Response(answer)
    return Response.json(found)


async def wrong(what):
    attempts = {
        "tuple": lambda: Response(("a",)),
        "dict": lambda: Response({"a": 1}),
        "status": lambda: Response("", status=99),
        "null_body": lambda: Response("x", status=204),
        "redirect_status": lambda: Response.redirect("https://example.com/", 200),
        "headers": lambda: Response("", headers=3),
        "js_and_status": lambda: Response(js.Response.new(""), status=201),
        "not_json": lambda: Response.json({1, 2}),
        "unknown": lambda: js.nothing_like_this,
    }
    try:
        attempts[what]()
    except Exception as error:
        return Response.json([type(error).__name__, str(error)])
    return Response.json(None)


async def clones(request):
    copy = request.clone()
    texts = [await request.text(), await copy.text()]
    try:
        await request.text()
    except OSError as error:
        texts.append(str(error))
    response = Response("again")
    second = response.clone()
    texts += [await response.text(), await second.text(), repr(Response.json({}))]
    return Response.json(texts)


def describe(request):
    headers = request.headers
    return Response.json(
        {
            "method": request.method,
            "url": request.url,
            "path": unquote(urlsplit(request.url).path),
            "query": parse_qs(urlsplit(request.url).query),
            "accept": headers.get("ACCEPT"),
            "all": headers.get_all("x-many"),
            "cookies": {name: morsel.value for name, morsel in SimpleCookie(headers.get("cookie", "")).items()},
            "has_body": request.body is not None,
            "js": [request.js_object.method, request.js_object.headers.get("x-many"), request.js_object.url],
        }
    )


def head(what):
    match what:
        case "redirect":
            return Response.redirect("https://example.com/a b", 307)
        case "no_content":
            return Response(None, status=HTTPStatus.NO_CONTENT)
        case "not_modified":
            return Response(None, status=304, headers={"etag": '"1"'})
        case "cookies":
            return Response(
                "", headers=[("set-cookie", "a=1; Path=/"), ("set-cookie", "b=2"), ("x-a", "1"), ("x-a", "2")]
            )
        case "values":
            return Response("", headers={"x-true": True, "x-int": 3, "X-Case": "kept"})
        case "teapot":
            return Response("short and stout", status=418, status_text="I'm a teapot")
        case "json":
            return Response.from_json(
                {"a": [1, None]}, status=201, headers={"content-type": "application/problem+json"}
            )
        case "replaced":
            return Response.json({"old": 1}, status=202, headers={"x-kept": "1"}).replace_body("new")
        case "late":
            return Response(json.dumps(seen_pieces))


async def made(request):
    own = Request("https://test.com", method="POST", headers={"a": "b"}, body="payload")
    copy = Request(own, headers={"c": "d"})
    return Response.json([own.url, repr(own), copy.method, copy.headers.get("c"), await copy.text()])


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        action, _, what = urlsplit(request.url).path.strip("/").partition("/")
        match action:
            case "echo":
                return await echo_kind(request, what)
            case "body":
                return body_of(what)
            case "form":
                return await form(request)
            case "wrong":
                return await wrong(what)
            case "clones":
                return await clones(request)
            case "head":
                return head(what)
            case "made":
                return await made(request)
        return describe(request)
