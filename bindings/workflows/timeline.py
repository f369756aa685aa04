"""The steps of an instance as bars on its time line. Pure."""

from __future__ import annotations

from typing import Final

from edge_runtime.workflows.control.describe import Description, StepView

_WIDTH: Final = 40
_NAME_MAX: Final = 32
_BARS: Final = {
    "succeeded": "=",
    "failed": "x",
    "running": ">",
    "retrying": "~",
    "sleeping": ".",
    "waiting": ".",
    "cut": "/",
    "interrupted": "/",
}


def lines(shown: Description, now_ms: int) -> list[str]:
    """One line a step, and one for what happened to the instance as a whole; none before the first step."""
    if not shown.steps:
        return []
    start_ms = min(shown.record.started_ms or shown.steps[0].started_ms, shown.steps[0].started_ms)
    end_ms = shown.record.ended_ms or max(now_ms, start_ms)
    span_ms = max(1, end_ms - start_ms)
    width = min(_NAME_MAX, max(len(step.name) for step in shown.steps))
    found = [(step.started_ms, _step(step, start_ms, end_ms, span_ms, width)) for step in shown.steps]
    found += [
        (moment.at_ms, f"{_offset(moment.at_ms - start_ms)}  {'':{width}}  {moment.text}") for moment in shown.moments
    ]
    found.sort(key=lambda line: line[0])
    return [f"Timeline of {span_ms / 1000:.3f} s:", *(line for _, line in found)]


def _step(step: StepView, start_ms: int, end_ms: int, span_ms: int, width: int) -> str:
    begin = (step.started_ms - start_ms) * _WIDTH // span_ms
    end = ((end_ms if step.ended_ms is None else step.ended_ms) - start_ms) * _WIDTH // span_ms
    begin = min(max(begin, 0), _WIDTH - 1)
    length = max(1, min(end, _WIDTH) - begin)
    bar = (" " * begin + _BARS.get(step.state, "-") * length).ljust(_WIDTH)
    return f"{_offset(step.started_ms - start_ms)}  {step.name[:width]:{width}}  |{bar}|  {step.state}"


def _offset(ms: int) -> str:
    return f"{ms / 1000:+12.3f} s"
