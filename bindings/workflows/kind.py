"""Workflows as a kind of binding: `workflows` in the configuration, a WorkflowNamespace in env."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from bindings.kind import BindingRuntime
from bindings.workflows.namespace import WorkflowNamespace
from edge_runtime.actors.api import ActorKind
from edge_runtime.config.decode import decode, warn
from edge_runtime.config.model import Binding, Where
from edge_runtime.errors import ConfigError, ScriptError
from edge_runtime.limits import STEPS_DEFAULT, STEPS_MAX, WORKFLOW_NAME_MAX
from edge_runtime.workers.entrypoints import WorkflowEntrypoint
from edge_runtime.workflows import instances
from edge_runtime.workflows.instance import Poke, WorkflowDefinition, WorkflowFactory
from edge_runtime.workflows.instances import Status

_SECTION: Final = "workflows"
_IMPLICIT_FROM: Final = "2026-02-25"  # CF: python_workflows_implicit_dependencies


class LimitsSection(msgspec.Struct, frozen=True):
    steps: int = STEPS_DEFAULT


class WorkflowSection(msgspec.Struct, frozen=True):
    """One item of `workflows`. `remote` is read and has no effect: the instances are always here."""

    binding: str
    name: str
    class_name: str
    script_name: str | None = None
    limits: LimitsSection = LimitsSection()
    schedules: str | list[str] | None = None
    remote: bool | None = None


class WorkflowSpec(msgspec.Struct, frozen=True):
    worker: str
    """Whose script holds the class."""
    workflow: str
    class_name: str
    steps_max: int


class WorkflowsKind:
    name = "workflows"
    sections = (_SECTION,)

    def parse(self, sections: Mapping[str, object], worker: str, where: Where) -> Iterable[Binding]:
        if _SECTION not in sections:
            return
        items = decode(sections[_SECTION], list[WorkflowSection], where / _SECTION)
        seen: set[str] = set()
        for index, item in enumerate(items):
            place = where / _SECTION / index
            if not item.binding.isidentifier():
                raise _wrong(place / "binding", f'the string "{item.binding}"', "a name that Python can spell")
            if not instances.is_workflow_name(item.name):
                raise _wrong(
                    place / "name",
                    f'the string "{item.name}"',
                    f"1 to {WORKFLOW_NAME_MAX} letters, digits, hyphens and underscores, not beginning with a hyphen",
                )
            if item.name in seen:
                raise _wrong(place / "name", f'"{item.name}" a second time', "a name of its own for each workflow")
            seen.add(item.name)
            if not 1 <= item.limits.steps <= STEPS_MAX:
                raise _wrong(place / "limits" / "steps", str(item.limits.steps), f"1 to {STEPS_MAX}")
            if item.schedules:
                warn(place / "schedules", "schedules of workflows are not run; use triggers.crons and create instances")
            owner = item.script_name or worker
            yield Binding(self.name, item.binding, WorkflowSpec(owner, item.name, item.class_name, item.limits.steps))

    def offered(self, binding: Binding, worker: str) -> Iterable[tuple[str, str, str]]:
        spec = binding.spec
        if isinstance(spec, WorkflowSpec) and spec.worker == worker:
            yield ActorKind.WORKFLOW.value, spec.workflow, spec.workflow

    def build(self, binding: Binding, runtime: BindingRuntime) -> WorkflowNamespace:
        spec = binding.spec
        assert isinstance(spec, WorkflowSpec), "the record that parse made"
        check = None
        if spec.worker == runtime.worker.name:
            self._register(spec, runtime)
        else:
            check = partial(runtime.neighbours.namespace, spec.worker, ActorKind.WORKFLOW, spec.workflow)
        return WorkflowNamespace(
            spec.worker,
            spec.workflow,
            store=runtime.store,
            clock=runtime.clock,
            random=runtime.random,
            actors=runtime.actors,
            version=runtime.version if check is None else "",
            check=check,
        )

    def _register(self, spec: WorkflowSpec, runtime: BindingRuntime) -> None:
        entrypoint = runtime.exports.get(spec.class_name)
        if entrypoint is None or not issubclass(entrypoint, WorkflowEntrypoint):
            known = sorted(name for name, kind in runtime.exports.items() if issubclass(kind, WorkflowEntrypoint))
            raise ScriptError(
                f"workflow {spec.workflow} of worker {spec.worker} names the class {spec.class_name}, which the script "
                f"does not define as a WorkflowEntrypoint; it defines {', '.join(known) or 'none'}"
            )
        definition = WorkflowDefinition(
            spec.workflow,
            entrypoint,
            runtime.env,
            implicit_dependencies=runtime.worker.flag(
                "python_workflows_implicit_dependencies", _IMPLICIT_FROM, "no_python_workflows_implicit_dependencies"
            ),
            steps_max=spec.steps_max,
        )
        runtime.actors.register(spec.worker, ActorKind.WORKFLOW, spec.workflow, WorkflowFactory(definition))

    async def serve(self, bindings: Sequence[Binding], runtime: BindingRuntime) -> None:
        """Go on at once with the instances that ran when their isolate ended; their timers would come later."""
        own = [
            binding.spec
            for binding in bindings
            if isinstance(binding.spec, WorkflowSpec) and binding.spec.worker == runtime.worker.name
        ]
        while own:
            for spec in own:
                with runtime.store.snapshot() as snapshot:
                    left = [
                        instances.address_of(spec.worker, spec.workflow, id)
                        for status in (Status.RUNNING, Status.QUEUED)
                        for id, _ in instances.scan(snapshot, spec.worker, spec.workflow, status, reverse=True)
                    ]
                for address in left:
                    if runtime.actors.owns(address):
                        runtime.actors.deliver(address, Poke())
            await runtime.actors.moved()


def _wrong(where: Where, found: str, allowed: str) -> ConfigError:
    return ConfigError(where.file, where.at, found, allowed)
