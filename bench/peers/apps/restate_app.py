"""For Restate: `objects`, a virtual object; `calls`, a service and a workflow of ten steps. Served by hypercorn."""

import restate
from restate import ObjectContext, Service, VirtualObject, Workflow, WorkflowContext

counter = VirtualObject("Counter")
greeter = Service("Greeter")
steps = Workflow("Steps")


@counter.handler()
async def increment(ctx: ObjectContext) -> int:
    value = (await ctx.get("value") or 0) + 1
    ctx.set("value", value)
    return value


@greeter.handler()
async def hello(ctx) -> str:
    return "Hello, world!"


@steps.main()
async def run(ctx: WorkflowContext) -> None:
    for number in range(10):
        await ctx.run(f"step {number}", lambda: None)


objects = restate.app([counter])
calls = restate.app([greeter, steps])
