"""What is tested: a worker's folder, its configuration, or classes of the test itself."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bindings.kind import load_kinds
from edge_runtime.compat.install import install_modules
from edge_runtime.config.load import load_config
from edge_runtime.config.model import JsonValue, Where, WorkerConfig, WorkerLimits
from edge_runtime.errors import UsageError
from edge_runtime.isolate.script.loader import LoadedScript, load_script
from edge_runtime.workers.entrypoints import DurableObject, WorkerEntrypoint, WorkflowEntrypoint
from edge_runtime.workers.environment import env, fill_env
from edge_runtime.workers.exports import Exports

Subject = str | Path | WorkerConfig | type[Any] | Sequence[type[Any]]
"""A folder (or a wrangler file), a configuration, a class, or several classes.

Classes are bound by their names: `class OrderFlow(WorkflowEntrypoint)` is env.ORDER_FLOW and the workflow "order-flow",
`class Stock(DurableObject)` is env.STOCK. A WorkerEntrypoint among them serves the requests.
"""

_NAME = "worker-under-test"


@dataclass(frozen=True, slots=True)
class Script:
    """A worker that is loaded. `begin` makes its `env` new, as each process has it."""

    config: WorkerConfig
    loaded: LoadedScript

    def begin(self) -> None:
        env.__dict__.clear()
        fill_env(env, {**self.config.vars, **self.config.secrets})

    @property
    def exports(self) -> dict[str, type[Any]]:
        exports = self.loaded.exports
        return {**exports.workers, **exports.objects, **exports.workflows}


@contextmanager
def open_script(
    subject: Subject, *, variables: Mapping[str, JsonValue] | None = None, kv: Sequence[str] = ()
) -> Iterator[Script]:
    """Load the worker. Afterwards its modules can be imported anew, and `env` is what it was."""
    install_modules()
    path, modules, names = list(sys.path), set(sys.modules), dict(env.__dict__)
    env.__dict__.clear()
    try:
        yield _load(subject, variables or {}, kv)
    finally:
        sys.path[:] = path
        env.__dict__.clear()
        env.__dict__.update(names)
        folder = _folder(subject)
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if folder is not None and file is not None and Path(file).resolve().is_relative_to(folder):
                del sys.modules[name]


def _folder(subject: Subject) -> Path | None:
    if isinstance(subject, WorkerConfig):
        return subject.root.resolve()
    if isinstance(subject, str | Path):
        path = Path(subject).resolve()
        return path if path.is_dir() else path.parent
    return None


def _load(subject: Subject, variables: Mapping[str, JsonValue], kv: Sequence[str]) -> Script:
    if isinstance(subject, str | Path | WorkerConfig):
        if kv:
            raise UsageError("kv= names the KV bindings of classes; those of a folder are in its wrangler file")
        config = subject if isinstance(subject, WorkerConfig) else load_config(Path(subject), load_kinds())
        config = replace(config, vars={**config.vars, **variables})
        if config.main is not None:
            sys.path.insert(0, str(config.main.parent))
        return Script(config, load_script(config))
    classes = [subject] if isinstance(subject, type) else list(subject)
    return _of_classes(classes, variables, kv)


def _of_classes(classes: Sequence[type[Any]], variables: Mapping[str, JsonValue], kv: Sequence[str]) -> Script:
    workflows = {kind.__name__: kind for kind in classes if issubclass(kind, WorkflowEntrypoint)}
    objects = {kind.__name__: kind for kind in classes if issubclass(kind, DurableObject)}
    served = [kind for kind in classes if issubclass(kind, WorkerEntrypoint)]
    workers = {"Default": served[0]} if served else {}
    if len(workflows) + len(objects) + len(workers) != len(classes):
        raise UsageError(
            "a worker under test is made of classes of different names that derive from WorkflowEntrypoint or "
            f"DurableObject, and at most one WorkerEntrypoint; found {', '.join(kind.__name__ for kind in classes)}"
        )
    sections: dict[str, object] = {
        "workflows": [
            {"binding": binding_name(name), "name": binding_name(name).lower().replace("_", "-"), "class_name": name}
            for name in workflows
        ],
        "kv_namespaces": [{"binding": name} for name in kv],
    }
    if objects:
        sections["durable_objects"] = {
            "bindings": [{"name": binding_name(name), "class_name": name} for name in objects]
        }
        sections["migrations"] = [{"tag": "v1", "new_sqlite_classes": list(objects)}]
    where = Where("the classes of the test")
    found = []
    for kind in load_kinds():
        present = {name: sections[name] for name in kind.sections if name in sections}
        if present:
            found += list(kind.parse(present, _NAME, where))
    config = WorkerConfig(
        name=_NAME,
        environment=None,
        file=Path(where.file),
        root=Path(),
        main=None,
        compatibility_date="2026-05-01",
        compatibility_flags=frozenset(),
        flavour="trio",
        vars=dict(variables),
        secrets={},
        bindings=tuple(found),
        crons=(),
        routes=(),
        limits=WorkerLimits(cpu_ms=30_000, subrequests=10_000, blocked_ms=30_000),
    )
    return Script(
        config, LoadedScript(sys.modules.get(classes[0].__module__), Exports(workers, objects, workflows), env)
    )


def binding_name(class_name: str) -> str:
    """OrderFlow is bound as ORDER_FLOW."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", class_name).upper()
