"""Workers of a fixed version: `shop@1f3a` is version 1f3a of the worker shop. It runs the workflow instances that are
pinned to it, and nothing else.

The name is that of a worker wherever actors are concerned: their addresses, their timers, the isolates they live in.
No configuration can name a worker so. What is stored of instances stays under the worker's own name.
"""

from __future__ import annotations

from typing import Final

_MARK: Final = "@"


def pinned_name(worker: str, version: str) -> str:
    return f"{worker}{_MARK}{version}"


def worker_of(name: str) -> str:
    """The worker's own name."""
    return name.partition(_MARK)[0]
