"""Workflows as a kind of binding: `workflows` in the configuration, a WorkflowNamespace in env."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, Literal

import msgspec
import trio

from bindings.kind import BindingRuntime
from bindings.workflows.access import WorkflowAccess
from bindings.workflows.namespace import WorkflowNamespace
from bindings.workflows.starts import Starts
from edge_runtime.actors.api import ActorKind
from edge_runtime.config.cron import CronError
from edge_runtime.config.cron import parse as parse_cron
from edge_runtime.config.decode import decode
from edge_runtime.config.model import Binding, Where, WorkerConfig
from edge_runtime.errors import ConfigError, ScriptError
from edge_runtime.limits import RUNNING_INSTANCES_MAX, STEPS_DEFAULT, STEPS_MAX, WORKFLOW_NAME_MAX
from edge_runtime.promise import Promise
from edge_runtime.workers.entrypoints import WorkflowEntrypoint
from edge_runtime.workflows.control.schedules import keep_schedules, register_schedules
from edge_runtime.workflows.instance.actor import Poke
from edge_runtime.workflows.instance.definition import WorkflowDefinition
from edge_runtime.workflows.instance.factory import WorkflowFactory
from edge_runtime.workflows.instance.slots import Slots
from edge_runtime.workflows.stored import instances
from edge_runtime.workflows.stored.instances import InstanceRecord, Status

_SECTION: Final = "workflows"
_IMPLICIT_FROM: Final = "2026-02-25"  # CF: python_workflows_implicit_dependencies


class LimitsSection(msgspec.Struct, frozen=True):
    steps: int = STEPS_DEFAULT


class ConcurrencySection(msgspec.Struct, frozen=True):
    limit: int


class WorkflowSection(msgspec.Struct, frozen=True):
    """One item of `workflows`. `remote` is read and has no effect: the instances are always here."""

    binding: str
    name: str
    class_name: str
    script_name: str | None = None
    limits: LimitsSection = LimitsSection()
    concurrency: ConcurrencySection | None = None
    schedules: str | list[str] | None = None
    drift: Literal["strict", "lenient"] | None = None
    """Ours: of this workflow, where it is not that of `[edge]`."""
    version: Literal["newest", "pinned"] | None = None
    """Ours: of this workflow, where it is not `workflow_version` of `[edge]`."""
    remote: bool | None = None


class WorkflowSpec(msgspec.Struct, frozen=True):
    worker: str
    """Whose script holds the class."""
    workflow: str
    class_name: str
    steps_max: int
    running_max: int | None = None
    """How many instances run at once; None: any number."""
    crons: tuple[str, ...] = ()
    drift: Literal["strict", "lenient"] | None = None
    version: Literal["newest", "pinned"] | None = None


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
            running_max = None if item.concurrency is None else item.concurrency.limit
            if running_max is not None and not 1 <= running_max <= RUNNING_INSTANCES_MAX:
                allowed = f"1 to {RUNNING_INSTANCES_MAX}"
                raise _wrong(place / "concurrency" / "limit", str(running_max), allowed)
            crons = _read_crons(item.schedules, place / "schedules")
            owner = item.script_name or worker
            if owner != worker and crons:
                raise _wrong(place / "schedules", "schedules of another worker's workflow", "those in its own worker")
            if owner != worker and item.version is not None:
                allowed = "a setting in its own worker"
                raise _wrong(place / "version", "the version of another worker's workflow", allowed)
            yield Binding(
                self.name,
                item.binding,
                WorkflowSpec(
                    owner, item.name, item.class_name, item.limits.steps, running_max, crons, item.drift, item.version
                ),
            )

    def offered(self, binding: Binding, worker: str) -> Iterable[tuple[str, str, str]]:
        spec = binding.spec
        if isinstance(spec, WorkflowSpec) and spec.worker == worker:
            yield ActorKind.WORKFLOW.value, spec.workflow, spec.workflow

    def pins(self, binding: Binding, config: WorkerConfig) -> bool:
        spec = binding.spec
        assert isinstance(spec, WorkflowSpec), "the record that parse made"
        return spec.worker == config.name and (spec.version or config.workflow_version) == "pinned"

    def build(self, binding: Binding, runtime: BindingRuntime) -> WorkflowNamespace:
        spec, worker = binding.spec, runtime.worker
        assert isinstance(spec, WorkflowSpec), "the record that parse made"
        check = None
        # Without a version, as in tests, there is nothing to pin to.
        pins = self.pins(binding, worker) and worker.pinned is None and runtime.version != ""
        if spec.worker == worker.name:
            self._register(spec, runtime, pins=pins)
        if spec.worker != worker.name or worker.pinned is not None:
            check = partial(runtime.neighbours.namespace, spec.worker, ActorKind.WORKFLOW, spec.workflow)
        access = WorkflowAccess(
            spec.worker,
            spec.workflow,
            store=runtime.store,
            clock=runtime.clock,
            random=runtime.random,
            actors=runtime.actors,
            version=runtime.version if check is None else "",
        )
        return WorkflowNamespace(access, pins=pins, check=check)

    def _register(self, spec: WorkflowSpec, runtime: BindingRuntime, *, pins: bool) -> None:
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
            strict=(spec.drift or runtime.worker.drift) == "strict",
            version=runtime.version,
            pins=pins,
            tell=runtime.actors.timers_changed,
        )
        slots = None if spec.running_max is None else _slots(spec, spec.running_max, runtime)
        factory = WorkflowFactory(definition, slots=slots, death_of=runtime.actors.death_of)
        runtime.actors.register(runtime.worker.address, ActorKind.WORKFLOW, spec.workflow, factory)
        if runtime.worker.pinned is None:
            register_schedules(runtime.actors, spec.worker, spec.workflow, spec.crons, runtime.version)

    async def serve(self, bindings: Sequence[Binding], runtime: BindingRuntime) -> None:
        """Keep the schedules, and go on at once with the instances that ran when their isolate ended; their timers
        would come later."""
        specs = [
            binding.spec
            for binding in bindings
            if isinstance(binding.spec, WorkflowSpec) and binding.spec.worker == runtime.worker.name
        ]
        if runtime.worker.pinned is None:
            wanted = {spec.workflow: spec.crons for spec in specs}
            await keep_schedules(runtime.store, runtime.clock, runtime.worker.name, wanted)
        runtime.actors.timers_changed()
        starts = [
            Starts(runtime.actors, runtime.store, runtime.clock, spec.worker, spec.workflow)
            for spec in specs
            if _all_begin(spec, runtime)
        ]
        async with trio.open_nursery() as nursery:
            while specs:
                for spec in specs:
                    for id in _interrupted(spec, runtime):
                        address = instances.address_of(runtime.worker.address, spec.workflow, id)
                        if runtime.actors.owns(address):
                            runtime.actors.deliver(address, Poke())
                for started in starts:
                    nursery.start_soon(started.begin_queued)
                await runtime.actors.moved()


def _all_begin(spec: WorkflowSpec, runtime: BindingRuntime) -> bool:
    """Whether all queued instances may begin here."""
    return spec.running_max is None and runtime.worker.pinned is None


def _interrupted(spec: WorkflowSpec, runtime: BindingRuntime) -> list[str]:
    """The instances to go on with, in their order: what ran, what was to go on or was stopped for its drift by another
    version, and what had not begun, where `Starts` does not see to that. Where their number is limited, no more of the
    last than may run; the others follow when those are done."""
    now_ms = runtime.clock.now_ms()
    with runtime.store.snapshot() as snapshot:

        def those(status: Status) -> Iterator[tuple[str, InstanceRecord]]:
            found = instances.scan(snapshot, spec.worker, spec.workflow, status, reverse=True)
            return ((id, record) for id, record in found if _runs_here(runtime, record))

        found = [id for status in (Status.RUNNING, Status.WAITING_FOR_PAUSE) for id, _ in those(status)]
        fresh: list[str] = []
        for id, record in those(Status.QUEUED):
            if record.started_ms is not None:
                found.append(id)
            elif (
                not _all_begin(spec, runtime)
                and record.not_before_ms <= now_ms
                and (spec.running_max is None or len(fresh) < spec.running_max)
            ):
                fresh.append(id)
        for id, record in those(Status.PAUSED):
            if record.stopped_version not in (None, runtime.version):
                found.append(id)
    return found + fresh


def _slots(spec: WorkflowSpec, running_max: int, runtime: BindingRuntime) -> Slots:
    def wake(id: str) -> Promise[object]:
        return runtime.actors.deliver(instances.address_of(runtime.worker.address, spec.workflow, id), Poke())

    runs_here = partial(_runs_here, runtime)
    return Slots(running_max, runtime.store, runtime.clock, spec.worker, spec.workflow, wake, runs_here)


def _runs_here(runtime: BindingRuntime, record: InstanceRecord) -> bool:
    """Whether the isolates of this version run the instance, rather than those of one that it is pinned to."""
    return runtime.worker.pinned == (record.version if record.pinned else None)


def _read_crons(given: str | list[str] | None, place: Where) -> tuple[str, ...]:
    crons = [given] if isinstance(given, str) else given or []
    for index, cron in enumerate(crons):
        where = place if isinstance(given, str) else place / index
        try:
            parse_cron(cron)
        except CronError as error:
            raise _wrong(where, f'"{cron}": {error.found}', error.allowed) from None
        if not instances.is_addressable(cron):
            raise _wrong(where, f'the string "{cron}"', "a cron expression in plain characters and spaces")
    return tuple(dict.fromkeys(crons))


def _wrong(where: Where, found: str, allowed: str) -> ConfigError:
    return ConfigError(where.file, where.at, found, allowed)
