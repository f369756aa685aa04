"""Branches: contexts of their own for the tasks that a trio script starts in nurseries.

Trio runs tasks that are ready in no particular order. If tasks that ask for steps of one name shared a context, each
replay could give them each other's results. So every task that `run` starts, directly or not, is a branch, numbered
where it was started, which is the script's own order. Tasks of asyncio run in the order they were started and need
none of this.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

import trio

from edge_runtime.metering.meter import user_meter


class Branch:
    """The context of the steps that one task asks for."""

    __slots__ = ("_children", "path")

    def __init__(self, path: tuple[str, ...] = ()) -> None:
        self.path = path
        self._children = 0

    def child(self) -> Branch:
        self._children += 1
        return Branch((*self.path, f"task-{self._children}"))


current_branch: ContextVar[Branch | None] = ContextVar("current_branch", default=None)
"""None outside of `run`: within a step's body, tasks are nobody's branches."""


def current_path() -> tuple[str, ...]:
    branch = current_branch.get()
    return () if branch is None else branch.path


class _BranchTasks(trio.abc.Instrument):
    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        branch = task.context.get(current_branch)
        # Tasks that bindings start carry no meter; how many there are may differ at replay.
        if branch is not None and task.context.get(user_meter) is not None:
            task.context.run(current_branch.set, branch.child())


_TASKS: Final = _BranchTasks()


def observe_tasks() -> None:
    """Have the tasks of this trio run become branches; once is enough, more often does no harm."""
    trio.lowlevel.add_instrument(_TASKS)
