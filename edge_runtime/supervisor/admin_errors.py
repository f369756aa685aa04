"""Refusals of the admin API that are nobody else's."""

from __future__ import annotations

from edge_runtime.errors import UsageError


class NoSuchWorker(UsageError):
    def __init__(self, name: str) -> None:
        super().__init__(f"there is no worker named {name} on this server")


class NotHere(UsageError):
    """This server does not do that."""
