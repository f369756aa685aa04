"""`edge objects ...`: which objects a class has, and what one of them holds.

The store is read from a snapshot, whether a server runs on it or not; which objects are in memory a running one says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import click
import trio

from bindings.command_options import data_option, json_option, with_options
from bindings.durable_objects import stored
from bindings.durable_objects.history import all_recorded
from bindings.durable_objects.kind import ObjectSpec
from bindings.kind import load_kinds
from edge_runtime.actors.ids import IdFactory, unique_key
from edge_runtime.actors.placement import FACETS
from edge_runtime.config.load import load_config
from edge_runtime.errors import ConfigError, UsageError
from edge_runtime.store.api import Snapshot
from edge_runtime.store.lmdb_store import open_store
from edge_runtime.workers.conversion import from_wire

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredClass:
    worker: str
    name: str
    namespace: str
    """Under which its objects are stored: the class's first name."""


@dataclass(frozen=True, slots=True)
class Place:
    data_dir: Path
    worker: str | None
    configured: tuple[StoredClass, ...]

    @classmethod
    def of(cls, data_dir: Path | None, worker: str | None) -> Place:
        """By the options; the configuration in this folder, if there is one, tells classes that never ran."""
        directory = (data_dir or Path.cwd() / ".edge").resolve()
        try:
            loaded = load_config(Path.cwd(), load_kinds(), environment=None)
        except ConfigError:
            return cls(directory, worker, ())
        specs = [binding.spec for binding in loaded.bindings if isinstance(binding.spec, ObjectSpec)]
        configured = {StoredClass(loaded.name, spec.class_name, spec.namespace) for spec in specs}
        return cls(directory, worker, tuple(configured))

    def find(self, name: str, snapshot: Snapshot) -> StoredClass:
        """The class of a name; UsageError if there is none or several workers have one."""
        migrated = (
            StoredClass(worker, name, made.namespace)
            for worker, history in all_recorded(snapshot).items()
            for name, made in history.outcome.classes.items()
        )
        named = {(it.worker, it.namespace): it for it in (*migrated, *self.configured)}
        for worker, namespace in stored.namespaces(snapshot):
            named.setdefault((worker, namespace), StoredClass(worker, namespace, namespace))
        known = [it for it in named.values() if self.worker in (None, it.worker)]
        found = [it for it in known if it.name == name]
        if len(found) == 1:
            return found[0]
        if found:
            workers = ", ".join(sorted(it.worker for it in found))
            raise UsageError(f"several workers have a class {name}: {workers}; choose one with --worker")
        names = ", ".join(sorted({it.name for it in known})) or "none"
        raise UsageError(f"no Durable Object class {name} in {self.data_dir}; classes with objects: {names}")

    def read(self, work: Callable[[Snapshot], T]) -> T:
        if not (self.data_dir / "store").is_dir():
            raise UsageError(f"no data directory at {self.data_dir}; name one with --data")

        async def with_snapshot() -> T:
            async with open_store(self.data_dir / "store", readonly=True) as store:
                with store.snapshot() as snapshot:
                    return work(snapshot)

        return trio.run(with_snapshot)


_options = with_options(
    data_option,
    click.option("--worker", default=None, help="The worker, where several have a class of this name."),
    json_option,
)


@click.group("objects")
def objects() -> None:
    """Show Durable Objects and what they hold."""


@objects.command("list")
@click.argument("class_name", metavar="CLASS")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="Objects shown at most.")
@_options
@click.pass_context
def list_objects(
    ctx: click.Context, class_name: str, limit: int, data_dir: Path | None, worker: str | None, as_json: bool
) -> None:
    """Show the objects of CLASS that have something stored or are in memory, in the order of their ids."""
    place = Place.of(data_dir, worker)
    cls = place.read(lambda snapshot: place.find(class_name, snapshot))
    live = ctx.obj.live_objects(place.data_dir, cls.worker, cls.namespace)

    def read(snapshot: Snapshot) -> list[dict[str, Any]]:
        found = list(islice(stored.ids(snapshot, cls.worker, cls.namespace), limit))
        only_live = sorted(live.difference(found)) if len(found) < limit else []
        shown = sorted([*found, *only_live])[:limit]
        return [_summary(stored.describe(snapshot, cls.worker, cls.namespace, id), live) for id in shown]

    rows = place.read(read)
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    columns = ("ID", "Name", "Live", "Keys", "Bytes", "Alarm")
    _print_table(
        columns,
        [
            (row["id"], row["name"] or "-", "yes" if row["live"] else "no", str(row["keys"]), str(row["bytes"]),
             row["alarm"] or "-")
            for row in rows
        ],
    )  # fmt: skip


@objects.command("show")
@click.argument("class_name", metavar="CLASS")
@click.argument("name_or_id", metavar="NAME-OR-ID")
@_options
@click.pass_context
def show(
    ctx: click.Context, class_name: str, name_or_id: str, data_dir: Path | None, worker: str | None, as_json: bool
) -> None:
    """Show one object of CLASS: its storage, its alarm, its size, and whether it is in memory."""
    place = Place.of(data_dir, worker)

    def read(snapshot: Snapshot) -> tuple[StoredClass, stored.StoredObject, list[stored.StoredEntry]]:
        cls = place.find(class_name, snapshot)
        id = _id_of(cls, name_or_id)
        found = stored.describe(snapshot, cls.worker, cls.namespace, id)
        return cls, found, list(stored.entries(snapshot, cls.worker, cls.namespace, id))

    cls, found, entries = place.read(read)
    live = ctx.obj.live_objects(place.data_dir, cls.worker, cls.namespace)
    row = _summary(found, live)
    if not (found.entries or found.name or found.alarm_ms is not None or row["live"]):
        raise UsageError(f"no object {name_or_id!r} of class {class_name}: nothing is stored of it")
    if as_json:
        storage = [{"key": entry.key, "bytes": entry.bytes, "value": _plain(entry.value)} for entry in entries]
        click.echo(json.dumps({**row, "storage": storage}, indent=2, ensure_ascii=False))
        return
    for label in ("id", "name", "live", "keys", "bytes", "alarm", "retries"):
        value = (
            {True: "yes", False: "no", None: "-"}.get(row[label], row[label])
            if label in ("live", "name", "alarm")
            else row[label]
        )
        click.echo(f"{label.capitalize() + ':':9}{value}")
    if entries:
        click.echo()
        rows = [(entry.key, str(entry.bytes), _shortened(entry.value)) for entry in entries]
        _print_table(("Key", "Bytes", "Value"), rows)


def _id_of(cls: StoredClass, name_or_id: str) -> str:
    """An id of the class is meant as such; anything else is a name. Facets have the ids that `list` shows."""
    if cls.namespace.endswith(FACETS):
        return name_or_id
    ids = IdFactory(unique_key(cls.worker, cls.namespace))
    try:
        return ids.from_string(name_or_id).toString()
    except TypeError:
        return ids.from_name(name_or_id).toString()


def _summary(found: stored.StoredObject, live: frozenset[str]) -> dict[str, Any]:
    alarm = None if found.alarm_ms is None else datetime.fromtimestamp(found.alarm_ms / 1000, UTC).isoformat()
    return {
        "id": found.id,
        "name": found.name,
        "live": found.id in live,
        "keys": found.entries,
        "bytes": found.bytes,
        "alarm": alarm,
        "retries": found.retries,
    }


def _plain(value: Any) -> Any:
    """A stored value as JSON has it; what JSON lacks as text."""
    return json.loads(json.dumps(from_wire(value), default=_text, ensure_ascii=False))


def _text(value: object) -> Any:
    if isinstance(value, (set, frozenset)):
        return list(value)
    return bytes(value).hex() if isinstance(value, (bytes, memoryview)) else str(value)


def _shortened(value: Any) -> str:
    text = json.dumps(_plain(value), ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [columns, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
