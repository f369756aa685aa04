"""The other workers of the server and their classes, as the supervisor tells them."""

from __future__ import annotations

from edge_runtime.actors.api import ActorKind
from edge_runtime.control import Routes
from edge_runtime.errors import UsageError


class Neighbours:
    """`bindings.kind.Neighbourhood` of one isolate."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._classes: dict[str, dict[tuple[str, str], str]] = {}

    def workers_changed(self, routes: Routes) -> None:
        self._classes = {
            entry.worker: {(kind, cls): namespace for kind, cls, namespace in entry.classes} for entry in routes.workers
        }

    def namespace(self, worker: str, kind: ActorKind, cls: str) -> str:
        classes = self._classes.get(worker)
        if classes is None:
            others = ", ".join(sorted(set(self._classes) - {self._worker})) or "none"
            raise UsageError(
                f"a binding of worker {self._worker} has script_name {worker!r}, and there is no such worker on this "
                f"server; other workers here: {others}"
            )
        namespace = classes.get((kind.value, cls))
        if namespace is None:
            known = ", ".join(sorted(name for found, name in classes if found == kind.value)) or "none"
            what = "Durable Object class" if kind is ActorKind.OBJECT else "workflow"
            raise UsageError(
                f"a binding of worker {self._worker} names the {what} {cls!r} of worker {worker!r}, which has no such "
                f"one; it has: {known}"
            )
        return namespace
