"""`ctx.exports`: a script's own entrypoints as services, called from its events."""

from contextlib import asynccontextmanager

import pytest
import trio
from edge_process import PATIENCE_S
from script_event import open_event

from edge_runtime.event import EventContext, EventKind, Outcome
from edge_runtime.isolate.asyncio_flavour import open_asyncio_flavour
from edge_runtime.isolate.script.loopback import loopback_services
from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.limits import INVOCATION_DEPTH_MAX
from edge_runtime.testing.surroundings import RecordedEvents
from edge_runtime.workers import Response, WorkerEntrypoint
from edge_runtime.workers.context import ExecutionContext
from edge_runtime.workers.environment import Env
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.own_exports import own_exports


class Default(WorkerEntrypoint):
    pass


class Api(WorkerEntrypoint):
    made = 0

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        Api.made += 1

    async def add(self, first, second=0, options=None):
        return first + second + (options or {}).get("more", 0)

    def who(self):
        return dict(self.ctx.props)

    async def fail(self):
        raise ValueError("on purpose")

    async def deeper(self, count):
        try:
            return await self.ctx.exports.Api.deeper(count + 1)
        except JsException as error:
            return [count, str(error)]

    async def call(self, function):
        return await function(20) + 1

    async def _private(self):
        return "secret"

    async def fetch(self, request):
        if request.url.endswith("/wrong"):
            return "text"

        async def pieces():
            yield b"streamed "
            yield (await request.text()).encode()

        return Response(pieces(), status=201)


@pytest.fixture(params=["trio", "asyncio"])
async def worker(request):
    """An event of a worker whose `ctx.exports` are filled."""
    Api.made = 0
    async with open_worker(request.param) as opened:
        yield opened


@asynccontextmanager
async def open_worker(flavour_name):
    async with trio.open_nursery() as nursery, open_event(flavour_name) as event:
        events = RecordedEvents(nursery, event.flavour)
        own_exports._fill(loopback_services({"Default": Default, "Api": Api}, Env({"NAME": "n"}), events, nursery))
        try:
            with trio.fail_after(PATIENCE_S):
                yield event, events
        finally:
            own_exports._fill(None)


async def run(event, fn):
    return await event.run(lambda: fn(ExecutionContext(event).exports))


async def test_methods_are_called_on_an_instance_each(worker):
    event, events = worker

    async def script(exports):
        found = [await exports.Api.add(1, 2), await exports.Api.add(1, 2, more=4), await exports["Api"].who()]
        return [*found, await exports.Api(props={"user": "ann"}).who()]

    assert await run(event, script) == [3, 7, {}, {"user": "ann"}]
    assert Api.made == 4
    assert [(kind, name) for kind, name, *_ in events.ended] == [
        (EventKind.RPC, f"Api.{method}") for method in ("add", "add", "who", "who")
    ]


async def test_errors_arrive_as_over_rpc(worker):
    event, events = worker

    async def script(exports):
        with pytest.raises(ValueError, match="on purpose") as raised:
            await exports.Api.fail()
        assert raised.value.remote
        with pytest.raises(TypeError, match="Method missing does not exist"):
            await exports.Api.missing()
        with pytest.raises(AttributeError):
            exports.Api._private  # noqa: B018
        with pytest.raises(TypeError, match="Handler does not export a fetch"):
            await exports.default.fetch("http://x/")
        with pytest.raises(TypeError, match=r"Api.fetch\(\) returned str"):
            await exports.Api.fetch("http://x/wrong")
        with pytest.raises(TypeError, match="cannot be sent over RPC"):
            await exports.Api.add((1, 2))
        with pytest.raises(TypeError, match="takes props="):
            exports.Api(1)

    await run(event, script)
    assert events.ended[0][2] is Outcome.EXCEPTION


async def test_bodies_are_streamed_and_the_event_lasts_as_long(worker):
    event, events = worker

    async def script(exports):
        response = await exports.Api.fetch("http://x/", method="POST", body="up and down")
        assert events.ended == []
        return response.status, await response.text()

    assert await run(event, script) == (201, "streamed up and down")
    assert [name for _, name, *_ in events.ended] == ["Api.fetch"]


async def test_functions_go_by_reference(worker):
    event, _ = worker

    async def script(exports):
        return await exports.Api.call(lambda number: number * 2)

    assert await run(event, script) == 41


async def test_calls_of_itself_end_at_the_depth_of_cloudflare():
    async with open_worker("trio") as (event, _):
        count, error = await run(event, lambda exports: exports.Api.deeper(1))
    assert count == INVOCATION_DEPTH_MAX
    assert "Subrequest depth limit exceeded" in error


async def test_a_service_outlives_the_event_that_asked_for_it():
    async with open_worker("trio") as (event, _), trio.open_nursery() as nursery:
        kept = await run(event, lambda exports: exports.Api)
        await event.finish()
        later = EventContext(EventKind.FETCH, "Default.fetch", nursery, TrioFlavour())
        assert await later.run(lambda: kept.add(1)) == 1


async def test_unknown_names_and_early_dates_say_what_there_is():
    async with open_worker("trio") as (event, _):
        with pytest.raises(AttributeError, match=r"ctx\.exports has no 'Missing'.*: Api, Default"):
            await run(event, lambda exports: exports.Missing)
        assert list(own_exports) == ["Api", "Default"]
    with pytest.raises(AttributeError, match="from compatibility date 2025-11-17 on"):
        own_exports.Api  # noqa: B018
    async with open_asyncio_flavour():
        assert repr(own_exports) == "<exports >"
