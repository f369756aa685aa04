"""Durable Objects as a kind of binding: `durable_objects` and `migrations` (or `exports`) in the configuration, a
namespace in env."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from bindings.durable_objects.declared import DURABLE_OBJECT, Declared, declared
from bindings.durable_objects.deletion import delete_namespace
from bindings.durable_objects.factory import ObjectFactory
from bindings.durable_objects.history import History, by_declaration, by_migrations, listed, record, recorded
from bindings.durable_objects.migrations import Migrated, Migration, migrate
from bindings.durable_objects.namespace import DurableObjectNamespace
from bindings.durable_objects.object_class import ObjectClass
from bindings.durable_objects.sockets import NamespaceSockets
from bindings.kind import BindingRuntime
from edge_runtime.actors.api import ActorKind
from edge_runtime.config.decode import decode, warn
from edge_runtime.config.model import Binding, Where
from edge_runtime.errors import ConfigError, ScriptError
from edge_runtime.limits import OBJECT_IDLE_MS
from edge_runtime.store.api import Batch
from edge_runtime.workers.entrypoints import DurableObject
from edge_runtime.workers.websocket_recipient import socket_flags

_log = logging.getLogger("edge.durable_objects")

_SECTION: Final = "durable_objects"
_MIGRATIONS: Final = "migrations"
_EXPORTS: Final = "exports"


class ObjectBinding(msgspec.Struct, frozen=True):
    """One item of `durable_objects.bindings`; `environment` is read and has no effect."""

    name: str
    class_name: str
    script_name: str | None = None
    environment: str | None = None


class ObjectsSection(msgspec.Struct, frozen=True):
    bindings: tuple[ObjectBinding, ...] = ()


class ObjectSpec(msgspec.Struct, frozen=True):
    class_name: str
    namespace: str
    """Under which the data lies: the class's first name."""
    sqlite: bool
    migrated: bool
    """Some migration creates the class."""


class ElsewhereSpec(msgspec.Struct, frozen=True):
    """A class of another worker (`script_name`)."""

    worker: str
    class_name: str


class NoneSpec(msgspec.Struct, frozen=True):
    """The configuration does not speak of Durable Objects. One nameless binding."""


class ClassesSpec(msgspec.Struct, frozen=True):
    """What the configuration says of the worker's classes as a whole. One nameless binding."""

    migrations: tuple[Migration, ...] | None
    """None: `outcome` was declared."""
    outcome: Migrated
    where: Where

    def history(self, past: History | None, worker: str, *, development: bool) -> History:
        """What is recorded once this configuration serves. ScriptError if it does not continue the past."""
        if self.migrations is None:
            return by_declaration(past, self.outcome, worker)
        return by_migrations(past, self.migrations, worker, self.where, lenient=development)


class DurableObjectsKind:
    name = _SECTION
    sections = (_SECTION, _MIGRATIONS, _EXPORTS)

    def parse(self, sections: Mapping[str, object], worker: str, where: Where) -> Iterable[Binding]:
        classes = _read_classes(sections, where)
        migrated = classes.outcome
        # First, so that nothing is built on classes that may not be.
        yield Binding(self.name, "", classes)
        section = decode(sections.get(_SECTION, {}), ObjectsSection, where / _SECTION)
        bound: set[str] = set()
        for index, item in enumerate(section.bindings):
            binding = _binding(item, migrated, worker, where / _SECTION / "bindings" / index)
            if isinstance(binding.spec, ObjectSpec):
                bound.add(item.class_name)
            yield binding
        # Classes that only other workers' bindings name.
        for name, made in migrated.classes.items():
            if name not in bound:
                yield Binding(self.name, "", ObjectSpec(name, made.namespace, made.sqlite, migrated=True))

    def absent(self, worker: str, where: Where) -> Iterable[Binding]:
        yield Binding(self.name, "", NoneSpec())

    def offered(self, binding: Binding, worker: str) -> Iterable[tuple[str, str, str]]:
        if isinstance(binding.spec, ObjectSpec):
            yield ActorKind.OBJECT.value, binding.spec.class_name, binding.spec.namespace

    def build(self, binding: Binding, runtime: BindingRuntime) -> DurableObjectNamespace | None:
        spec = binding.spec
        if isinstance(spec, ClassesSpec):
            if runtime.worker.pinned is None:  # an older version knows less than what was applied since
                with runtime.store.snapshot() as snapshot:
                    past = recorded(snapshot, runtime.worker.name)
                spec.history(past, runtime.worker.name, development=runtime.development)
            return None
        if isinstance(spec, NoneSpec):
            _require_no_past(runtime)
            return None
        if isinstance(spec, ElsewhereSpec):
            find = partial(runtime.neighbours.namespace, spec.worker, ActorKind.OBJECT, spec.class_name)
            return DurableObjectNamespace(runtime.actors, runtime.random, spec.worker, find)
        assert isinstance(spec, ObjectSpec)
        worker = runtime.worker
        if worker.pinned is not None:
            # The objects live with the newest version.
            if not binding.name:
                return None
            return DurableObjectNamespace(runtime.actors, runtime.random, worker.name, spec.namespace)
        if not spec.migrated:
            text = (
                f"worker {worker.name}: the Durable Object class {spec.class_name} is in no migration; "
                f'add {{"tag": "v1", "new_sqlite_classes": ["{spec.class_name}"]}} to migrations'
            )
            if not runtime.development:
                raise ScriptError(text)
            _log.warning("%s (an error when deployed)", text)
        deletes_alarm = worker.flag(
            "delete_all_deletes_alarm", default_from="2026-02-24", off="delete_all_preserves_alarm"
        )
        if not binding.name and spec.class_name not in runtime.exports:
            _log.warning(
                "worker %s: migrations create %s, which the script does not export", worker.name, spec.class_name
            )
            return None
        cls = _find_class(spec.class_name, runtime)
        of = ObjectClass(cls, runtime.env, spec.sqlite, deletes_alarm, socket_flags(worker))
        sockets = NamespaceSockets(runtime.actors, runtime.clock)
        factory = ObjectFactory(of, OBJECT_IDLE_MS, sockets)
        runtime.actors.register(worker.name, ActorKind.OBJECT, spec.namespace, factory)
        return DurableObjectNamespace(runtime.actors, runtime.random, worker.name, spec.namespace, cls=cls)

    async def serve(self, bindings: Sequence[Binding], runtime: BindingRuntime) -> None:
        """Record the migrations as applied, then remove the data of classes that they deleted. What a crash leaves
        undone is done at the next start."""
        if runtime.worker.pinned is not None:
            return
        store, worker = runtime.store, runtime.worker.name
        in_use = {binding.spec.namespace for binding in bindings if isinstance(binding.spec, ObjectSpec)}
        for binding in bindings:
            if isinstance(binding.spec, ClassesSpec):
                with store.snapshot() as snapshot:
                    past = recorded(snapshot, worker)
                try:
                    history = binding.spec.history(past, worker, development=runtime.development)
                except ScriptError:
                    return  # a newer version has begun since this one was built, and takes its place
                if history != past:
                    batch = Batch()
                    record(batch, worker, history)
                    await store.commit(batch)
                for namespace in history.outcome.deleted:
                    if namespace not in in_use:
                        await delete_namespace(store, worker, namespace)


def _require_no_past(runtime: BindingRuntime) -> None:
    """ScriptError for a worker that has classes by what is recorded; development warns."""
    worker = runtime.worker
    if worker.pinned is not None:
        return
    with runtime.store.snapshot() as snapshot:
        past = recorded(snapshot, worker.name)
    if past is None or not past.outcome.classes:
        return
    names = ", ".join(sorted(past.outcome.classes))
    text = (
        f"worker {worker.name}: its configuration has no Durable Objects any more, and the data directory has the "
        f"classes {names}, whose objects nobody would reach; restore its migrations or exports (applied migrations: "
        f"{listed(past.tags)}), and if the objects are to go, have the classes deleted there (deleted_classes)"
    )
    if not runtime.development:
        raise ScriptError(text)
    _log.warning("%s (an error when deployed)", text)


def _read_classes(sections: Mapping[str, object], where: Where) -> ClassesSpec:
    entries = decode(sections.get(_EXPORTS, {}), dict[str, Declared], where / _EXPORTS)
    if any(entry.type == DURABLE_OBJECT for entry in entries.values()):
        if _MIGRATIONS in sections:
            both = "Durable Object classes, as there are in migrations"
            raise ConfigError(where.file, (where / _EXPORTS).at, both, "one of the two sections")
        return ClassesSpec(None, declared(entries, where / _EXPORTS), where)
    place = where / _MIGRATIONS
    migrations = decode(sections.get(_MIGRATIONS, []), tuple[Migration, ...], place)
    return ClassesSpec(migrations, migrate(migrations, place), place)


def _binding(item: ObjectBinding, migrated: Migrated, worker: str, place: Where) -> Binding:
    if not item.name.isidentifier():
        raise ConfigError(place.file, (place / "name").at, f'the string "{item.name}"', "a name that Python can spell")
    if not item.class_name.isidentifier():
        raise ConfigError(
            place.file, (place / "class_name").at, f'the string "{item.class_name}"', "the name of a class"
        )
    if item.script_name is not None and item.script_name != worker:
        return Binding(_SECTION, item.name, ElsewhereSpec(item.script_name, item.class_name))
    made = migrated.classes.get(item.class_name)
    if made is None:
        warn(place / "class_name", f"no migration creates the class {item.class_name}; deploying needs one")
        spec = ObjectSpec(item.class_name, item.class_name, sqlite=True, migrated=False)
    else:
        spec = ObjectSpec(item.class_name, made.namespace, made.sqlite, migrated=True)
    return Binding(_SECTION, item.name, spec)


def _find_class(name: str, runtime: BindingRuntime) -> type[DurableObject]:
    found = runtime.exports.get(name)
    if isinstance(found, type) and issubclass(found, DurableObject):
        return found
    objects = sorted(name for name, cls in runtime.exports.items() if issubclass(cls, DurableObject))
    has = f"its Durable Object classes are {', '.join(objects)}" if objects else "it has no Durable Object class"
    raise ScriptError(
        f"worker {runtime.worker.name}: durable_objects names the class {name}, which the script does not export as a "
        f"subclass of DurableObject; {has}"
    )
