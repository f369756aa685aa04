"""The template of the version that a worker serves: loaded when it is needed, closed when nothing needs it."""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

from edge_runtime.control import ChargeLost, MakeTemplate
from edge_runtime.errors import ScriptError, StartInterrupted
from edge_runtime.event import Outcome
from edge_runtime.limits import LOAD_ATTEMPTS_MAX
from edge_runtime.supervisor.backoff import CrashBackoff
from edge_runtime.supervisor.report import Report
from edge_runtime.supervisor.spawner import Spawner
from edge_runtime.supervisor.start_record import tried_again
from edge_runtime.supervisor.template_handle import TemplateHandle


class CurrentTemplate:
    def __init__(self, worker: str, spawner: Spawner, report: Report, charge: Callable[[ChargeLost], None]) -> None:
        """`charge` is told what imports of the script have used."""
        self._worker = worker
        self._spawner = spawner
        self._report = report
        self._charge = charge
        self._loaded: TemplateHandle | None = None
        self._changing = trio.Lock()

    def is_current(self, template: TemplateHandle) -> bool:
        return template is self._loaded

    async def get(self, task: Callable[[], MakeTemplate]) -> TemplateHandle:
        """The template, loaded if there is none; `task` is asked for when it is. Raises ScriptError."""
        if not self._usable:
            async with self._changing:
                if not self._usable:
                    self._loaded = await self._load(task())
        assert self._loaded is not None
        return self._loaded

    async def replace(self, task: MakeTemplate) -> None:
        """Have another one from now on. Raises ScriptError; then it is the one before. An import that is ended from
        outside is tried again, LOAD_ATTEMPTS_MAX times in all: then StartInterrupted is raised."""
        async with self._changing:
            template = await self._load_again(task)
            old, self._loaded = self._loaded, template
            if old is not None:
                self._drop_if_unused(old)

    def returned(self, template: TemplateHandle) -> None:
        """An isolate that was forked from it is dead."""
        template.users -= 1
        self._drop_if_unused(template)

    def rest(self) -> None:
        """Close it if no isolate needs it."""
        if self._loaded is not None and self._loaded.users == 0:
            self._loaded.close()
            self._loaded = None

    def close(self) -> None:
        if self._loaded is not None:
            self._loaded.close()

    async def end(self) -> None:
        """Close it, and return when its process is gone."""
        template, self._loaded = self._loaded, None
        if template is not None:
            template.close()
            await template.gone()

    @property
    def _usable(self) -> bool:
        return self._loaded is not None and not self._loaded.ended.is_set()

    async def _load_again(self, task: MakeTemplate) -> TemplateHandle:
        backoff = CrashBackoff()
        for left in reversed(range(LOAD_ATTEMPTS_MAX)):
            try:
                return await self._load(task)
            except StartInterrupted as error:
                if not left:
                    raise
                delay_s = backoff.crashed(time.monotonic())
                self._report.notice(tried_again(str(error), delay_s))
                await trio.sleep(delay_s)
        raise AssertionError("the last attempt returns or raises")

    async def _load(self, task: MakeTemplate) -> TemplateHandle:
        """A template of a version, whose import is charged to the worker whether it succeeds or not."""
        outcome, cpu_us = Outcome.OK, 0
        try:
            template = await self._spawner.load(task)
            cpu_us = template.startup_cpu_us
            self._report.worker_loaded(self._worker, task.version, cpu_us)
            return template
        except ScriptError as error:
            outcome, cpu_us = Outcome.EXCEPTION, error.cpu_us
            raise
        finally:
            if cpu_us:
                self._charge(ChargeLost("worker", "startup", "import", cpu_us * 1000, 0.0, outcome))

    def _drop_if_unused(self, template: TemplateHandle) -> None:
        if template is not self._loaded and template.users == 0:
            template.close()
