"""JavaScript modules of the runtime that scripts import by name."""

from __future__ import annotations

from types import SimpleNamespace

from edge_runtime.workers.context import waitUntil
from edge_runtime.workers.entrypoints import DurableObject, WorkerEntrypoint, WorkflowEntrypoint
from edge_runtime.workers.environment import env
from edge_runtime.workers.workflows import NonRetryableError


def import_from_javascript(module_name: str) -> SimpleNamespace:
    """The named module. ImportError for one that does not exist here."""
    if module_name == "cloudflare:workers":
        return SimpleNamespace(
            env=env,
            waitUntil=waitUntil,
            DurableObject=DurableObject,
            WorkerEntrypoint=WorkerEntrypoint,
            WorkflowEntrypoint=WorkflowEntrypoint,
        )
    if module_name == "cloudflare:workflows":
        return SimpleNamespace(NonRetryableError=NonRetryableError)
    raise ImportError(
        f"Failed to import '{module_name}': this runtime has the JavaScript modules 'cloudflare:workers' and "
        "'cloudflare:workflows'"
    )
