"""One execution of a script's `run` from the top: what it is given, and what its end tells the engine."""

from __future__ import annotations

from typing import Any

import trio

from edge_runtime.event import EventContext
from edge_runtime.workers.context import ExecutionContext
from edge_runtime.workers.conversion import from_wire
from edge_runtime.workers.exports import relaxed_call_args
from edge_runtime.workflows.core.effects import RunRaised, RunReturned
from edge_runtime.workflows.core.journal import Created
from edge_runtime.workflows.driver.driver import Driver
from edge_runtime.workflows.instance.definition import WorkflowDefinition
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.script.branches import Branch, current_branch, observe_tasks
from edge_runtime.workflows.script.errors import fatal, record_of
from edge_runtime.workflows.script.steps import WorkflowStep


async def run_script(
    definition: WorkflowDefinition, id: str, event: EventContext, driver: Driver, created: Created
) -> RunReturned | RunRaised:
    """Returns how it has ended."""
    current_branch.set(Branch())
    if event.flavour.name == "trio":
        observe_tasks()
    try:
        output = await event.run(_call_run, definition, id, event, driver, created)
        return RunReturned(payloads.encode(output))
    except trio.Cancelled:
        raise
    except BaseExceptionGroup as group:
        cancelled, rest = group.split(trio.Cancelled)
        if cancelled is not None:
            raise cancelled from None
        assert rest is not None, "a group is not empty"
        return RunRaised(record_of(rest))
    except BaseException as error:
        return RunRaised(record_of(error))


def _call_run(definition: WorkflowDefinition, id: str, event: EventContext, driver: Driver, created: Created) -> Any:
    given: dict[str, Any] = {
        "payload": payloads.decode_plain(created.params),
        "timestamp": payloads.instant(created.at_ms),
        "instanceId": id,
        "workflowName": definition.name,
    }
    if created.cron:
        given["schedule"] = {"cron": created.cron, "scheduledTime": created.scheduled_ms}
    entrypoint = definition.entrypoint(ExecutionContext(event), definition.env)
    run = getattr(entrypoint, "run", None)
    if not callable(run):
        raise fatal(f"the class of workflow {definition.name} has no method run")
    step = WorkflowStep(driver, implicit=definition.implicit_dependencies)
    return run(*relaxed_call_args(run, (from_wire(given), step)))
