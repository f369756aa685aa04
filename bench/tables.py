"""What a run found, as tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.answer import Answer
from bench.peers.row import CALLS, WORKLOADS, Row, Skipped
from bench.yardstick import REFERENCE_US


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> Iterator[str]:
    """A table; the columns `right` hold numbers."""
    yield _line(head)
    yield "|" + "|".join("---:" if at in right else "---" for at in range(len(head))) + "|"
    yield from map(_line, rows)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def figures(answers: Sequence[Answer]) -> Iterator[str]:
    rows = []
    for answer in answers:
        for figure in answer.figures:
            scaled = "" if figure.scaled is None else f"{figure.scaled:.2f}"
            measured = (f"{figure.value:.2f}", figure.unit, scaled)
            rows.append((answer.question, figure.what, *measured, figure.bound_text, figure.verdict, figure.note))
    if rows:
        head = ("question", "figure", "measured", "unit", "scaled", "bound", "verdict", "note")
        yield from markdown(head, rows, right=(2, 4))
        yield ""
        yield (
            f"Scaled: to the speed of a machine where the yardstick, a hello on bare hypercorn and trio, takes "
            f"{REFERENCE_US:.0f} us of CPU. Bounds are judged on scaled values where there are any."
        )
        yield ""


def questions(answers: Sequence[Answer]) -> Iterator[str]:
    rows = [
        (
            answer.question,
            f"{answer.took_s:.0f}",
            f"{answer.yardstick_us[0]:.0f}",
            f"{answer.yardstick_us[1]:.0f}",
            answer.failure or "answered",
        )
        for answer in answers
    ]
    yield from markdown(("question", "s", "yardstick before, us", "after, us", ""), rows, right=(1, 2, 3))
    yield ""


def beside_peers(rows: Sequence[Row], skipped: Sequence[Skipped]) -> Iterator[str]:
    for workload in WORKLOADS:
        chosen = sorted((row for row in rows if row.workload == workload), key=lambda row: row.cpu_us)
        if not chosen:
            continue
        yield f"**{workload}** (ms: the wait for {CALLS[workload]})"
        yield ""
        cells = [
            (
                f"{row.system} {row.version}",
                f"{row.cpu_us:.0f}",
                f"{row.per_second:.0f}",
                f"{row.p50_ms:.2f}",
                f"{row.p99_ms:.2f}",
                "not counted" if row.syncs is None else f"{row.syncs:.2f}",
                row.durability,
                row.note,
            )
            for row in chosen
        ]
        head = ("system", "CPU us", "per s", "p50 ms", "p99 ms", "syncs", "durability", "note")
        yield from markdown(head, cells, right=range(1, 6))
        yield ""
    if rows:
        yield (
            "CPU time is of all processes of a system, per request, increment or step, after a tenth of the load as "
            "warm-up. Syncs are calls per operation that return once data is on the disk (fsync, fdatasync, syncfs, "
            "msync with MS_SYNC, writes to files open with O_DSYNC), counted by strace in a run of their own with a "
            "fifth of the load."
        )
        yield ""
    for peer in skipped:
        yield f"- skipped: {peer.system}: {peer.why}"
    if skipped:
        yield ""
