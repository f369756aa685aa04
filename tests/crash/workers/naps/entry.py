"""Workflows that sleep and objects that set alarms; both note what they do in a file outside of the store, too.

POST /naps/ID?ms=N starts a workflow of two steps with N ms of sleep between. POST /bells/NAME?ms=N sets an alarm in N
ms, whose handler with &held=1 does not end until there is a file "let go" beside the witness. GET /bells/NAME lists
when it fired. GET /pid gives the isolate's process.
"""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import trio
from workers import DurableObject, Response, WorkerEntrypoint, WorkflowEntrypoint


def note(env, **what):
    """Append a line to the witness, whole or not at all."""
    line = json.dumps({**what, "at_ms": time.time() * 1000})
    descriptor = os.open(env.WITNESS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode() + b"\n")
    finally:
        os.close(descriptor)


class Nap(WorkflowEntrypoint):
    async def run(self, event, step):
        given = event["payload"]

        async def work(name):
            note(self.env, id=given["id"], step=name)
            return f"{name} {given['id']}"

        before = await step.do("before", lambda: work("before"))
        if given["ms"]:
            await step.sleep("nap", given["ms"])
        return [before, await step.do("after", lambda: work("after"))]


class Bell(DurableObject):
    async def ring_in(self, ms, held):
        due = datetime.now(UTC) + timedelta(milliseconds=ms)
        await self.ctx.storage.put("held", held)
        await self.ctx.storage.setAlarm(due)
        return due.timestamp() * 1000

    async def alarm(self):
        note(self.env, bell=str(self.ctx.id), event="begins")
        if await self.ctx.storage.get("held"):
            while not Path(self.env.WITNESS).with_name("let go").exists():
                await trio.sleep(0.01)
        fired = await self.ctx.storage.get("fired") or []
        await self.ctx.storage.put("fired", [*fired, datetime.now(UTC).timestamp() * 1000])

    async def fired(self):
        return await self.ctx.storage.get("fired") or []


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        url = urlparse(request.url)
        kind, _, name = url.path.strip("/").partition("/")
        options = {key: int(values[0]) for key, values in parse_qs(url.query).items()}
        if kind == "pid":
            return Response(str(os.getpid()))
        if kind == "naps" and request.method == "POST":
            await self.env.NAPS.create(id=name, params={"id": name, "ms": options["ms"]})
            return Response(None, status=202)
        bell = self.env.BELLS.getByName(name)
        if request.method == "POST":
            return Response.json(await bell.ring_in(options["ms"], options.get("held", 0)), status=202)
        return Response.json(await bell.fired())
