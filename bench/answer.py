"""Asking a question, and what it found."""

from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.figure import Figure
from bench.peers.row import Row, Skipped
from bench.time_limit import time_limit
from bench.yardstick import REFERENCE_US, Yardstick

QUESTION_S = 1800.0
INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Answer:
    question: str
    took_s: float
    yardstick_us: tuple[float, float]
    """Before and after."""
    figures: tuple[Figure, ...] = ()
    rows: tuple[Row, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    failure: str = ""
    """Why there is no more than this; empty when all was found."""

    @property
    def reached(self) -> bool:
        """All bounds that it has."""
        return all(figure.reached for figure in self.figures)


def ask(question: str, speed: Yardstick, before_us: float, show: Callable[[str], object]) -> Answer:
    """Run the module of the question. What it found until it failed, took too long or was interrupted, counts."""
    figures: list[Figure] = []
    rows: list[Row] = []
    skipped: list[Skipped] = []
    failure = ""
    after_us = before_us
    begun_s = time.monotonic()
    try:
        try:
            with time_limit(QUESTION_S):
                for one in importlib.import_module(f"bench.{question}").run():
                    match one:
                        case Figure():
                            figures.append(one)
                        case Row():
                            rows.append(one)
                            show(one.line())
                        case Skipped():
                            skipped.append(one)
                            show(one.line())
        except Exception as error:
            traceback.print_exc()
            failure = f"{type(error).__name__}: {error}"
        after_us = speed.measure()
    except BaseException as error:
        if not _is_interrupt(error):
            raise
        failure = INTERRUPTED
    took_s = time.monotonic() - begun_s
    show(
        f"{question}: {took_s:.0f} s; yardstick {before_us:.0f} us before, {after_us:.0f} us after, "
        f"{REFERENCE_US:.0f} us there"
    )
    judged = tuple(replace(figure, yardstick_us=(before_us + after_us) / 2) for figure in figures)
    for figure in judged:
        show(figure.line())
    return Answer(question, took_s, (before_us, after_us), judged, tuple(rows), tuple(skipped), failure)


def _is_interrupt(error: BaseException) -> bool:
    """Ctrl-C, also when trio has grouped it with what it brought down."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(KeyboardInterrupt) is not None
    return isinstance(error, KeyboardInterrupt)
