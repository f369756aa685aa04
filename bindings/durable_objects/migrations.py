"""The `migrations` section: which classes a worker has had, and where the data of today's classes lies. Pure.

A namespace is created with a class, keeps its data when the class is renamed, and ends when the class is deleted. It
is named after the class that it was created for; a class created again gets a name of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from edge_runtime.config.model import Where
from edge_runtime.errors import ConfigError

NO_TRANSFERS: Final = "none: objects stay with the worker that has created them; others reach them by script_name"


class Renamed(msgspec.Struct, frozen=True):
    from_: str = msgspec.field(name="from")
    to: str


class Migration(msgspec.Struct, frozen=True):
    """One item of `migrations`; applied in order."""

    tag: str
    new_classes: tuple[str, ...] = ()
    new_sqlite_classes: tuple[str, ...] = ()
    renamed_classes: tuple[Renamed, ...] = ()
    deleted_classes: tuple[str, ...] = ()
    transferred_classes: tuple[Any, ...] = ()


class MigratedClass(msgspec.Struct, frozen=True, array_like=True):
    namespace: str
    sqlite: bool


class Migrated(msgspec.Struct, frozen=True, array_like=True):
    """The outcome of all migrations."""

    classes: dict[str, MigratedClass]
    """Today's classes by name."""
    deleted: tuple[str, ...] = ()
    """Namespaces whose data is to go."""


def migrate(migrations: Sequence[Migration], where: Where) -> Migrated:
    """Follow the migrations. Raises ConfigError for one that contradicts those before it."""
    classes: dict[str, MigratedClass] = {}
    deleted: list[str] = []
    taken: set[str] = set()
    tags: set[str] = set()
    for index, migration in enumerate(migrations):
        place = where / index
        if migration.tag in tags:
            raise _error(place / "tag", f"the tag {migration.tag!r} a second time", "tags that differ")
        tags.add(migration.tag)
        if migration.transferred_classes:
            raise _error(place / "transferred_classes", "classes of another script", NO_TRANSFERS)
        for key, sqlite in (("new_classes", False), ("new_sqlite_classes", True)):
            for number, name in enumerate(getattr(migration, key)):
                if name in classes:
                    raise _error(place / key / number, f"{name!r}, which exists already", "names of new classes")
                namespace = name if name not in taken else f"{name}@{migration.tag}"
                taken.add(namespace)
                classes[name] = MigratedClass(namespace, sqlite)
        for number, renamed in enumerate(migration.renamed_classes):
            at = place / "renamed_classes" / number
            if renamed.from_ not in classes:
                raise _error(at / "from", f"{renamed.from_!r}", _known(classes))
            if renamed.to in classes:
                raise _error(at / "to", f"{renamed.to!r}, which exists already", "a name that no class has")
            classes[renamed.to] = classes.pop(renamed.from_)
        for number, name in enumerate(migration.deleted_classes):
            if name not in classes:
                raise _error(place / "deleted_classes" / number, f"{name!r}", _known(classes))
            deleted.append(classes.pop(name).namespace)
    return Migrated(classes, tuple(deleted))


def _known(classes: dict[str, MigratedClass]) -> str:
    names = ", ".join(sorted(classes))
    return f"a class of an earlier migration ({names})" if names else "a class of an earlier migration (there is none)"


def _error(place: Where, found: str, allowed: str) -> ConfigError:
    return ConfigError(place.file, place.at, found, allowed)
