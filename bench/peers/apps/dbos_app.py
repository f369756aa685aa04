"""dbos_app.py FOLDER: a workflow of ten steps on DBOS with its system database in SQLite.

Blocking functions on DBOS's own threads: they cost less here than coroutines.
"""

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
def nothing():
    return None


@DBOS.workflow()
def steps():
    for _ in range(10):
        nothing()


def run(together):
    for begun in [DBOS.start_workflow(steps) for _ in range(together)]:
        begun.get_result()


DBOS.launch()
serve(run)
