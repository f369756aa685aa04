"""What became of a worker's classes, as recorded in the data directory: each migration is applied once, in order.

Table.CLASSES: encode(worker) -> the `History`. A configuration continues it or is refused before any of its code
serves: where the data of a class lies follows from the history alone, so a history that changes would lose sight of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from bindings.durable_objects.migrations import Migrated, Migration, migrate
from edge_runtime.config.model import Where
from edge_runtime.errors import ScriptError
from edge_runtime.store import keys
from edge_runtime.store.api import Batch, Snapshot, Table
from edge_runtime.store.records import RecordCodec


class History(msgspec.Struct, frozen=True, array_like=True):
    tags: tuple[str, ...]
    """Of the migrations that were applied, in order."""
    outcome: Migrated


_CODEC: Final[RecordCodec[History]] = RecordCodec(History)


def recorded(snapshot: Snapshot, worker: str) -> History | None:
    data = snapshot.get(Table.CLASSES, keys.encode(worker))
    return None if data is None else _CODEC.decode(data)


def all_recorded(snapshot: Snapshot) -> dict[str, History]:
    return {str(keys.decode(key)[0]): _CODEC.decode(data) for key, data in snapshot.scan(Table.CLASSES)}


def record(batch: Batch, worker: str, history: History) -> None:
    batch.put(Table.CLASSES, keys.encode(worker), _CODEC.encode(history))


def by_migrations(
    past: History | None, migrations: Sequence[Migration], worker: str, where: Where, *, lenient: bool
) -> History:
    """The history once `migrations` are applied, those that were applied before being its beginning.

    ScriptError for others. `lenient`: classes may be added to a migration that was applied, as developers do.
    """
    tags = tuple(migration.tag for migration in migrations)
    outcome = migrate(migrations, where)
    if past is None:
        return History(tags, outcome)
    if not past.tags:
        return History(tags, by_declaration(past, outcome, worker).outcome)
    done = len(past.tags)
    if tags[:done] != past.tags:
        raise ScriptError(
            f"worker {worker}: the migrations {listed(past.tags)} were applied to its Durable Objects, and the "
            f"configuration has {listed(tags)}; allowed are those that were applied, in their order, and new ones "
            "after them: restore them, or begin anew with another data directory or name of the worker"
        )
    begun = migrate(migrations[:done], where)
    if not _same(past.outcome, begun) and not (lenient and _only_adds(past.outcome, begun)):
        raise ScriptError(
            f"worker {worker}: the migrations {listed(past.tags)} were applied once and have left "
            f"{_shown(past.outcome)}; as the configuration has them now they would leave {_shown(begun)}. "
            "A migration does not run again: leave it as it was applied, and add one with a new tag"
        )
    return History(tags, _with_deleted(past, outcome))


def by_declaration(past: History | None, outcome: Migrated, worker: str) -> History:
    """The history once the classes are as `outcome` has them. ScriptError if one of the past is not accounted for."""
    if past is None:
        return History((), outcome)
    now = {made.namespace: (name, made.sqlite) for name, made in outcome.classes.items()}
    for name, made in past.outcome.classes.items():
        found = now.get(made.namespace)
        if found is None and made.namespace not in outcome.deleted:
            raise ScriptError(
                f"worker {worker}: exports does not say what became of the Durable Object class {name}; keep it, or "
                f'add {{"{made.namespace}": {{"type": "durable-object", "state": "renamed", "renamed_to": ...}}}}, or '
                'with "state": "deleted" to delete its objects'
            )
        if found is not None and found[1] != made.sqlite:
            raise ScriptError(
                f"worker {worker}: the storage of the Durable Object class {found[0]} was "
                f'"{_storage(made.sqlite)}" when it was created and cannot become "{_storage(found[1])}"'
            )
    return History(past.tags, _with_deleted(past, outcome))


def _with_deleted(past: History, outcome: Migrated) -> Migrated:
    """The outcome with the namespaces that went earlier, unless one is in use again."""
    used = {made.namespace for made in outcome.classes.values()}
    earlier = (name for name in past.outcome.deleted if name not in used and name not in outcome.deleted)
    return Migrated(outcome.classes, (*earlier, *outcome.deleted))


def _same(past: Migrated, now: Migrated) -> bool:
    return past.classes == now.classes and set(now.deleted) <= set(past.deleted)


def _only_adds(past: Migrated, now: Migrated) -> bool:
    return past.classes.items() <= now.classes.items() and set(now.deleted) <= set(past.deleted)


def listed(tags: Sequence[str]) -> str:
    return ", ".join(tags) or "none"


def _storage(sqlite: bool) -> str:
    return "sqlite" if sqlite else "legacy-kv"


def _shown(outcome: Migrated) -> str:
    classes = sorted(
        f"{name} ({_storage(made.sqlite)}{'' if made.namespace == name else f', created as {made.namespace}'})"
        for name, made in outcome.classes.items()
    )
    return ", ".join(classes) or "no class"
