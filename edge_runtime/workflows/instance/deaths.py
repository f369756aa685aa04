"""What comes of an instance whose code outside of steps has ended its isolate: pure.

It is run again, later each time, since an isolate may have ended for other reasons. When it has ended as many as it may
and has got no further meanwhile, it fails. Where code of others ran as well it is only put off: the next time it may be
alone. What is undone on failure is not undone then: its handlers are found by
running it. An attempt of a step that ends the isolate is the step's affair, and counted there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from edge_runtime.control import ActorDeath
from edge_runtime.event import EventKind
from edge_runtime.limits import INSTANCE_DEATHS_DOUBTED_MAX, INSTANCE_DEATHS_MAX
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core.journal import Created, Entry, EventReceived, StepFailed, StepSucceeded
from edge_runtime.workflows.script.errors import FATAL
from edge_runtime.workflows.stored.instances import Deaths, InstanceRecord

_DONE: Final = (StepSucceeded, StepFailed, EventReceived)


class Progress:
    """How far an instance has come, as its journal says."""

    def __init__(self) -> None:
        self.created: Created | None = None
        self.steps_done = 0

    def take(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if isinstance(entry, Created):
                self.created = entry
            self.steps_done += isinstance(entry, _DONE)


def is_news(record: InstanceRecord, death: ActorDeath) -> bool:
    """Whether the instance has died by itself and it is not counted yet."""
    counted_ms = 0 if record.deaths is None else record.deaths.last_ms
    return death.kind == EventKind.WORKFLOW and death.at_ms > counted_ms and not record.finished


def none_since(record: InstanceRecord) -> Deaths | None:
    """For an instance that begins anew."""
    return None if record.deaths is None else Deaths(0, 0, 0, record.deaths.last_ms)


def counted(record: InstanceRecord, death: ActorDeath, steps_done: int) -> InstanceRecord:
    """With this death, and not to be run before it may."""
    old = record.deaths
    if old is None or steps_done > old.steps_done:
        old = Deaths(0, 0, steps_done, 0)
    deaths = Deaths(old.count + death.alone, old.certain + death.certain, steps_done, death.at_ms)
    return msgspec.structs.replace(
        record, deaths=deaths, not_before_ms=max(record.not_before_ms, death.until_ms), updated_ms=death.at_ms
    )


def failure(record: InstanceRecord, death: ActorDeath) -> ErrorRecord | None:
    """Why it is not run any more, once it has died too often."""
    deaths = record.deaths
    if deaths is None or (deaths.certain < INSTANCE_DEATHS_MAX and deaths.count < INSTANCE_DEATHS_DOUBTED_MAX):
        return None
    return ErrorRecord(
        FATAL,
        f"The process of the instance ended {deaths.count} times in a row while run() was executing outside of a step, "
        f"with no step done in between; the last time: {death.reason}. It was not run again, and steps with rollback "
        "handlers were not undone. Mend the script, then restart the instance.",
    )
