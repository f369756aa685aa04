"""A worker's configuration of Durable Objects, and what its bindings are built with."""

from pathlib import Path
from types import SimpleNamespace

from durable_object_world import RecordedEvents, ZeroRandomness

from bindings.durable_objects import KIND
from bindings.durable_objects.kind import ClassesSpec
from bindings.kind import BindingRuntime
from edge_runtime.actors.host import LocalActorHost
from edge_runtime.config.decode import collecting_warnings
from edge_runtime.config.model import Where, WorkerConfig, WorkerLimits
from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.testing.surroundings import JumpingClock, offload_inline
from edge_runtime.workers import DurableObject, WorkerEntrypoint

WHERE = Where("wrangler.jsonc")


class Cart(DurableObject):
    pass


class Default(WorkerEntrypoint):
    pass


class Neighbours:
    def __init__(self, classes):
        self._classes = classes

    def namespace(self, worker, kind, cls):
        return self._classes[worker, kind.value, cls]


def section(class_name="Cart", **more):
    return {"bindings": [{"name": "CARTS", "class_name": class_name, **more}]}


def parse_all(migrations=None, objects=None, exports=None):
    sections = {"durable_objects": section() if objects is None else objects}
    if migrations is not None:
        sections["migrations"] = migrations
    if exports is not None:
        sections["exports"] = exports
    with collecting_warnings() as warnings:
        return list(KIND.parse(sections, "shop", WHERE)), warnings


def parse(*args, **options):
    """Without the history of the classes."""
    (classes, *bindings), warnings = parse_all(*args, **options)
    assert (classes.name, type(classes.spec)) == ("", ClassesSpec)
    return bindings, warnings


def runtime(nursery, *, development=True, exports=(Cart, Default)):
    store, clock, random = MemoryStore(), JumpingClock(), ZeroRandomness()
    events = RecordedEvents(nursery, TrioFlavour())
    config = WorkerConfig(
        "shop", None, Path("wrangler.jsonc"), Path(), None, "2026-05-01", frozenset(), "trio", {}, {}, (), (), (),
        WorkerLimits(1000, 50, 1000),
    )  # fmt: skip
    host = LocalActorHost(store, clock, random, offload_inline, events, "shop")
    return BindingRuntime(
        config, "v1", store, clock, random, offload_inline, TrioFlavour(), events, host,
        {cls.__name__: cls for cls in exports}, SimpleNamespace(), development, Neighbours({}),
    )  # fmt: skip
