"""What became of a worker's classes: applied once, in order, recorded; what contradicts it is refused."""

from __future__ import annotations

import copy

import pytest
import trio
from object_kind_world import WHERE, Cart, Default, parse_all, runtime

from bindings.durable_objects import KIND
from bindings.durable_objects.history import recorded
from bindings.durable_objects.kind import ObjectSpec
from edge_runtime.errors import ConfigError, ScriptError
from edge_runtime.store import keys
from edge_runtime.store.api import Batch, Table
from edge_runtime.workers import DurableObject


class Basket(DurableObject):
    pass


NEW = {"tag": "v1", "new_sqlite_classes": ["Basket"]}
RENAMED = {"tag": "v2", "renamed_classes": [{"from": "Basket", "to": "Cart"}]}
ADDED = {"tag": "v3", "new_sqlite_classes": ["Basket"]}
DELETED = {"tag": "v4", "deleted_classes": ["Cart"]}


class Deployments:
    """Versions of one worker on one data directory, one after the other."""

    def __init__(self, nursery, **options):
        self.made = runtime(nursery, exports=(Cart, Basket, Default), **options)

    async def serve(self, migrations=None, **sections):
        """Build and serve a version; returns its classes with their namespaces."""
        bindings, _ = parse_all(migrations, objects=sections.pop("objects", {}), **sections)
        for binding in bindings:
            KIND.build(binding, self.made)
        await KIND.serve(bindings, self.made)
        return {it.spec.class_name: it.spec.namespace for it in bindings if isinstance(it.spec, ObjectSpec)}

    @property
    def history(self):
        with self.made.store.snapshot() as snapshot:
            return recorded(snapshot, "shop")

    async def keep(self, namespace, value=b"v"):
        key = keys.encode("shop", namespace, f"{1:064}", "k")
        await self.made.store.commit(Batch().put(Table.OBJECTS, key, value))

    def kept(self, namespace):
        with self.made.store.snapshot() as snapshot:
            return list(snapshot.keys(Table.OBJECTS, *keys.prefix_range("shop", namespace))) != []


@pytest.fixture
def deployed(nursery):
    return Deployments(nursery, development=False)


async def test_each_migration_is_applied_once_and_in_order(deployed):
    assert await deployed.serve([NEW]) == {"Basket": "Basket"}
    assert deployed.history.tags == ("v1",)
    await deployed.keep("Basket")
    assert await deployed.serve([NEW, RENAMED]) == {"Cart": "Basket"}
    assert await deployed.serve([NEW, RENAMED, ADDED]) == {"Cart": "Basket", "Basket": "Basket@v3"}
    await deployed.keep("Basket@v3")
    assert deployed.kept("Basket")
    assert await deployed.serve([NEW, RENAMED, ADDED, DELETED]) == {"Basket": "Basket@v3"}
    assert (deployed.kept("Basket"), deployed.kept("Basket@v3")) == (False, True)
    assert deployed.history.tags == ("v1", "v2", "v3", "v4")


async def test_the_same_configuration_writes_nothing(deployed, monkeypatch):
    await deployed.serve([NEW, RENAMED])
    before = deployed.history
    monkeypatch.setattr(deployed.made.store, "commit", lambda batch: pytest.fail("something was written"))
    await deployed.serve([NEW, RENAMED])
    assert deployed.history == before


async def test_several_migrations_at_once_come_to_the_same(nursery):
    one_by_one, at_once = Deployments(nursery), Deployments(nursery)
    history = [NEW, RENAMED, ADDED, DELETED]
    for count in range(1, 5):
        await one_by_one.serve(history[:count])
    await at_once.serve(history)
    assert one_by_one.history == at_once.history


@pytest.mark.parametrize(
    ("migrations", "found"),
    [
        ([NEW], "v1"),
        ([RENAMED | {"renamed_classes": []}], "v2"),
        ([NEW | {"tag": "v2"}, RENAMED | {"tag": "v1"}], "v2, v1"),
        ([NEW | {"tag": "first"}, RENAMED], "first, v2"),
        ([], "none"),
    ],
)
@pytest.mark.parametrize("development", [True, False])
async def test_a_tag_that_was_removed_or_moved_is_refused(nursery, migrations, found, development):
    deployed = Deployments(nursery, development=development)
    await deployed.serve([NEW, RENAMED])
    await deployed.keep("Basket")
    before = deployed.history
    with pytest.raises(ScriptError) as refused:
        await deployed.serve(migrations)
    assert f"the migrations v1, v2 were applied to its Durable Objects, and the configuration has {found};" in str(
        refused.value
    )
    assert deployed.history == before
    assert deployed.kept("Basket")


@pytest.mark.parametrize(
    ("changed", "left"),
    [
        ({"new_sqlite_classes": ["Cart"]}, "Cart (sqlite)"),
        ({"new_sqlite_classes": [], "new_classes": ["Basket"]}, "Basket (legacy-kv)"),
        ({"new_sqlite_classes": []}, "no class"),
    ],
)
@pytest.mark.parametrize("development", [True, False])
async def test_an_applied_migration_cannot_change(nursery, changed, left, development):
    deployed = Deployments(nursery, development=development)
    await deployed.serve([NEW])
    with pytest.raises(ScriptError) as refused:
        await deployed.serve([NEW | changed])
    assert f"have left Basket (sqlite); as the configuration has them now they would leave {left}." in str(
        refused.value
    )


async def test_a_class_added_to_an_applied_migration_is_for_developers_only(nursery):
    more = [{"tag": "v1", "new_sqlite_classes": ["Basket", "Cart"]}]
    developed, deployed = Deployments(nursery), Deployments(nursery, development=False)
    for made in (developed, deployed):
        await made.serve([NEW])
    assert await developed.serve(more) == {"Basket": "Basket", "Cart": "Cart"}
    assert set(developed.history.outcome.classes) == {"Basket", "Cart"}
    with pytest.raises(ScriptError, match="A migration does not run again"):
        await deployed.serve(more)


async def test_a_migration_cut_off_by_a_crash_is_completed_by_the_next_start(nursery):
    """After each commit of it, and before the first."""
    history = [NEW, RENAMED, ADDED, DELETED]
    deployed = Deployments(nursery)
    await deployed.serve(history[:3])
    for namespace in ("Basket", "Basket@v3"):
        await deployed.keep(namespace)
    whole = copy.copy(deployed.made.store._image)
    commit = deployed.made.store.commit
    for allowed in range(4):
        deployed.made.store._image = copy.deepcopy(whole)
        left = allowed

        def counted(batch):
            nonlocal left
            if not left:
                raise Crash
            left -= 1
            return commit(batch)

        deployed.made.store.commit = counted
        try:
            await deployed.serve(history)
        except Crash:
            pass
        deployed.made.store.commit = commit
        assert deployed.kept("Basket@v3")
        await deployed.serve(history)
        assert deployed.history.tags == ("v1", "v2", "v3", "v4")
        assert (deployed.kept("Basket"), deployed.kept("Basket@v3")) == (False, True)
    await trio.lowlevel.checkpoint()


class Crash(BaseException):
    pass


async def test_a_class_without_migration_keeps_its_objects_when_it_gets_one(nursery):
    deployed = Deployments(nursery)
    bound = {"bindings": [{"name": "CARTS", "class_name": "Cart"}]}
    assert await deployed.serve(objects=bound) == {"Cart": "Cart"}
    await deployed.keep("Cart")
    assert await deployed.serve([{"tag": "v1", "new_sqlite_classes": ["Cart"]}], objects=bound) == {"Cart": "Cart"}
    assert deployed.kept("Cart")


def live(storage="sqlite"):
    return {"type": "durable-object", "storage": storage}


async def test_declared_classes_are_created_renamed_and_deleted(deployed):
    assert await deployed.serve(exports={"Basket": live()}) == {"Basket": "Basket"}
    await deployed.keep("Basket")
    renamed = {"Cart": live(), "Basket": {"type": "durable-object", "state": "renamed", "renamed_to": "Cart"}}
    assert await deployed.serve(exports=renamed) == {"Cart": "Basket"}
    assert deployed.kept("Basket")
    with pytest.raises(ScriptError, match="does not say what became of the Durable Object class Cart; keep it, or add"):
        await deployed.serve(exports={"Cart": live()})
    with pytest.raises(ScriptError, match='was "sqlite" when it was created and cannot become "legacy-kv"'):
        await deployed.serve(exports={**renamed, "Cart": live("legacy-kv")})
    await deployed.serve(exports={"Basket": {"type": "durable-object", "state": "deleted"}})
    assert not deployed.kept("Basket")
    assert await deployed.serve(exports={"Basket": live(), "Default": {"type": "worker"}}) == {"Basket": "Basket"}
    await deployed.keep("Basket")
    await deployed.serve(exports={"Basket": live()})
    assert deployed.kept("Basket")


async def test_declarations_may_take_the_place_of_migrations(deployed):
    await deployed.serve([NEW, RENAMED])
    renamed = {"Cart": live(), "Basket": {"type": "durable-object", "state": "renamed", "renamed_to": "Cart"}}
    assert await deployed.serve(exports=renamed) == {"Cart": "Basket"}
    with pytest.raises(ScriptError, match="does not say what became of the Durable Object class Cart"):
        await deployed.serve(exports={"Other": live()})


@pytest.mark.parametrize(
    ("exports", "at", "allowed"),
    [
        ({"A": {"type": "durable-object"}}, "exports.A", 'storage "sqlite" or "legacy-kv"'),
        ({"A": {"type": "durable-object", "state": "renamed", "renamed_to": "B"}}, "exports.A.renamed_to", "declared"),
        (
            {"A": {"type": "durable-object", "state": "transferred", "transferred_to": "other"}},
            "exports.A.state",
            "objects stay with the worker",
        ),
        ({"A": {"type": "durable-object", "state": "gone"}}, "exports.A.state", "created"),
    ],
)
def test_wrong_declarations_are_refused_where_they_are_wrong(exports, at, allowed):
    with pytest.raises(ConfigError) as error:
        parse_all(exports=exports)
    assert error.value.at == at
    assert allowed in str(error.value)


def test_migrations_and_declarations_exclude_each_other():
    with pytest.raises(ConfigError, match="one of the two sections"):
        parse_all([NEW], exports={"Cart": live()})


async def test_a_configuration_without_durable_objects_is_refused_while_there_are_classes(nursery, caplog):
    developed, deployed = Deployments(nursery), Deployments(nursery, development=False)
    nothing = list(KIND.absent("shop", WHERE))
    for made in (developed, deployed):
        for binding in nothing:
            assert KIND.build(binding, made.made) is None
        await KIND.serve(nothing, made.made)
        assert made.history is None  # a worker that never had any
        await made.serve([NEW])
        await made.keep("Basket")
    said = "its configuration has no Durable Objects any more, and the data directory has the classes Basket,"
    with pytest.raises(ScriptError, match=said) as refused:
        KIND.build(nothing[0], deployed.made)
    assert "(applied migrations: v1)" in str(refused.value)
    assert KIND.build(nothing[0], developed.made) is None
    assert said in caplog.text
    for made in (developed, deployed):
        await KIND.serve(nothing, made.made)
        assert made.kept("Basket")
        assert set(made.history.outcome.classes) == {"Basket"}
        await made.serve([NEW, {"tag": "v2", "deleted_classes": ["Basket"]}])
        assert not made.kept("Basket")
        assert KIND.build(nothing[0], made.made) is None


def test_a_worker_without_durable_objects_is_asked_for_its_past():
    (found,) = KIND.absent("shop", WHERE)
    assert (found.kind, found.name) == ("durable_objects", "")
