"""`env`: the object on which a script finds its bindings, and `patch_env`, which overrides them for a while.

A process runs one worker, so there is one `env`; `self.env`, the `env` argument of handlers and `from workers import
env` are it. The isolate fills it: variables and secrets before the script is imported, the other bindings after.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, NoReturn


class Env:
    """A worker's bindings as attributes. Values are plain instance attributes, so access costs nothing."""

    def __init__(self, bindings: Mapping[str, object] | None = None) -> None:
        self.__dict__.update(bindings or {})

    def __getattr__(self, name: str) -> Any:
        # Reached only for names that are absent, declared but not yet filled, or patched.
        overrides = _overrides.get()
        if name in overrides:
            return overrides[name]
        behind = _behind(self)
        if name in behind:
            return behind[name]
        _refuse_missing(self, name)

    def __dir__(self) -> list[str]:
        return sorted(bound_names(self))

    def __repr__(self) -> str:
        return f"<Env {', '.join(sorted(bound_names(self))) or 'without bindings'}>"


class LateBinding:
    """Stands for a declared binding while the script is imported, and becomes it: what is done to this is done to the
    binding once `env` holds it. Before that it can be kept, and nothing else."""

    __slots__ = ("_env", "_name")

    def __init__(self, env: Env, name: str) -> None:
        object.__setattr__(self, "_env", env)
        object.__setattr__(self, "_name", name)

    def _binding(self) -> Any:
        name = self._name
        binding = getattr(self._env, name)
        if isinstance(binding, LateBinding):
            raise RuntimeError(  # noqa: TRY004 - the time is wrong, not the type
                f"env.{name} cannot be used while the script is being imported: there is no event to do it for; "
                "use it in a handler"
            )
        return binding

    def __getattr__(self, name: str) -> Any:
        return getattr(self._binding(), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._binding(), name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._binding()[key]

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._binding()(*args, **options)

    def __repr__(self) -> str:
        return f"<binding {self._name}, not yet available>"


_BEHIND = "_values_behind_the_attributes"
_NONE: Mapping[str, object] = MappingProxyType({})
_overrides: ContextVar[Mapping[str, object]] = ContextVar("env_overrides", default=_NONE)


def _behind(env: Env) -> dict[str, Any]:
    """Values that attribute access must not find by itself: placeholders, and originals of patched names."""
    values: dict[str, Any] = env.__dict__.setdefault(_BEHIND, {})
    return values


def bound_names(env: Env) -> set[str]:
    return {*env.__dict__, *_behind(env), *_overrides.get()} - {_BEHIND}


def fill_env(env: Env, bindings: Mapping[str, object]) -> None:
    """Put bindings in; a name that was declared gets its value."""
    behind = _behind(env)
    for name, binding in bindings.items():
        if name in behind and not isinstance(behind[name], LateBinding):
            behind[name] = binding
        else:
            behind.pop(name, None)
            env.__dict__[name] = binding


def declare_bindings(env: Env, names: Iterable[str]) -> None:
    """Announce bindings that will be filled later, so that a script can say `DB = env.DB` at import."""
    behind = _behind(env)
    for name in names:
        if name not in env.__dict__:
            behind.setdefault(name, LateBinding(env, name))


@contextmanager
def patch_env(d: Mapping[str, Any] | Sequence[tuple[str, Any]] | None = None, **overrides: Any) -> Iterator[None]:
    """Override values of `env` inside the block, for the task that runs it and what it starts there."""
    new = {**dict(d or {}), **overrides}
    behind = _behind(env)
    for name in new:
        if name in env.__dict__:
            behind[name] = env.__dict__.pop(name)
    token = _overrides.set({**_overrides.get(), **new})
    try:
        yield
    finally:
        _overrides.reset(token)


def _refuse_missing(env: Env, name: str) -> NoReturn:
    import difflib

    names = sorted(bound_names(env))
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean env.{near[0]}? " if near else ""
    available = ", ".join(names) if names else "none"
    raise AttributeError(f"env has no binding or variable {name!r}; {hint}Available: {available}", name=name, obj=env)


env = Env()
"""The `env` of the worker that this process runs."""
