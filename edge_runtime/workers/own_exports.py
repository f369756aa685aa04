"""`ctx.exports`: the script's own entrypoints and Durable Object classes, without a binding in the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class OwnExports:
    """By class name: a WorkerEntrypoint is a service, a Durable Object class a namespace. `default` is `Default`."""

    def __init__(self) -> None:
        self._found: dict[str, Any] | None = None

    def _fill(self, found: Mapping[str, Any] | None) -> None:
        """Give it what it offers; None where the compatibility date is too early for it."""
        self._found = None if found is None else dict(found)

    def __getattr__(self, name: str) -> Any:
        found = self._found
        if found is None:
            raise AttributeError(
                "ctx.exports is there from compatibility date 2025-11-17 on, or with the flag enable_ctx_exports"
            )
        key = "Default" if name == "default" else name
        if key not in found:
            known = ", ".join(sorted(found)) or "none"
            raise AttributeError(
                f"ctx.exports has no {name!r}; it has the WorkerEntrypoint classes of the script, and its Durable "
                f"Object classes that are bound or migrated: {known}"
            )
        return found[key]

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError as error:
            raise KeyError(str(error)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._found or ()))

    def __repr__(self) -> str:
        return f"<exports {', '.join(self)}>"


own_exports = OwnExports()
"""Of the worker that this process runs."""
