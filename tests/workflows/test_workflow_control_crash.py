"""Kill before and after every commit around each command: an acknowledged command is carried out, and nothing that was
recorded is done again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from killed_store import KilledStore, outlived
from seam_fakes import CountingRandomness
from workflow_world import WORKER, WORKFLOW, World, open_world

from edge_runtime.errors import ActorBroken, StoreFailed
from edge_runtime.store.api import Table
from edge_runtime.workers.entrypoints import WorkflowEntrypoint
from edge_runtime.workflows.core import journal
from edge_runtime.workflows.script.errors import WorkflowError
from edge_runtime.workflows.stored import blocks, instances

RETRY = {"retries": {"limit": 30, "delay": 1000, "backoff": "constant"}}
Act = Callable[[World], Awaitable[None]]


class Witness:
    """A log outside of the store: which bodies and handlers have ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []


def order_flow(witness: Witness, *, fails: bool) -> type[WorkflowEntrypoint]:
    class Flow(WorkflowEntrypoint):
        async def run(self, event: Any, step: Any) -> Any:
            def body(name: str) -> dict[str, Any]:
                async def run() -> str:
                    await trio.sleep(0.5)
                    witness.ended.append(name)
                    return name

                return {"fn": run}

            def undo(name: str) -> dict[str, Any]:
                async def run() -> None:
                    await trio.sleep(0.5)
                    witness.ended.append(f"undo {name}")

                return {"rollback": run, "rollbackConfig": RETRY}

            pair = [step.do(name, RETRY, body(name)["fn"], undo(name)) for name in ("a", "b")]
            done = [await promise for promise in pair]
            if fails:
                raise ValueError("boom")
            await step.sleep("nap", "1 hour")
            done.append(await step.do("c", RETRY, body("c")["fn"], undo("c")))
            return done

    return Flow


def created() -> Act:
    async def act(world: World) -> None:
        with suppress(WorkflowError):
            await world.create()

    return act


def command(name: str, *args: Any, done: str = "") -> Act:
    """Give a command; `done` is the error that says it has been carried out already."""

    async def act(world: World) -> None:
        async def fetch() -> None:
            try:
                await getattr(await world.namespace.get("one"), name)(*args)
            except WorkflowError as error:
                if error.code != done:
                    raise

        await world.handler(fetch)

    return act


def reaches(*statuses: str) -> Act:
    async def act(world: World) -> None:
        await world.settled("one", *statuses)

    return act


def naps() -> Act:
    """Not merely waiting: an attempt that a kill has cut short waits, too."""

    async def act(world: World) -> None:
        while [item.name for item in (await world.settled("one", "waiting")).waitingFor] != ["nap-1"]:
            await trio.sleep(1)

    return act


def gone() -> Act:
    async def act(world: World) -> None:
        while True:
            try:
                await world.status()
            except WorkflowError:
                return
            await trio.sleep(1)

    return act


def passes(seconds: float) -> Act:
    async def act(world: World) -> None:
        await trio.sleep(seconds)

    return act


ALL = ["a", "b", "c"]
SCENARIOS: dict[str, tuple[list[Act], str, list[str]]] = {
    "pause and resume": (
        [created(), command("pause"), reaches("paused"), command("resume"), reaches("complete")],
        "complete",
        ALL,
    ),
    "pause a sleep": (
        [created(), naps(), command("pause"), reaches("paused"), command("resume"), reaches("complete")],
        "complete",
        ALL,
    ),
    "terminate": (
        [created(), naps(), command("terminate", done="instance.cannot_terminate"), reaches("terminated")],
        "terminated",
        ["a", "b"],
    ),
    "terminate with rollback": (
        [
            created(),
            naps(),
            command("terminate", {"rollback": True}, done="instance.cannot_terminate"),
            reaches("terminated"),
        ],
        "terminated",
        ["a", "b", "undo b", "undo a"],
    ),
    "restart from a step": (
        [
            created(),
            reaches("complete"),
            command("restart", {"from": {"name": "c"}}, done="instance.cannot_restart"),
            passes(1),
            reaches("complete"),
        ],
        "complete",
        [*ALL, "c"],
    ),
    "restart": (
        [created(), reaches("complete"), command("restart"), passes(1), reaches("complete")],
        "complete",
        [*ALL, *ALL],
    ),
    "delete": ([created(), naps(), command("delete", done="instance.not_found"), gone()], "", ["a", "b"]),
    "fail": ([created(), reaches("errored")], "errored", ["a", "b", "undo b", "undo a"]),
}


async def live(store: KilledStore, witness: Witness, left: list[Act], random: CountingRandomness, fails: bool) -> bool:
    """One process; True if everything was done, False if it was killed."""
    async with open_world(order_flow(witness, fails=fails), store, idle_ms=1000, random=random) as world:

        async def work() -> None:
            while left:
                await left[0](world)
                left.pop(0)

        return await outlived(work, store, (StoreFailed, ActorBroken))


def recorded(store: KilledStore) -> list[str]:
    address = instances.address_of(WORKER, WORKFLOW, "one")
    with store.snapshot() as snapshot:
        record = instances.read(snapshot, address)
        if record is None:
            return []
        entries = blocks.load(snapshot, WORKER, WORKFLOW, "one", record.seq).entries
    return [
        f"undo {entry.key.name}" if entry.key.path else entry.key.name
        for entry in entries
        if isinstance(entry, journal.StepSucceeded)
    ]


async def carry_out(name: str, at: int, *, after: bool) -> int:
    """Kill once, then let it come to its end; returns how many kills took place."""
    acts, status, ended = SCENARIOS[name]
    witness, left, random = Witness(), list(acts), CountingRandomness()
    first = store = KilledStore(at, after=after)
    kills = 0
    if not await live(store, witness, left, random, name == "fail"):
        kills = 1
        before, kept = len(witness.ended), recorded(first)
        store = KilledStore(1_000_000, after=True, before_it=first)
        assert await live(store, witness, left, random, name == "fail")
        if "restart" not in name:
            assert not set(kept) & set(witness.ended[before:]), f"killed at commit {at}: recorded steps ran again"
    with store.snapshot() as snapshot:
        record = instances.read(snapshot, instances.address_of(WORKER, WORKFLOW, "one"))
        assert ("" if record is None else record.status.value) == status, f"killed at commit {at}"
        assert list(snapshot.keys(Table.INBOX)) == [], f"killed at commit {at}: something was left in the inbox"
        if record is None:
            assert list(snapshot.keys(Table.JOURNAL)) == []
    if kills == 0:
        assert sorted(witness.ended) == sorted(ended)
    elif "restart" not in name:
        assert set(witness.ended) == set(ended), f"killed at commit {at}"
        if "undo a" in ended:
            assert [item for item in witness.ended if item.startswith("undo")][-1] == "undo a"
    return kills


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", SCENARIOS)
async def test_command_is_carried_out_whenever_the_process_is_killed(
    autojump_clock: object, name: str, after: bool
) -> None:
    at, kills = 0, 1
    while kills:
        at += 1
        kills = await carry_out(name, at, after=after)
    assert at > 5
