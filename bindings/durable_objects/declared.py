"""The `exports` section, the declarative form of `migrations`: what each class is now, with tombstones for those that
were. Pure. Source: workers-utils config/environment.ts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from bindings.durable_objects.migrations import NO_TRANSFERS, Migrated, MigratedClass
from edge_runtime.config.decode import warn
from edge_runtime.config.model import Where
from edge_runtime.errors import ConfigError

DURABLE_OBJECT: Final = "durable-object"


class Declared(msgspec.Struct, frozen=True):
    """One entry of `exports`; those of other types than "durable-object" say nothing about storage."""

    type: str
    state: Literal["created", "deleted", "renamed", "transferred", "expecting-transfer"] = "created"
    storage: Literal["sqlite", "legacy-kv"] | None = None
    renamed_to: str | None = None
    transferred_to: str | None = None
    transfer_from: str | None = None
    container: str | None = None
    cache: Any = None


def declared(entries: Mapping[str, Declared], where: Where) -> Migrated:
    """The classes as the entries leave them. A namespace has the first name of its class. ConfigError for entries
    that contradict each other."""
    own = {name: entry for name, entry in entries.items() if entry.type == DURABLE_OBJECT}
    live: dict[str, bool] = {}
    first: dict[str, str] = {}
    for name, entry in own.items():
        place = where / name
        if entry.state in ("transferred", "expecting-transfer"):
            raise _error(place / "state", f'the string "{entry.state}"', f"created, deleted or renamed; {NO_TRANSFERS}")
        if entry.state == "created":
            if entry.storage is None:
                raise _error(place, "no storage", 'storage "sqlite" or "legacy-kv"')
            if entry.container is not None:
                warn(place / "container", "containers are not run here; ctx.container is None")
            live[name] = entry.storage == "sqlite"
    for name, entry in own.items():
        if entry.state == "renamed":
            target = entry.renamed_to
            if target not in live:
                known = ", ".join(sorted(live)) or "there is none"
                raise _error(where / name / "renamed_to", repr(target), f"a class that is declared here ({known})")
            if target in first:
                raise _error(where / name / "renamed_to", repr(target), f"a class that {first[target]} does not become")
            first[target] = name
    return Migrated(
        {name: MigratedClass(first.get(name, name), sqlite) for name, sqlite in live.items()},
        tuple(name for name, entry in own.items() if entry.state == "deleted"),
    )


def _error(place: Where, found: str, allowed: str) -> ConfigError:
    return ConfigError(place.file, place.at, found, allowed)
