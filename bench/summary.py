"""What a run found, for a terminal: question, figure, measured, scaled, bound, verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.aligned import aligned
from bench.answer import Answer
from bench.figure import Figure

_HEAD = ("question", "figure", "measured", "", "scaled", "bound", "verdict")


def summary(answers: Sequence[Answer]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [_HEAD]
    for answer in answers:
        rows += [_cells(answer.question, figure) for figure in answer.figures]
        rows += [_cells(answer.question, row.figure()) for row in answer.rows]
        rows += [(answer.question, peer.system, "", "", "", "", f"skipped: {peer.why}") for peer in answer.skipped]
        if answer.failure:
            rows.append((answer.question, "", "", "", "", "", f"not answered: {answer.failure.splitlines()[0]}"))
    yield from aligned(rows, right=(2, 4))
    bounded = [figure for answer in answers for figure in answer.figures if figure.bound is not None]
    missed = sum(not figure.reached for figure in bounded)
    minutes = sum(answer.took_s for answer in answers) / 60
    yield f"{len(answers)} questions in {minutes:.0f} min; {len(bounded) - missed} of {len(bounded)} bounds reached"


def _cells(question: str, figure: Figure) -> tuple[str, ...]:
    scaled = "" if figure.scaled is None else f"{figure.scaled:.2f}"
    return (question, figure.what, f"{figure.value:.2f}", figure.unit, scaled, figure.bound_text, figure.verdict)
