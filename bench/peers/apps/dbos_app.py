"""dbos_app.py FOLDER: a workflow of ten steps on DBOS with its system database in SQLite."""

import asyncio
import sys

from dbos import DBOS
from lines import serve

DBOS(
    config={
        "name": "steps",
        "system_database_url": f"sqlite:///{sys.argv[1]}/system.sqlite",
        "log_level": "ERROR",
        "enable_otlp": False,
    }
)


@DBOS.step()
async def nothing():
    return None


@DBOS.workflow()
async def steps():
    for _ in range(10):
        await nothing()


async def run(together):
    handles = await asyncio.gather(*(DBOS.start_workflow_async(steps) for _ in range(together)))
    await asyncio.gather(*(handle.get_result() for handle in handles))


DBOS.launch()
with asyncio.Runner() as runner:
    serve(lambda together: runner.run(run(together)))
