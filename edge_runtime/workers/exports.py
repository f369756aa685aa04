"""What a script exports: its entrypoint classes, their methods, its global handlers, and how to call them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import FunctionType, MethodType, ModuleType
from typing import Any

from edge_runtime.workers.entrypoints import DurableObject, WorkerEntrypoint, WorkflowEntrypoint

GLOBAL_HANDLERS = ("fetch", "scheduled", "queue", "alarm", "trace", "tail", "pubsub", "email", "test")
_NOT_RPC = frozenset({"fetch", "connect", "dup", "constructor"})
_NOT_RPC_OF_OBJECTS = _NOT_RPC | {"alarm", "webSocketMessage", "webSocketClose", "webSocketError"}


@dataclass(frozen=True, slots=True)
class Exports:
    """The classes of a script by class name, and its global handlers by event (`fetch` for `on_fetch`)."""

    workers: Mapping[str, type[WorkerEntrypoint]] = field(default_factory=dict)
    objects: Mapping[str, type[DurableObject]] = field(default_factory=dict)
    workflows: Mapping[str, type[WorkflowEntrypoint]] = field(default_factory=dict)
    global_handlers: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    ignored_handlers: tuple[str, ...] = ()
    """Global handlers that the script defines and the compatibility date switches off."""

    @property
    def default(self) -> type[WorkerEntrypoint] | None:
        return self.workers.get("Default")

    @property
    def handlers(self) -> frozenset[str]:
        """The events that the default entrypoint handles."""
        if self.global_handlers:
            return frozenset(self.global_handlers)
        default = self.default
        return frozenset(name for name in GLOBAL_HANDLERS if default is not None and hasattr(default, name))


def discover(module: ModuleType, *, global_handlers_allowed: bool) -> Exports:
    """Find what the imported main module of a worker exports.

    Looked at are its public names, or `__all__`; a class counts under its own name, wherever it was defined.
    TypeError if both a default class and global handlers are defined.
    """
    names = getattr(module, "__all__", None)
    public = [name for name in (vars(module) if names is None else names) if not name.startswith("_")]
    workers: dict[str, type[WorkerEntrypoint]] = {}
    objects: dict[str, type[DurableObject]] = {}
    workflows: dict[str, type[WorkflowEntrypoint]] = {}
    for name in public:
        value = getattr(module, name)
        if not isinstance(value, type):
            continue
        if issubclass(value, WorkerEntrypoint) and value is not WorkerEntrypoint:
            workers[value.__name__] = value
        elif issubclass(value, DurableObject) and value is not DurableObject:
            objects[value.__name__] = value
        elif issubclass(value, WorkflowEntrypoint) and value is not WorkflowEntrypoint:
            workflows[value.__name__] = value
    found = {event: function for event in GLOBAL_HANDLERS if callable(function := getattr(module, f"on_{event}", None))}
    if not global_handlers_allowed:
        return Exports(workers, objects, workflows, {}, tuple(f"on_{event}" for event in found))
    if found and "Default" in workers:
        raise TypeError("Cannot define multiple default entrypoints")
    return Exports(workers, objects, workflows, found)


@lru_cache(maxsize=256)
def rpc_methods(cls: type) -> frozenset[str]:
    """Names that callers may call on an entrypoint or Durable Object: public plain functions, inherited ones too."""
    reserved = _NOT_RPC_OF_OBJECTS if issubclass(cls, DurableObject) else _NOT_RPC
    return frozenset(
        name
        for name in dir(cls)
        if not name.startswith("_")
        and name not in reserved
        and isinstance(inspect.getattr_static(cls, name), FunctionType)
    )


@lru_cache(maxsize=256)
def sync_methods(cls: type) -> frozenset[str]:
    """Those of `rpc_methods` that are not async."""
    return frozenset(
        name for name in rpc_methods(cls) if not inspect.iscoroutinefunction(inspect.getattr_static(cls, name))
    )


def relaxed_call_args(fn: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The leading `args` that `fn` can take by position; surplus ones are dropped."""
    capacity = positional_capacity(fn.__func__) - 1 if isinstance(fn, MethodType) else positional_capacity(fn)
    return args if capacity >= len(args) else args[:capacity]


@lru_cache(maxsize=1024)
def positional_capacity(fn: Callable[..., Any]) -> int:
    """How many positional arguments a function takes; found once for each function."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return 1 << 16
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return 1 << 16
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in positional for parameter in parameters)
