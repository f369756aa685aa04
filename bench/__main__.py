"""`python -m bench [QUESTION ...]`: measure this machine's figures and print them with what they must reach.

CPU time is the kernel's, of every process of the server together; the load generator is not counted. Ratios compare
runs of the same minute, so that other work on the machine falls on both.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path

from bench.figure import Figure

QUESTIONS = (
    "hello",
    "flavour",
    "kv_get",
    "kv_put",
    "isolate_start",
    "idle_memory",
    "startup",
    "object_increment",
    "object_rpc_local",
    "object_rpc_elsewhere",
    "storage_get",
    "object_idle_memory",
    "hibernating_sockets",
    "workflow_steps",
    "workflow_sleepers",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"of {', '.join(QUESTIONS)}; default all")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    unknown = [question for question in options.questions if question not in QUESTIONS]
    if unknown:
        parser.error(f"no question {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    figures: list[Figure] = []
    for question in options.questions or QUESTIONS:
        for figure in importlib.import_module(f"bench.{question}").run():
            figures.append(figure)
            if not options.json:
                print(figure.line(), flush=True)
    if options.json:
        print(json.dumps({**circumstances(), "figures": [asdict(figure) for figure in figures]}, indent=2))
    return 0 if all(figure.reached for figure in figures) else 1


def circumstances() -> dict[str, str]:
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


if __name__ == "__main__":
    raise SystemExit(main())
