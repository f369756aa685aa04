"""KV in every form; each function is answered as JSON."""

import asyncio
import json
import time
from urllib.parse import urlsplit

import js
import trio
from pyodide.ffi import to_js
from workers import Response, WorkerEntrypoint, env

pause = trio.sleep if env.FLAVOUR == "trio" else asyncio.sleep


async def refused(call):
    """[class, message] of the error of a call."""
    try:
        await call()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return None


async def pieces():
    yield b"one "
    await pause(0.001)
    yield "two"


async def kinds(kv):
    await kv.put("text", "grüße")
    await kv.put("json", json.dumps({"a": [1, {"b": None}]}))
    await kv.put("bytes", b"\x00\xff")
    await kv.put("array", to_js(bytearray(b"\x01")))
    await kv.put("stream", js.ReadableStream.new({"start": start}))
    await kv.put("empty", "")
    stream = await kv.get("text", "stream")
    found = await kv.get("json", type="json")
    buffer = await kv.get("bytes", "arrayBuffer")
    return {
        "text": await kv.get("text"),
        "json": [found, found.a[1].b, found["a"][0]],
        "buffer": [type(buffer).__name__, list(bytes(buffer))],
        "array": list(bytes(await kv.get("array", {"type": "arrayBuffer"}))),
        "stream": b"".join([bytes(piece) async for piece in stream]).decode(),
        "streamed": await kv.get("stream"),
        "empty": await kv.get("empty"),
        "missing": [await kv.get("missing"), await kv.get("missing", "json"), await kv.get("text", None)],
        "bulk": await kv.get(["text", "missing", "empty"]),
        "bulk json": await kv.get(["json"], "json"),
        "deleted": [await kv.delete("text"), await kv.delete("text"), await kv.get("text")],
    }


def start(controller):
    controller.enqueue(b"one ")
    controller.enqueue(b"two")
    controller.close()


async def metadata(kv):
    later = int(time.time()) + 1000
    await kv.put("with", "v", metadata={"tag": [1]}, expirationTtl=3600)
    await kv.put("until", "v", {"expiration": later, "metadata": "text"})
    await kv.put("both", "v", {"expiration": later, "expirationTtl": 60})
    await kv.put("plain", "v", None)
    one = await kv.getWithMetadata("with")
    listed = {key.name: key for key in (await kv.list()).get("keys")}
    return {
        "one": [one.value, one.metadata.tag[0], one["metadata"]],
        "plain": await kv.getWithMetadata("plain"),
        "missing": await kv.getWithMetadata("missing", "json"),
        "bulk": {
            name: pair["metadata"] for name, pair in (await kv.getWithMetadata(["with", "until", "none"])).items()
        },
        "listed": {name: [sorted(key), key.get("metadata")] for name, key in listed.items()},
        "expiration": [
            listed["until"].expiration == later,
            abs(listed["with"].expiration - time.time() - 3600) < 10,
            abs(listed["both"].expiration - time.time() - 60) < 10,
        ],
    }


async def errors(kv):
    now = int(time.time())
    return {
        "ttl": await refused(lambda: kv.put("k", "v", expirationTtl=59)),
        "ttl_zero": await refused(lambda: kv.put("k", "v", expirationTtl=0)),
        "past": await refused(lambda: kv.put("k", "v", expiration=now - 1)),
        "soon": await refused(lambda: kv.put("k", "v", expiration=now + 30)),
        "metadata": await refused(lambda: kv.put("k", "v", metadata="x" * 2000)),
        "empty": await refused(lambda: kv.get("")),
        "dot": await refused(lambda: kv.get(".")),
        "long": await refused(lambda: kv.put("é" * 257, "v")),
        "large": await refused(lambda: kv.put("k", b"x" * (25 * 1024 * 1024 + 1))),
        "dict": await refused(lambda: kv.put("k", {"a": 1})),
        "number": await refused(lambda: kv.put("k", 3)),
        "cache": await refused(lambda: kv.get("k", cacheTtl=10)),
        "limit": await refused(lambda: kv.list(limit=1001)),
        "limit_zero": await refused(lambda: kv.list(limit=0)),
        "many": await refused(lambda: kv.get([str(number) for number in range(101)])),
        "bulk_type": await refused(lambda: kv.get(["a"], "stream")),
        "not_json": await refused(lambda: bad_json(kv)),
        "iterated": await refused(lambda: iterate(kv)),
        "kept_out": await kv.get("k"),
    }


async def bad_json(kv):
    await kv.put("bad", "{")
    return await kv.get("bad", "json")


async def iterate(kv):
    return list(kv)


async def pages(kv):
    names = [f"p:{number:03}" for number in range(25)] + ["q:é", "q:z"]
    for name in names:
        kv.put(name, name)
    await kv.put("last", "")
    found, cursors, cursor = [], 0, None
    while True:
        page = await kv.list(prefix="p:", limit=10, cursor=cursor)
        found += [key.name for key in page["keys"]]
        if page.list_complete:
            break
        cursor = page["cursor"]
        cursors += 1
    return {
        "found": found == names[:25],
        "cursors": cursors,
        "last": sorted(page),
        "order": [key["name"] for key in (await kv.list({"prefix": "q:"})).get("keys")],
        "none": await kv.list(prefix="none"),
        "bad_cursor": await refused(lambda: kv.list(cursor="nonsense")),
    }


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        name = urlsplit(request.url).path.strip("/")
        return Response.json(await globals()[name](getattr(self.env, name.upper())))
