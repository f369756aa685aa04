"""Random concurrent histories of storage operations, with crashes between commits, against plain dicts.

Each operation leaves a record outside of the system at the moment it takes effect. So the records are the order that
must explain every answer; an answer's record must lie between call and answer; and what is durable after a crash must
be the state after some record that is not earlier than any acknowledged one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
import trio
from durable_object_world import WORKER, world
from trio.testing import wait_all_tasks_blocked

from edge_runtime.store import keys, values
from edge_runtime.store.api import Table
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.workers import DurableObject

SEEDS = 40
LIVES = 4
CLIENTS = 6
OBJECTS = ("a", "b", "c")
KEYS = ("k", "l", "list:1", "list:2", "ø")

Model = dict[str, Any]
Operation = tuple[Any, ...]


@dataclass
class Witness:
    """What happened to one object, in order."""

    base: Model = field(default_factory=dict)
    records: list[tuple[Operation, Any]] = field(default_factory=list)
    acknowledged: int = 0
    """Records that must survive."""

    def note(self, operation: Operation, result: Any) -> list[Any]:
        self.records.append((operation, result))
        return [len(self.records), result]

    def acknowledge(self, place: int) -> None:
        """An answer has come: what was written for confirmation until then must survive."""
        while place > self.acknowledged and not confirmed(*self.records[place - 1]):
            place -= 1
        self.acknowledged = max(self.acknowledged, place)


def confirmed(operation: Operation, result: Any) -> bool:
    """Whether an operation certainly wrote something that answers wait for."""
    match operation:
        case ("put" | "kv_put" | "put_many" | "add" | "clear", *_):
            return True
        case ("delete" | "kv_delete" | "delete_many", _):
            return bool(result)
        case ("transaction" | "transaction_sync", inner, fails):
            return not fails and any(map(confirmed, inner, result))
    return False


witnesses: dict[str, Witness] = {}


def apply(model: Model, operation: Operation) -> Any:
    """What an operation does to a plain dict, and what it answers."""
    match operation:
        case ("put" | "put_unconfirmed" | "kv_put", key, value):
            model[key] = value
        case ("get" | "kv_get", key):
            return model.get(key)
        case ("put_many", pairs):
            model.update(pairs)
        case ("get_many", names):
            return {name: model[name] for name in sorted(set(names)) if name in model}
        case ("delete" | "kv_delete", key):
            return model.pop(key, MISSING) is not MISSING
        case ("delete_many", names):
            return sum(model.pop(name, MISSING) is not MISSING for name in names)
        case ("add", key, amount):
            old = model.get(key)
            model[key] = (old if isinstance(old, int) else 0) + amount
            return model[key]
        case ("list", prefix, reverse, limit):
            names = sorted((name for name in model if name.startswith(prefix)), reverse=reverse)[:limit]
            return {name: model[name] for name in names}
        case ("clear",):
            model.clear()
        case ("transaction" | "transaction_sync", inner, fails):
            copy = dict(model)
            results = [apply(copy, each) for each in inner]
            if not fails:
                model.clear()
                model.update(copy)
            return results
        case _:
            raise AssertionError(operation)
    return None


MISSING = object()


class Planned(Exception):
    """Raised to roll a transaction back."""


class Subject(DurableObject):
    async def do(self, operation):
        operation = freeze(operation)
        witness = witnesses[self.ctx.id.name]
        storage = self.ctx.storage
        match operation:
            case ("transaction", inner, fails):
                results = []

                async def closure(txn):
                    for each in inner:
                        results.append(await one(txn, each))
                        await trio.lowlevel.checkpoint()
                    noted.append(witness.note(operation, list(results)))
                    if fails:
                        raise Planned

                noted: list[Any] = []
                try:
                    await storage.transaction(closure)
                except Planned:
                    pass
                return noted[0]
            case ("transaction_sync", inner, fails):
                results = []

                def sync_closure():
                    for each in inner:
                        results.append(sync_one(storage.kv, each))
                    if fails:
                        raise Planned

                try:
                    storage.transactionSync(sync_closure)
                except Planned:
                    pass
                return witness.note(operation, results)
            case ("pause", inner):
                await trio.sleep(0.01)
                return witness.note(inner, await one(storage, inner))
            case (str(kind), *_) if kind.startswith("kv_"):
                return witness.note(operation, sync_one(storage.kv, operation))
            case _:
                return witness.note(operation, await one(storage, operation))


async def one(storage: Any, operation: Operation) -> Any:
    match operation:
        case ("put", key, value):
            await storage.put(key, value)
        case ("put_unconfirmed", key, value):
            await storage.put(key, value, allowUnconfirmed=True)
        case ("get", key):
            return await storage.get(key)
        case ("put_many", pairs):
            await storage.put(pairs)
        case ("get_many", names):
            return dict(await storage.get(list(names)))
        case ("delete", key):
            return await storage.delete(key)
        case ("delete_many", names):
            return await storage.delete(list(names))
        case ("add", key, amount):
            old = await storage.get(key)
            await storage.put(key, (old if isinstance(old, int) else 0) + amount)
            return await storage.get(key)
        case ("list", prefix, reverse, limit):
            return dict(await storage.list(prefix=prefix, reverse=reverse, limit=limit))
        case ("clear",):
            await storage.deleteAll()
    return None


def sync_one(kv: Any, operation: Operation) -> Any:
    match operation:
        case ("put" | "kv_put", key, value):
            kv.put(key, value)
        case ("get" | "kv_get", key):
            return kv.get(key)
        case ("delete" | "kv_delete", key):
            return kv.delete(key)
    return None


def freeze(operation: Any) -> Operation:
    """An operation as it was before it went over RPC as lists."""
    kind, *rest = operation
    if kind == "pause":
        return (kind, freeze(rest[0]))
    if kind.startswith("transaction"):
        return (kind, tuple(map(freeze, rest[0])), rest[1])
    return (kind, *rest)


def wire(operation: Operation) -> list[Any]:
    return [
        wire(part)
        if isinstance(part, tuple) and part and isinstance(part[0], str)
        else [*map(wire, part)]
        if isinstance(part, tuple)
        else part
        for part in operation
    ]


def simple(random: Random) -> Operation:
    key, value = random.choice(KEYS), random.choice([random.randrange(100), "text", [1, {"x": None}], None, 2.5])
    return random.choice([("put", key, value), ("get", key), ("delete", key)])


def choose(random: Random) -> Operation:
    names = [random.choice(KEYS) for _ in range(3)]
    inner = tuple(simple(random) for _ in range(random.randrange(1, 4)))
    return random.choice(
        [
            simple(random),
            simple(random),
            ("put_unconfirmed", names[0], random.randrange(100)),
            ("put_many", {name: random.randrange(100) for name in names}),
            ("get_many", names),
            ("delete_many", sorted(set(names))),
            ("add", names[0], random.randrange(1, 9)),
            ("add", "k", 1),
            ("list", random.choice(["", "list:"]), random.random() < 0.5, random.randrange(1, 6)),
            ("kv_put", names[0], random.randrange(100)),
            ("kv_get", names[0]),
            ("kv_delete", names[0]),
            ("clear",) if random.random() < 0.2 else ("get", "k"),
            ("transaction", inner, random.random() < 0.3),
            ("transaction_sync", inner, random.random() < 0.3),
            ("pause", simple(random)),
        ]
    )


def durable(store: MemoryStore, id: str) -> Model:
    start, end = keys.prefix_range(WORKER, "Subject", id)
    with store.snapshot() as snapshot:
        return {str(keys.decode(key)[3]): values.decode(data) for key, data in snapshot.scan(Table.OBJECTS, start, end)}


def survived(witness: Witness, stored: Model) -> None:
    """Find the record after which the crash came; what was done later is as if it had never been."""
    model = dict(witness.base)
    found = None
    for count, operation in enumerate([None, *(operation for operation, _ in witness.records)]):
        if operation is not None:
            apply(model, operation)
        if count >= witness.acknowledged and model == stored:
            found = count
            break
    assert found is not None, f"{stored} is none of the states since record {witness.acknowledged}"
    witness.base, witness.records, witness.acknowledged = stored, [], 0


def explained(witness: Witness) -> int:
    model = dict(witness.base)
    for number, (operation, result) in enumerate(witness.records):
        assert apply(model, operation) == result, (number, operation)
    return len(witness.records)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_histories_are_linearizable_and_acknowledged_writes_survive(seed, autojump_clock):
    random = Random(seed)
    witnesses.clear()
    witnesses.update({name: Witness() for name in OBJECTS})
    store, operations = MemoryStore(manual=True), 0

    for _ in range(LIVES):
        async with world(Subject, store=store, idle_ms=50) as w, trio.open_nursery() as nursery:
            ids = {name: w.ns["Subject"].idFromName(name).toString() for name in OBJECTS}

            async def client(w=w):
                while True:
                    name, operation = random.choice(OBJECTS), choose(random)
                    witness = witnesses[name]
                    before = len(witness.records)
                    place, _ = await w.call(name, "do", wire(operation))
                    assert before < place <= len(witness.records)
                    witness.acknowledge(place)
                    if random.random() < 0.1:
                        await trio.sleep(random.random() / 10)

            for _ in range(CLIENTS):
                nursery.start_soon(client)
            for _ in range(random.randrange(1, 40)):
                await wait_all_tasks_blocked()
                if not store.commit_group(random.choice([1, 1, 2, 50])):
                    await trio.sleep(0.01)
            crashed = store.crash()
            lived = {name: len(witness.records) for name, witness in witnesses.items()}
            nursery.cancel_scope.cancel()
        store = crashed
        for name, witness in witnesses.items():
            # Until they are cancelled, tasks go on of a process that is gone: commits fail, and objects begin anew.
            del witness.records[lived[name] :]
            operations += explained(witness)
            survived(witness, durable(store, ids[name]))
    assert operations > 20
