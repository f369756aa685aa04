"""`step.txn`: what its function does in the data directory happens once, wherever the process is killed."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio
from killed_store import KilledStore, outlived
from seam_fakes import CountingRandomness
from workflow_world import WORKER, WORKFLOW, World, open_world

from bindings.durable_objects.factory import ObjectFactory
from bindings.durable_objects.namespace import DurableObjectNamespace
from bindings.durable_objects.object_class import ObjectClass
from bindings.durable_objects.sockets import NamespaceSockets
from bindings.kv.namespace import KvNamespace
from bindings.workflows.access import WorkflowAccess
from bindings.workflows.namespace import WorkflowNamespace
from edge_runtime.actors.api import ActorKind
from edge_runtime.store import keys
from edge_runtime.store.api import Table
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.store.transaction import EventStore
from edge_runtime.workers.entrypoints import DurableObject, WorkflowEntrypoint
from edge_runtime.workers.websocket_recipient import SocketFlags
from edge_runtime.workflows.script.errors import WorkflowError

RETRY = {"retries": {"limit": 30, "delay": 1000, "backoff": "constant"}}


class Env:
    """The bindings of one process, as the isolate makes them."""

    kv: KvNamespace
    flows: WorkflowNamespace
    accounts: DurableObjectNamespace


class Account(DurableObject):
    async def deposit(self, amount: int) -> dict[str, int]:
        storage = self.ctx.storage
        deposits = (await storage.get("deposits") or 0) + 1
        await storage.put("deposits", deposits)
        await trio.sleep(0.01)
        balance = (await storage.get("balance") or 0) + amount
        await storage.put("balance", balance)
        return {"balance": balance, "deposits": deposits}

    async def flaky(self) -> str:
        calls = (await self.ctx.storage.get("calls") or 0) + 1
        await self.ctx.storage.put("calls", calls)
        if calls == 1:
            raise ValueError("not yet")
        return f"call {calls}"

    async def report(self) -> list[Any]:
        return [await self.ctx.storage.get("balance"), await self.ctx.storage.get("deposits")]


def connect(world: World, env: Env) -> None:
    store = EventStore(world.store)
    env.kv = KvNamespace("ns", store, world.clock)
    access = WorkflowAccess(
        WORKER, WORKFLOW, store=store, clock=world.clock, random=CountingRandomness(), actors=world.host
    )
    env.flows = WorkflowNamespace(access)
    env.accounts = DurableObjectNamespace(world.host, CountingRandomness(), WORKER, "Account")
    flags = SocketFlags(auto_reply=True)
    of = ObjectClass(Account, None, sqlite=True, delete_all_deletes_alarm=True, socket_flags=flags)
    factory = ObjectFactory(of, 1000, NamespaceSockets(world.host, world.clock))
    world.host.register(WORKER, ActorKind.OBJECT, "Account", factory)


def payment(env: Env, begun: list[str]) -> type[WorkflowEntrypoint]:
    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            if event.payload.get("child"):
                return (await step.wait_for_event("go", "go")).payload

            async def pay() -> Any:
                begun.append("pay")
                count = int(await env.kv.get("count") or 0)
                await env.kv.put("count", str(count + 1))
                assert await env.kv.get("count") == str(count + 1)
                account = env.accounts.getByName("a")
                first = await account.deposit(10)
                second = await account.deposit(5)
                child = await env.flows.create(id=f"child-{count}", params={"child": True})
                await child.send_event({"type": "go", "payload": second.balance})
                return [first.balance, second.balance, count]

            return await step.txn("pay", RETRY, pay)

    return Flow


async def outcome(world: World, env: Env) -> list[Any]:
    async def fetch() -> Any:
        return [await env.kv.get("count"), await env.accounts.getByName("a").report()]

    status = await world.settled()
    child = await world.settled("child-0")
    with world.store.snapshot() as snapshot:
        answers = len(list(snapshot.keys(Table.ANSWERS)))
        children = [key for key in snapshot.keys(Table.INSTANCES) if keys.decode(key)[0] == "r" and b"child" in key]
    return [status.status, status.output, child.output, *await world.handler(fetch), answers, len(children)]


EXPECTED = ["complete", [10, 15, 0], 15, "1", [15, 2], 0, 1]


async def test_transaction_takes_effect_with_its_result(autojump_clock: object) -> None:
    env, begun = Env(), []
    async with open_world(payment(env, begun)) as world:
        connect(world, env)
        await world.create(params={})
        assert await outcome(world, env) == EXPECTED
    assert begun == ["pay"]


async def live(store: KilledStore, env: Env, begun: list[str], random: CountingRandomness) -> list[Any] | None:
    async with open_world(payment(env, begun), store, random=random) as world:
        connect(world, env)
        found: list[Any] = []

        async def work() -> None:
            with suppress(WorkflowError):
                await world.create(params={})
            found.extend(await outcome(world, env))

        return found if await outlived(work, store) else None


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_effects_happen_once_when_killed_at_any_commit(autojump_clock: object, after: bool) -> None:
    again = 0
    for at in range(1, 100):
        env, begun, random = Env(), [], CountingRandomness()
        first = KilledStore(at, after=after)
        found = await live(first, env, begun, random)
        if found is None:
            found = await live(KilledStore(1_000_000, after=True, before_it=first), env, begun, random)
            again += len(begun) > 1
        else:
            assert at > 6
            assert again > 1, "no kill came between the calls and the result"
            return
        assert found == EXPECTED, f"killed at commit {at}"
    raise AssertionError("it never came to the end")


async def test_writes_of_an_attempt_that_fails_are_dropped(autojump_clock: object) -> None:
    env, seen = Env(), []

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            async def body(ctx: Any) -> None:
                seen.append(await env.kv.get("key"))
                await env.kv.put("key", f"attempt {ctx.attempt}")
                if ctx.attempt == 1:
                    raise OSError("busy")

            await step.txn("write", RETRY, body)

    async with open_world(Flow) as world:
        connect(world, env)
        await world.create()
        await world.settled()
        assert await world.handler(lambda: env.kv.get("key")) == "attempt 2"
    assert seen == [None, None]


async def test_call_of_an_object_that_failed_is_made_again(autojump_clock: object) -> None:
    env = Env()

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            return await step.txn("call", RETRY, lambda: env.accounts.getByName("a").flaky())

    async with open_world(Flow) as world:
        connect(world, env)
        await world.create()
        assert (await world.settled()).output == "call 2"


async def test_id_that_is_taken_is_told_inside_of_the_transaction(autojump_clock: object) -> None:
    env = Env()

    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            async def body() -> str:
                try:
                    await env.flows.create(id="one")
                except WorkflowError as error:
                    return error.code
                return "created"

            return await step.txn("create", body)

    async with open_world(Flow) as world:
        connect(world, env)
        await world.create()
        assert (await world.settled()).output == "instance.already_exists"


async def test_transaction_of_plain_store_is_read_like_one_that_is_committed() -> None:
    from random import Random

    from edge_runtime.store.api import Batch
    from edge_runtime.store.transaction import OverlaySnapshot, Transaction

    random = Random(4)
    for _ in range(200):
        base, model, transaction = MemoryStore(manual=True), MemoryStore(manual=True), Transaction(b"id")
        batches = [Batch() for _ in range(4)]
        for batch in batches:
            for _ in range(4):
                key = bytes([random.randrange(65, 75)])
                match random.randrange(4):
                    case 0 | 1:
                        batch.put(Table.KV, key, bytes([random.randrange(256)]))
                    case 2:
                        batch.delete(Table.KV, key)
                    case 3:
                        batch.delete_range(Table.KV, key, bytes([key[0] + 2]))
        base.commit(batches[0])
        base.commit_group()
        for batch in batches:
            model.commit(batch)
        model.commit_group()
        for batch in batches[1:]:
            transaction.stage(base, batch)
        with base.snapshot() as snapshot, model.snapshot() as wanted:
            view = OverlaySnapshot(snapshot, transaction.changes)
            for reverse in (False, True):
                for start, end in ((b"", None), (b"C", b"G")):
                    assert list(view.scan(Table.KV, start, end, reverse=reverse)) == list(
                        wanted.scan(Table.KV, start, end, reverse=reverse)
                    )
