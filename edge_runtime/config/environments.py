"""Choosing one environment of a wrangler file: which keys it inherits from the top level and which it must repeat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_runtime.config import keys
from edge_runtime.config.decode import warn, warn_unknown
from edge_runtime.config.model import JsonValue, Where
from edge_runtime.config.wording import names, nearest, quoted, shown
from edge_runtime.errors import ConfigError


@dataclass(frozen=True)
class EnvironmentWhere(Where):
    """A place in `env.NAME`, from which the inherited keys lead back to the top level."""

    inherited: frozenset[str] = frozenset()

    def __truediv__(self, part: str | int) -> Where:
        return Where(self.file, str(part)) if part in self.inherited else Where(self.file, self.at) / part


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for one environment: the values, and where each was written."""

    values: Mapping[str, JsonValue]
    where: Where
    named: bool
    """The environment has a name of its own, which is used as it is."""


def select(raw: Mapping[str, JsonValue], environment: str | None, sections: frozenset[str], file: str) -> Settings:
    """The settings of `environment`, or of the top level for None.

    Warns of unknown and ineffective keys, and of keys that the environment would have to repeat.

    Args:
        sections: the keys that binding kinds read.
    Raises:
        ConfigError: there is no such environment, or `env` is no table of tables.
    """
    top = Where(file)
    environments = _environments(raw, top)
    _warn_of(raw, sections, keys.KNOWN | sections, top)
    if environment is None:
        return Settings(raw, top, named=False)
    own = environments.get(environment)
    if own is None:
        near = nearest(environment, environments)
        known = f"one of {names(environments)}" if environments else "no name: the file has no section env"
        hint = f" (did you mean {quoted(near)}?)" if near else ""
        raise ConfigError(file, "env", f"the wanted environment {quoted(environment)} missing{hint}", known)
    at = top / "env" / environment
    _warn_of(own, sections, (keys.KNOWN | sections) - keys.TOP_ONLY, at)
    # `route` and `routes` are one setting: an environment that has either inherits neither.
    taken = {"route", "routes"} if own.keys() & {"route", "routes"} else set()
    inherited = frozenset(key for key in raw if key in keys.INHERITED and key not in own and key not in taken)
    for key in sorted((raw.keys() & (sections | keys.BINDING_SECTIONS | {"vars"})) - own.keys() - inherited):
        if raw[key]:
            warn(top / key, f"environments do not inherit this, and {at.at} does not repeat it")
    _warn_of_missing_vars(raw.get("vars"), own.get("vars"), at)
    values = {key: raw[key] for key in inherited} | own
    return Settings(values, EnvironmentWhere(file, at.at, inherited), named="name" in own)


def _environments(raw: Mapping[str, JsonValue], top: Where) -> dict[str, dict[str, JsonValue]]:
    section = raw.get("env", {})
    where = top / "env"
    if not isinstance(section, dict):
        raise ConfigError(where.file, where.at, shown(section), "a table of environments by name")
    found: dict[str, dict[str, JsonValue]] = {}
    for name, value in section.items():
        if not isinstance(value, dict):
            raise ConfigError(where.file, (where / name).at, shown(value), "a table of settings")
        found[name] = value
    return found


def _warn_of(values: Mapping[str, JsonValue], sections: frozenset[str], known: frozenset[str], where: Where) -> None:
    for key, value in values.items():
        if key not in known:
            warn_unknown(key, known, where)
        elif key in sections or key in keys.READ or not value:
            continue
        elif key in keys.WITHOUT_EFFECT:
            warn(where / key, f"ignored: {keys.WITHOUT_EFFECT[key]}")
        elif key in keys.BINDING_SECTIONS:
            missing = ", ".join(f"env.{name}" for name in keys.names_in_env(value))
            consequence = f"{missing} will be missing" if missing else "it has no effect"
            warn(where / key, f"no kind of binding here provides this section, so {consequence}")


def _warn_of_missing_vars(top: JsonValue, own: JsonValue, where: Where) -> None:
    if isinstance(top, dict) and isinstance(own, dict):
        for name in top.keys() - own.keys():
            warn(where / "vars", f"vars.{name} of the top level is not repeated here, so env.{name} will be missing")
