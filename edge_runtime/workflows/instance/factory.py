"""Makes the instances of one workflow."""

from __future__ import annotations

from dataclasses import replace

from edge_runtime.actors.api import ActorAddress, ActorContext
from edge_runtime.limits import INSTANCE_IDLE_MS
from edge_runtime.workflows.attempts.interception import Interceptor
from edge_runtime.workflows.driver.shared_tasks import SharedTasks
from edge_runtime.workflows.instance.actor import DeathOf, WorkflowInstance
from edge_runtime.workflows.instance.definition import WorkflowDefinition
from edge_runtime.workflows.instance.slots import Slots


def _no_death(_: ActorAddress) -> None:
    pass


class WorkflowFactory:
    """`actors.api.BodyFactory` of one workflow. `idle_ms`: how long an instance that waits stays in memory; `slots`:
    who may run, where that is limited."""

    def __init__(
        self,
        definition: WorkflowDefinition,
        idle_ms: int = INSTANCE_IDLE_MS,
        slots: Slots | None = None,
        death_of: DeathOf = _no_death,
    ) -> None:
        self._definition = definition
        self.idle_ms = idle_ms
        self._slots = slots
        self._death_of = death_of
        self._tasks = SharedTasks()

    def intercepted(self, interceptor: Interceptor, idle_ms: int) -> WorkflowFactory:
        """The same workflow with an interceptor, and another time in memory."""
        return WorkflowFactory(replace(self._definition, interceptor=interceptor), idle_ms, self._slots, self._death_of)

    def __call__(self, context: ActorContext) -> WorkflowInstance:
        return WorkflowInstance(context, self._definition, self.idle_ms, self._slots, self._tasks, self._death_of)
