"""Which worker a request belongs to: pure.

The most specific route wins: an exact host before `*.suffix` (longest first) before any host; within a host an exact
path before the longest prefix. Where no route matches, the first label of the host names the worker
(`counter.localhost`), and a worker that is alone, or the only one without routes, takes everything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_runtime.config.model import Route


@dataclass(frozen=True, slots=True)
class _Entry:
    route: Route
    worker: str

    def matches(self, host: str, path: str) -> bool:
        wanted = self.route.host
        if wanted != "*" and wanted != host and not (wanted.startswith("*.") and host.endswith(wanted[1:])):
            return False
        return path == self.route.path if self.route.exact else path.startswith(self.route.path)

    @property
    def specificity(self) -> tuple[int, int, bool, int]:
        host = self.route.host
        kind = 0 if host == "*" else 1 if host.startswith("*.") else 2
        return kind, len(host), self.route.exact, len(self.route.path)


class RoutingTable:
    """Built anew whenever a worker is deployed or removed."""

    def __init__(self, workers: Mapping[str, Sequence[Route]]) -> None:
        self._names = frozenset(workers)
        entries = [_Entry(route, worker) for worker, routes in workers.items() for route in routes]
        self._entries = sorted(entries, key=lambda entry: entry.specificity, reverse=True)
        routeless = [worker for worker, routes in workers.items() if not routes]
        self.sole: str | None = next(iter(workers)) if len(workers) == 1 else None
        """The worker that gets every connection without a look at it, if there is only one."""
        self.default: str | None = self.sole or (routeless[0] if len(routeless) == 1 else None)
        """The worker for what matches nothing."""

    def choose(self, host: str, path: str) -> str | None:
        """The worker for a request; None when there is none.

        Args:
            host: as in the Host header, with or without port; "" if the request has none.
            path: as in the request line, with or without query.
        """
        if self.sole is not None:
            return self.sole
        host = _without_port(host).lower().rstrip(".")
        path = path.partition("?")[0]
        for entry in self._entries:
            if entry.matches(host, path):
                return entry.worker
        label = host.partition(".")[0]
        return label if label in self._names else self.default


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
