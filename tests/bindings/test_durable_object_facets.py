"""Objects within an object: storage of their own, a life no longer than the parent's, limits and texts of workerd."""

import pytest
import trio
from durable_object_world import world
from edge_process import PATIENCE_S

from edge_runtime.errors import ActorBroken
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.workers import DurableObject, Response
from edge_runtime.workers.js_object import JsException

made = []


@pytest.fixture(autouse=True)
def _forget():
    made.clear()


class Inner(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        made.append(ctx.id if isinstance(ctx.id, str) else ctx.id.name)
        self.seen = 0

    async def add(self, amount=1):
        count = (await self.ctx.storage.get("count") or 0) + amount
        await self.ctx.storage.put("count", count)
        self.seen += 1
        return [count, self.seen]

    async def add_unawaited(self, amount):
        self.ctx.storage.put("count", amount, allowUnconfirmed=True)

    async def order(self, number):
        self.numbers = [*getattr(self, "numbers", []), number]
        return self.numbers

    async def fail(self):
        raise ValueError("within")

    async def set_alarm(self):
        await self.ctx.storage.setAlarm(1)

    async def alarm(self):
        made.append("alarm")

    async def deeper(self, levels):
        below = self.ctx.facets.get("below", lambda: {"class": Inner})
        return await (below.deeper(levels - 1) if levels > 1 else below.add())

    async def fetch(self, request):
        return Response("inner " + await request.text())


class Outer(DurableObject):
    def facet(self, name="a", **start):
        async def options():
            made.append(f"start {name}")
            return {"class": Inner, **start}

        return self.ctx.facets.get(name, options)

    async def add(self, name="a", amount=1):
        return await self.facet(name).add(amount)

    async def order(self):
        facet = self.facet()
        promises = [facet.order(number) for number in range(20)]
        return list([await promise for promise in promises][-1])

    async def named(self):
        return await self.facet("named", id="own-id").add()

    async def fetch(self, request):
        return await self.facet().fetch(request)

    async def call(self, method, *args):
        return await getattr(self.facet(), method)(*args)

    async def own(self):
        await self.ctx.storage.put("count", 100)
        return await self.ctx.storage.get("count")

    async def aborted(self):
        stub = self.facet()
        await stub.add()
        self.ctx.facets.abort("a", "told to")
        found = []
        try:
            await stub.add()
        except ActorBroken as error:
            found.append(str(error))
        return [*found, *await self.facet().add()]

    async def deleted(self):
        for name in ("a", "b"):
            await self.add(name, 5)
        await self.facet().deeper(1)
        self.ctx.facets.delete("a")
        below = await self.facet().deeper(1)
        return [list(below), list(await self.add("a")), list(await self.add("b"))]

    async def clone(self, src, dst):
        self.ctx.facets.clone(src, dst)

    async def cloned(self):
        """What the copy has of what `a` wrote just before, without having given up control."""
        await self.add("b", 50)
        stub, replaced = self.facet(), self.facet("b")
        await self.facet().deeper(1)
        pending = stub.add_unawaited(7)
        await pending
        self.ctx.facets.clone("a", "b")
        found = []
        try:
            await replaced.add()
        except ActorBroken as error:
            found.append(str(error))
        copy = self.facet("b")
        found += [await copy.add(0), await copy.deeper(1)]
        return [*found, await stub.add(0), await self.facet("b").add(1), await stub.add(0)]

    async def delete_everything(self):
        await self.add("a", 5)
        await self.ctx.storage.deleteAll()
        return await self.add("a")

    async def initialized(self):
        async def within():
            return await self.facet().add()

        return await self.ctx.blockConcurrencyWhile(within)

    async def misuse(self):
        found = []
        for use in (
            lambda: self.ctx.facets.get("x" * 257, lambda: None),
            lambda: self.ctx.facets.get(5, lambda: None),
            lambda: self.ctx.facets.get("x", None),
            lambda: self.ctx.facets.clone("a", "x" * 257),
            lambda: self.env["Outer"].getByName("other").call("add", self.facet()),
            lambda: self.facet().alarm(),
            lambda: self.ctx.facets.get("none", lambda: None).add(),
            lambda: self.ctx.facets.get("int", lambda: {"class": int}).add(),
        ):
            try:
                found.append(await use())
            except Exception as error:
                found.append(str(error))
        return found

    async def reset(self):
        self.ctx.abort("reset")


async def call(w, method, *args, of="o"):
    result = await w.call(of, method, *args, of="Outer")
    return list(result) if isinstance(result, list) else result


async def test_a_facet_has_a_storage_and_a_life_of_its_own():
    async with world(Outer, Inner) as w:
        assert await call(w, "own") == 100
        assert await call(w, "add") == [1, 1]
        assert await call(w, "add") == [2, 2]
        assert await call(w, "add", "b", 10) == [10, 1]
        assert await call(w, "add", "a", of="other") == [1, 1]
        assert await call(w, "own") == 100
        assert made == ["start a", "o", "start b", "o", "start a", "other"]
        assert await call(w, "named") == [1, 1]
        assert made[-1] == "own-id"


async def test_calls_keep_their_order_from_the_first_on():
    async with world(Outer, Inner) as w:
        assert await call(w, "order") == list(range(20))


async def test_requests_and_errors_pass():
    async with world(Outer, Inner) as w:

        async def script():
            stub = w.ns["Outer"].getByName("o")
            response = await stub.fetch("http://x/", method="POST", body="body")
            return await response.text()

        assert await w.run(script) == "inner body"
        with pytest.raises(ValueError, match="within"):
            await call(w, "call", "fail")
        with pytest.raises(TypeError, match="Method missing does not exist"):
            await call(w, "call", "missing")


async def test_what_is_stored_survives_the_facet_and_its_parent(autojump_clock):
    store = MemoryStore()
    async with world(Outer, Inner, store=store, idle_ms=1000) as w:
        assert await call(w, "add") == [1, 1]
        await trio.sleep(10)
        assert not w.host._activations
        assert await call(w, "add") == [2, 1]
        with pytest.raises(ActorBroken, match="reset"):
            await call(w, "reset")
        assert await call(w, "add") == [3, 1]
    async with world(Outer, Inner, store=store) as w:
        assert await call(w, "add") == [4, 1]


async def test_an_aborted_facet_begins_anew_for_new_stubs():
    async with world(Outer, Inner) as w:
        assert await call(w, "aborted") == ["told to", 2, 1]


async def test_a_deleted_facet_takes_those_within_it_along():
    async with world(Outer, Inner) as w:
        assert await call(w, "deleted") == [[1, 1], [1, 1], [6, 2]]


async def test_a_clone_has_what_the_other_had_and_goes_on_by_itself(autojump_clock):
    store = MemoryStore()
    async with world(Outer, Inner, store=store) as w:
        over, copied, below, kept, own, still = await call(w, "cloned")
        assert over == "Facet was cloned-over."
        assert (list(copied), list(below)) == ([7, 1], [2, 1])  # what is within it was copied too
        assert [list(each) for each in (kept, own, still)] == [[7, 1], [8, 2], [7, 2]]
        await call(w, "clone", "b", "b")
        assert await call(w, "add", "b") == [9, 1]  # aborted, and as it was
        await call(w, "clone", "never", "b")
        assert await call(w, "add", "b") == [1, 1]
    async with world(Outer, Inner, store=store) as w:
        assert await call(w, "add", "a") == [8, 1]


async def test_delete_all_takes_the_facets_along():
    async with world(Outer, Inner) as w:
        assert await call(w, "delete_everything") == [1, 1]


async def test_facets_go_at_most_three_levels_deep():
    async with world(Outer, Inner) as w:
        assert await call(w, "call", "deeper", 2) == [1, 1]
        with pytest.raises(JsException, match="The maximum depth including the root Durable Object is 4") as refused:
            await call(w, "call", "deeper", 3)
        assert "Facet nesting depth limit exceeded." in str(refused.value)


async def test_a_facet_can_be_called_while_its_parent_holds_other_events_back():
    async with world(Outer, Inner) as w:
        with trio.fail_after(PATIENCE_S):
            assert await call(w, "initialized") == [1, 1]


async def test_facets_set_no_alarms_and_refuse_misuse_in_workerds_words():
    async with world(Outer, Inner) as w:
        with pytest.raises(JsException, match=r"Facets currently cannot set alarms\."):
            await call(w, "call", "set_alarm")
        found = await call(w, "misuse")
    assert found[0] == "Facet name is too long (max 256 characters)."
    assert "the name of a facet is a string, not int" in found[1]
    assert "takes a name and a function, not NoneType" in found[2]
    assert found[3] == "Facet name is too long (max 256 characters)."
    assert "Stubs pointing to Durable Object facets are not serializable." in found[4]
    assert found[5] == "'alarm' is a reserved method and cannot be called over RPC."
    assert "found None" in found[6]
    assert "a Durable Object class of this script" in found[7]
