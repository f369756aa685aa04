"""Generated workflows, interrupted at points chosen by the seed; a failure names the seed that shows it again."""

import random

import pytest
import trio

from edge_runtime.testing import Witness, crash_everywhere
from edge_runtime.workers.entrypoints import WorkflowEntrypoint
from edge_runtime.workers.workflows import NonRetryableError

WORKFLOWS = 200
GROUPS = 10
POINTS = 3
RETRY = {"retries": {"limit": 6, "delay": 500, "backoff": "linear"}}
KINDS = ("step", "flaky", "together", "sleep", "event", "timeout", "condition", "caught", "blocking")


def generated(seed, witness):
    """A workflow of a few parts of random kinds, and the events that it needs."""
    rng = random.Random(seed)
    parts = [(rng.choice(KINDS), rng.randrange(1, 4), rng.random()) for _ in range(rng.randrange(1, 5))]
    fails, undoing = rng.random() < 0.25, rng.random() < 0.5

    class Generated(WorkflowEntrypoint):
        async def run(self, event, step):
            def body(name, wait_s, failures=0, error=OSError):
                async def run_body(ctx):
                    witness.note(name)
                    await trio.sleep(wait_s)
                    if ctx["attempt"] <= failures:
                        raise error(name)
                    return [name, event["payload"]["n"]]

                return run_body

            async def undo():
                witness.note("undone")

            undoes = {"rollback": undo, "rollback_config": RETRY} if undoing else {}
            results = []
            for at, (kind, count, wait_s) in enumerate(parts):
                name = f"{kind} {at}"
                if kind == "step":
                    results.append(await step.do(name, RETRY, body(name, wait_s), **undoes))
                elif kind == "flaky":
                    results.append(await step.do(name, RETRY, body(name, wait_s, count), **undoes))
                elif kind == "together":
                    begun = [step.do(f"{name}.{n}", RETRY, body(n, wait_s * n), **undoes) for n in range(count + 1)]
                    results.append([await promise for promise in begun])
                elif kind == "sleep":
                    await step.sleep(name, count * 40_000)
                elif kind == "event":
                    results.append((await step.wait_for_event(name, f"type-{count}"))["payload"])
                elif kind == "timeout":
                    try:
                        await step.wait_for_event(name, "never", timeout=count * 20_000)
                    except Exception as error:
                        results.append(error.name)
                elif kind == "condition":
                    results.append(await step.do(name, RETRY, body(name, wait_s), when=count > 1, **undoes))
                elif kind == "caught":
                    try:
                        await step.do(name, RETRY, body(name, 0, 99, NonRetryableError))
                    except NonRetryableError as error:
                        results.append(str(error))
                else:

                    def blocking(name=name):
                        witness.note(name)
                        return name

                    results.append(await step.do(name, RETRY, blocking, **undoes))
            if fails:
                raise RuntimeError("the end")
            return results

    events = [(f"type-{count}", at) for at, (kind, count, _) in enumerate(parts) if kind == "event"]
    return Generated, events


@pytest.mark.parametrize("group", range(GROUPS))
def test_generated_workflows_survive_interruptions(group):
    for seed in range(group, WORKFLOWS, GROUPS):
        witness = Witness()
        workflow, events = generated(seed, witness)
        report = crash_everywhere(workflow, {"n": seed}, events=events, witness=witness, seed=seed, points_max=POINTS)
        assert report.result[0] in ("complete", "errored"), seed
