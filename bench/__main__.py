"""`python -m bench [QUESTION ...]`: measure this machine's figures and print them with what they must reach.

Without a question all are asked, the comparison with peers included. What was found is kept below bench/results, with
machine and commit: as JSON, as a table and, with peers, as a plot.

CPU time is the kernel's, of every process of the server together; the load generator is not counted. Ratios compare
runs of the same minute, so that other work on the machine falls on both.

Figures in microseconds of CPU and rates are given twice: as measured, and scaled to the speed of the machine their
bounds come from, where a hello on bare hypercorn and trio took 370 us. The same hello is measured here before and after
each question (bench/yardstick.py); a time is multiplied by 370 over what it took, a rate divided. The bound is judged
on the scaled value. Ratios, counts and bytes are not scaled.

`--against FILE` prints every figure beside that of an earlier run, a .json below bench/results, and keeps the table.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench import against
from bench.figure import Figure
from bench.peers.row import Row, Skipped
from bench.results import circumstances, document, keep
from bench.yardstick import REFERENCE_US, yardstick

QUESTIONS = (
    "hello",
    "meter_overhead",
    "reconcile",
    "cpu_split",
    "limits_stop",
    "flavour",
    "http1",
    "fastapi",
    "http1_bodies",
    "http1_idle",
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
    "llm_call",
    "workflow_kill",
    "workflow_big_runs",
    "beside_peers",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"of {', '.join(QUESTIONS)}; default all")
    parser.add_argument("--against", type=Path, metavar="FILE", help="an earlier run: the .json that was kept of it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    unknown = [question for question in options.questions if question not in QUESTIONS]
    if unknown:
        parser.error(f"no question {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    earlier = None
    if options.against is not None:
        try:
            earlier = against.read(options.against)
        except against.Unreadable as error:
            parser.error(str(error))
    here = circumstances(datetime.now(UTC))
    found: list[Figure | Row | Skipped] = []
    failed: list[str] = []
    show = (lambda line: None) if options.json else partial(print, flush=True)
    with yardstick() as speed:
        before_us = speed.measure()
        for question in options.questions or QUESTIONS:
            figures: list[Figure] = []
            try:
                for one in importlib.import_module(f"bench.{question}").run():
                    if isinstance(one, Figure):
                        figures.append(one)
                    else:
                        found.append(one)
                        show(one.line())
            except Exception:
                # What was found so far, and what other questions find, is kept all the same.
                traceback.print_exc()
                failed.append(question)
            after_us = speed.measure()
            show(
                f"{question}: yardstick {before_us:.0f} us before, {after_us:.0f} us after, {REFERENCE_US:.0f} us there"
            )
            for figure in figures:
                judged = replace(figure, yardstick_us=(before_us + after_us) / 2)
                found.append(judged)
                show(judged.line())
            before_us = after_us
    figures = [one for one in found if isinstance(one, Figure)]
    rows = [one for one in found if isinstance(one, Row)]
    skipped = [one for one in found if isinstance(one, Skipped)]
    compared = [] if earlier is None else against.changes(earlier, figures)
    kept = keep(here, figures, rows, skipped)
    if earlier is not None:
        kept.append(kept[0].with_suffix(".against.md"))
        kept[-1].write_text(against.table(earlier, compared))
        show(f"before: {earlier.commit}, {earlier.at}, {earlier.machine}")
        for change in compared:
            show(change.line())
    if options.json:
        print(json.dumps(document(here, figures, rows, skipped), indent=2))
    for path in kept:
        print(f"kept: {path}", file=sys.stderr)
    if failed:
        print(f"not answered: {', '.join(failed)}", file=sys.stderr)
    return 0 if not failed and all(figure.reached for figure in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
