"""The testing kit for workers: run one in the test's process, look into its workflows, interrupt them everywhere.

`run_worker` runs a worker on a clock that jumps; `introspect_workflow` and `introspect_workflow_instance` mock and
watch; `crash_everywhere` proves that a workflow survives being interrupted; `replay` that a changed script goes on
with instances that were recorded. Importing this makes the modules of worker
scripts (`workers`, `js`, ...) known, so that a test can import a script.
"""

from edge_runtime.compat.install import install_modules

install_modules()

from edge_runtime.testing.crash_everywhere import CrashDifference, CrashReport, crash_everywhere  # noqa: E402
from edge_runtime.testing.crash_run import Send  # noqa: E402
from edge_runtime.testing.interruptions import How, Point  # noqa: E402
from edge_runtime.testing.introspection import (  # noqa: E402
    introspect_workflow,
    introspect_workflow_instance,
    introspectWorkflow,
    introspectWorkflowInstance,
)
from edge_runtime.testing.replay import ReplayDifference, ReplayReport, replay  # noqa: E402
from edge_runtime.testing.scheduling import run  # noqa: E402
from edge_runtime.testing.witness import Witness  # noqa: E402
from edge_runtime.testing.worker import WorkerUnderTest, run_worker  # noqa: E402

__all__ = [
    "CrashDifference",
    "CrashReport",
    "How",
    "Point",
    "ReplayDifference",
    "ReplayReport",
    "Send",
    "Witness",
    "WorkerUnderTest",
    "crash_everywhere",
    "introspectWorkflow",
    "introspectWorkflowInstance",
    "introspect_workflow",
    "introspect_workflow_instance",
    "replay",
    "run",
    "run_worker",
]
