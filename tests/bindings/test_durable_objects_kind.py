from dataclasses import replace

import pytest
import trio
from durable_object_world import ZeroRandomness
from object_kind_world import Default, Neighbours, parse, parse_all, runtime, section

from bindings.durable_objects import KIND
from bindings.durable_objects.deletion import delete_namespace
from bindings.durable_objects.kind import ObjectSpec
from bindings.durable_objects.namespace import DurableObjectNamespace
from bindings.kind import load_kinds
from edge_runtime.actors.api import ActorAddress, ActorKind
from edge_runtime.actors.ids import IdFactory
from edge_runtime.actors.timers import schedule
from edge_runtime.errors import ConfigError, ScriptError
from edge_runtime.store import keys
from edge_runtime.store.api import Batch, Table


def test_the_kind_is_registered():
    assert "durable_objects" in [kind.name for kind in load_kinds()]


def test_a_migrated_class():
    [binding], warnings = parse([{"tag": "v1", "new_sqlite_classes": ["Cart"]}])
    assert binding.name == "CARTS"
    assert binding.spec == ObjectSpec("Cart", "Cart", sqlite=True, migrated=True)
    assert warnings == []


def test_new_classes_are_not_sqlite():
    [binding], _ = parse([{"tag": "v1", "new_classes": ["Cart"]}])
    assert not binding.spec.sqlite


def test_a_class_without_migration_gives_a_warning():
    [binding], warnings = parse()
    assert not binding.spec.migrated
    assert warnings == [
        "wrangler.jsonc: durable_objects.bindings[0].class_name: no migration creates the class Cart; "
        "deploying needs one"
    ]


def test_a_renamed_class_keeps_its_data():
    [binding], _ = parse(
        [
            {"tag": "v1", "new_sqlite_classes": ["Basket"]},
            {"tag": "v2", "renamed_classes": [{"from": "Basket", "to": "Cart"}]},
        ]
    )
    assert binding.spec == ObjectSpec("Cart", "Basket", sqlite=True, migrated=True)


def test_a_class_deleted_and_created_again_begins_empty():
    (classes, cart), _ = parse_all(
        [
            {"tag": "v1", "new_sqlite_classes": ["Cart"]},
            {"tag": "v2", "deleted_classes": ["Cart"]},
            {"tag": "v3", "new_sqlite_classes": ["Cart"]},
        ]
    )
    assert cart.spec.namespace == "Cart@v3"
    assert classes.spec.outcome.deleted == ("Cart",)


@pytest.mark.parametrize(
    ("migrations", "at"),
    [
        ([{"tag": "v1", "new_classes": ["A"]}, {"tag": "v1"}], "migrations[1].tag"),
        ([{"tag": "v1", "new_classes": ["A"], "new_sqlite_classes": ["A"]}], "migrations[0].new_sqlite_classes[0]"),
        ([{"tag": "v1", "deleted_classes": ["A"]}], "migrations[0].deleted_classes[0]"),
        ([{"tag": "v1", "renamed_classes": [{"from": "A", "to": "B"}]}], "migrations[0].renamed_classes[0].from"),
        (
            [{"tag": "v1", "new_classes": ["A", "B"], "renamed_classes": [{"from": "A", "to": "B"}]}],
            "migrations[0].renamed_classes[0].to",
        ),
        ([{"new_classes": ["A"]}], "migrations[0]"),
        ([{"tag": 5}], "migrations[0].tag"),
        ({"tag": "v1"}, "migrations"),
        (
            [{"tag": "v1", "transferred_classes": [{"from": "A", "from_script": "b", "to": "A"}]}],
            "migrations[0].transferred_classes",
        ),
    ],
)
def test_wrong_migrations_are_refused_where_they_are_wrong(migrations, at):
    with pytest.raises(ConfigError) as error:
        parse(migrations)
    assert error.value.at.startswith(at)


@pytest.mark.parametrize(
    ("objects", "at"),
    [
        (section("not a class"), "durable_objects.bindings[0].class_name"),
        ({"bindings": [{"name": "a-b", "class_name": "Cart"}]}, "durable_objects.bindings[0].name"),
        ({"bindings": [{"name": "A"}]}, "durable_objects.bindings[0]"),
        ({"bindings": {}}, "durable_objects.bindings"),
        ([], "durable_objects"),
    ],
)
def test_wrong_bindings_are_refused_where_they_are_wrong(objects, at):
    with pytest.raises(ConfigError) as error:
        parse(objects=objects)
    assert error.value.at.startswith(at)


async def test_a_class_of_another_worker_is_looked_up_there_when_it_is_used(nursery):
    [binding], _ = parse(objects=section(script_name="other"))
    made = replace(runtime(nursery), neighbours=Neighbours({("other", "object", "Cart"): "Basket"}))
    namespace = KIND.build(binding, made)
    assert namespace.idFromName("a") == IdFactory("other-Basket").from_name("a")
    assert list(KIND.offered(binding, "shop")) == []


def test_classes_are_offered_to_other_workers_under_their_names_of_today():
    renamed = {"tag": "v2", "renamed_classes": [{"from": "Old", "to": "New"}]}
    bindings, _ = parse([{"tag": "v1", "new_classes": ["Old", "Cart"]}, renamed])
    assert sorted(offer for binding in bindings for offer in KIND.offered(binding, "shop")) == [
        ("object", "Cart", "Cart"),
        ("object", "New", "Old"),
    ]


def test_script_name_may_be_the_worker_itself():
    [binding], _ = parse(objects=section(script_name="shop"))
    assert binding.name == "CARTS"


async def test_build_gives_a_namespace_whose_class_is_reachable(nursery):
    [binding], _ = parse([{"tag": "v1", "new_sqlite_classes": ["Cart"]}])
    made = runtime(nursery, development=False)
    namespace = KIND.build(binding, made)
    assert isinstance(namespace, DurableObjectNamespace)
    await nursery.start(made.actors.run)
    address = ActorAddress("shop", ActorKind.OBJECT, "Cart", namespace.idFromName("a").toString())
    with pytest.raises(AssertionError):
        await made.actors.deliver(address, "not a message")
    nursery.cancel_scope.cancel()


async def test_a_class_without_migration_is_refused_when_deployed(nursery, caplog):
    [binding], _ = parse()
    with pytest.raises(ScriptError, match="Cart is in no migration; add"):
        KIND.build(binding, runtime(nursery, development=False))
    KIND.build(binding, runtime(nursery))
    assert "is in no migration" in caplog.text


@pytest.mark.parametrize("exports", [(), (Default,)])
async def test_a_class_that_the_script_lacks_is_refused(nursery, exports):
    [binding], _ = parse([{"tag": "v1", "new_sqlite_classes": ["Cart"]}])
    with pytest.raises(ScriptError, match="names the class Cart, which the script does not export"):
        KIND.build(binding, runtime(nursery, exports=exports))
    wrong = replace(runtime(nursery), exports={"Cart": Default})
    with pytest.raises(ScriptError, match="as a subclass of DurableObject"):
        KIND.build(binding, wrong)


async def test_deleted_classes_lose_everything_and_others_nothing(nursery):
    made = runtime(nursery)
    for namespace in ("Cart", "Cart2"):
        batch = Batch()
        with made.store.snapshot() as snapshot:
            for n in range(300):
                address = ActorAddress("shop", ActorKind.OBJECT, namespace, f"{n:064}")
                schedule(batch, snapshot, address, 1000 + n, name="x")
                batch.put(Table.OBJECTS, keys.encode("shop", namespace, address.id, "k"), b"v")
        await made.store.commit(batch)
    bindings, _ = parse_all(
        [{"tag": "v1", "new_sqlite_classes": ["Cart"]}, {"tag": "v2", "deleted_classes": ["Cart"]}],
        objects={},
    )
    await KIND.serve(bindings, made)
    await delete_namespace(made.store, "shop", "Cart")
    for table in (Table.OBJECTS, Table.ACTORS, Table.TIMERS):
        assert len(made.store._image[table].order) == 300
        assert not any(b"Cart\x00" in key for key in made.store._image[table].order)
    await trio.lowlevel.checkpoint()


async def test_namespace_checks_its_arguments(nursery):
    [binding], _ = parse([{"tag": "v1", "new_sqlite_classes": ["Cart"]}])
    namespace = KIND.build(binding, runtime(nursery))
    foreign = DurableObjectNamespace(None, ZeroRandomness(), "shop", "Other")
    assert namespace.idFromName("a") == namespace.id_from_name("a")
    assert namespace.newUniqueId() != namespace.newUniqueId()
    stub = namespace.getByName("a", locationHint="weur")
    assert (stub.name, stub.id) == ("a", namespace.idFromName("a"))
    assert namespace.get(namespace.idFromString(stub.id.toString())).name is None
    with pytest.raises(TypeError, match="not valid for this namespace"):
        namespace.get(foreign.idFromName("a"))
    with pytest.raises(TypeError, match="getByName"):
        namespace.get("a")
    with pytest.raises(TypeError, match="is a string"):
        namespace.idFromName(5)
    with pytest.raises(TypeError, match="a jurisdiction is one of eu, us, fedramp, fedramp-high, not 'mars'"):
        namespace.newUniqueId(jurisdiction="mars")
    with pytest.raises(ValueError, match="unknown routingMode: nearest"):
        namespace.getByName("a", {"routingMode": "nearest"})
    with pytest.raises(TypeError, match="locationHint is a string, not int"):
        namespace.getByName("a", locationHint=7)
    with pytest.raises(RuntimeError, match="outside of an event"):
        stub.anything()
