"""Which data directory and which workflow a command means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bindings.kind import load_kinds
from bindings.workflows.kind import WorkflowSpec
from edge_runtime.config.load import load_config
from edge_runtime.errors import ConfigError, UsageError
from edge_runtime.store.api import Snapshot
from edge_runtime.workflows.stored import instances


@dataclass(frozen=True, slots=True)
class Workflow:
    worker: str
    name: str
    class_name: str | None = None
    """None where only the data directory knows of it."""


@dataclass(frozen=True, slots=True)
class Place:
    data_dir: Path
    worker: str | None
    configured: tuple[Workflow, ...]
    """By the configuration file, if there is one."""

    @classmethod
    def of(cls, data_dir: Path | None, config: Path | None, environment: str | None, worker: str | None) -> Place:
        folder = Path.cwd() if config is None else config if config.is_dir() else config.parent
        directory = (data_dir or folder / ".edge").resolve()
        try:
            loaded = load_config(config or folder, load_kinds(), environment=environment)
        except ConfigError:
            # A data directory is enough, unless a configuration was asked for.
            if config is not None or environment is not None:
                raise
            return cls(directory, worker, ())
        specs = (binding.spec for binding in loaded.bindings if isinstance(binding.spec, WorkflowSpec))
        configured = tuple(Workflow(spec.worker, spec.workflow, spec.class_name) for spec in specs)
        return cls(directory, worker, configured)

    def find(self, name: str, snapshot: Snapshot) -> Workflow:
        """The workflow of a name; UsageError if there is none or more than one."""
        known = list(known_workflows(self, snapshot))
        found = [workflow for workflow in known if workflow.name == name]
        if not found and self.worker is not None and instances.is_workflow_name(name):
            return Workflow(self.worker, name)
        if len(found) == 1:
            return found[0]
        if found:
            workers = ", ".join(workflow.worker for workflow in found)
            raise UsageError(f"several workers have a workflow {name}: {workers}; choose one with --worker")
        names = ", ".join(sorted({workflow.name for workflow in known})) or "none"
        raise UsageError(
            f"Workflow {name!r} not found: neither the configuration here nor {self.data_dir} has it; known: {names}. "
            "Name its worker with --worker to create the first instance of a deployed workflow"
        )


def known_workflows(place: Place, snapshot: Snapshot) -> Iterator[Workflow]:
    """Those of the configuration, then those with instances; of `place.worker` only, if it is given."""
    seen = set()
    stored = (Workflow(*pair) for pair in instances.workflows(snapshot))
    for workflow in (*place.configured, *stored):
        identity = (workflow.worker, workflow.name)
        if identity not in seen and place.worker in (None, workflow.worker):
            seen.add(identity)
            yield workflow
