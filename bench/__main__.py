"""`python -m bench [QUESTION ...]`: measure this machine's figures and print them with what they must reach.

Without a question all are asked, the comparison with peers included: about a quarter of an hour on two idle cores. What
was found is kept below bench/results after each question, with machine and commit: as JSON, as tables and, with peers,
as a plot. A question that fails, or takes over half an hour, is reported at the end, and the others are asked all the
same; Ctrl-C ends the run and keeps what there is. Exit status: 0, 1 when a bound was missed or a question not answered,
130 when interrupted.

CPU time is the kernel's, of every process of the server together; the load generator is not counted. Ratios compare
runs of the same minute, so that other work on the machine falls on both.

Figures in microseconds of CPU and rates are given twice: as measured, and scaled to the speed of the machine their
bounds come from, where a hello on bare hypercorn and trio took 370 us. The same hello is measured here before and after
each question (bench/yardstick.py); a time is multiplied by 370 over what it took, a rate divided. The bound is judged
on the scaled value. Ratios, counts and bytes are not scaled.

`--against FILE` prints every figure beside that of an earlier run, a .json below bench/results, and keeps that table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench import against
from bench.against import Change
from bench.aligned import aligned
from bench.answer import INTERRUPTED, Answer, ask
from bench.results import FOLDER, circumstances, document, keep
from bench.summary import summary
from bench.yardstick import yardstick

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


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """Returns the exit status; `folder` is where results are kept."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"of {', '.join(QUESTIONS)}; default all")
    parser.add_argument("--against", type=Path, metavar="FILE", help="an earlier run: the .json that was kept of it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    unknown = [question for question in options.questions if question not in QUESTIONS]
    if unknown:
        parser.error(f"no question {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    earlier = None
    if options.against is not None:
        try:
            earlier = against.read(options.against)
        except against.Unreadable as error:
            parser.error(str(error))
    show: Callable[[str], object] = (lambda line: None) if options.json else partial(print, flush=True)
    here = circumstances(datetime.now(UTC))
    questions = options.questions or QUESTIONS

    def keep_all(answers: Sequence[Answer]) -> list[Path]:
        return keep(folder, here, answers, earlier, [] if earlier is None else against.changes(earlier, answers))

    answers = _ask_all(questions, show, keep_all)
    if not answers:
        return 130
    for path in keep_all(answers):
        print(f"kept: {path}", file=sys.stderr)
    if options.json:
        print(json.dumps(document(here, answers), indent=2))
    if earlier is not None:
        show(f"\nbefore: commit {earlier.commit}, {earlier.at}, {earlier.machine}")
        compared = [change.cells for change in against.changes(earlier, answers)]
        for line in aligned([Change.HEAD, *compared], right=Change.RIGHT):
            show(line)
    show("")
    for line in summary(answers):
        show(line)
    for answer in answers:
        if answer.failure:
            print(f"not answered: {answer.question}: {answer.failure}", file=sys.stderr)
    if len(answers) < len(questions) or answers[-1].failure == INTERRUPTED:
        return 130
    return 1 if any(answer.failure or not answer.reached for answer in answers) else 0


def _ask_all(
    questions: Sequence[str], show: Callable[[str], object], keep_all: Callable[[Sequence[Answer]], object]
) -> list[Answer]:
    """The answers, of fewer questions if interrupted; what is found is kept after each."""
    answers: list[Answer] = []
    try:
        with yardstick() as speed:
            before_us = speed.measure()
            for question in questions:
                answers.append(ask(question, speed, before_us, show))
                keep_all(answers)
                if answers[-1].failure == INTERRUPTED:
                    break
                before_us = answers[-1].yardstick_us[1]
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    return answers


if __name__ == "__main__":
    raise SystemExit(main())
