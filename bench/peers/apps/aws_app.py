"""aws_app.py FOLDER: a workflow of ten steps on AWS's durable execution SDK with its local runner and SQLite store."""

import inspect
import logging
import sys
from pathlib import Path

from aws_durable_execution_sdk_python import DurableContext, durable_execution, durable_step
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner
from aws_durable_execution_sdk_python_testing.stores.sqlite import SQLiteExecutionStore
from lines import serve

logging.disable(logging.CRITICAL)


@durable_step
def nothing(step_context):
    return None


@durable_execution
def steps(event, context: DurableContext):
    for number in range(10):
        context.step(nothing(), name=f"step {number}")
    return "done"


database = Path(sys.argv[1]) / "executions.sqlite"
make = getattr(SQLiteExecutionStore, "create_and_initialize", SQLiteExecutionStore)
options = {"handler": steps, "store": make(database)}
if "poll_interval" in inspect.signature(DurableFunctionTestRunner).parameters:
    options["poll_interval"] = 0.002

with DurableFunctionTestRunner(**options) as runner:

    def run(together):
        for begun in [runner.run_async(input="") for _ in range(together)]:
            result = runner.wait_for_result(begun, timeout=600)
            assert result.result is not None, result

    serve(run)
