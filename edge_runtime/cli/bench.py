"""`edge bench`: what a worker's requests or steps cost, against another folder or revision if one is given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_runtime.cli.bench_report import document, print_results
from edge_runtime.cli.options import env_option, json_option
from edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from edge_runtime.benchmark.load import Load
    from edge_runtime.benchmark.profile import Cost
    from edge_runtime.benchmark.results import Comparisons, Result
    from edge_runtime.benchmark.subjects import Subject

_BOUNDED = ("p50", "p95", "p99", "user", "isolate")


@dataclass(frozen=True, slots=True)
class Bound:
    figure: str
    at_most_us: float

    def __str__(self) -> str:
        return f"{self.figure}={self.at_most_us:g}"


class BoundType(click.ParamType[Bound]):
    name = "figure=us"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Bound:
        if isinstance(value, Bound):
            return value
        figure, _, number = value.partition("=")
        try:
            at_most_us = float(number)
        except ValueError:
            at_most_us = -1.0
        if figure not in _BOUNDED or not at_most_us >= 0:
            self.fail(f"{value!r} is no bound; allowed: one of {', '.join(_BOUNDED)}, =, microseconds", param, ctx)
        return Bound(figure, at_most_us)


class HeaderType(click.ParamType[tuple[str, str]]):
    name = "name:value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, colon, content = value.partition(":")
        if not colon or not name.strip():
            self.fail(f"{value!r} is not NAME:VALUE", param, ctx)
        return name.strip(), content.strip()


@click.command()
@click.argument("worker", default=".", metavar="[DIR[@REVISION]]")
@click.argument("candidate", required=False, metavar="[DIR[@REVISION]]")
@click.option("--request", "request", default=None, metavar='"[METHOD] PATH"', help='By default "GET /".')
@click.option("--header", "headers", multiple=True, type=HeaderType(), help="Of the request.")
@click.option("--body", default=None, help="Of the request; @FILE takes a file's content.")
@click.option("--workflow", default=None, metavar="NAME", help="Run instances of this workflow instead of requests.")
@click.option("--params", default="{}", show_default=True, help="JSON that the instances are given.")
@click.option(
    "--connections",
    type=click.IntRange(1, 256),
    default=8,
    show_default=True,
    help="Requests, or instances, that are in progress at a time.",
)
@click.option("--count", type=click.IntRange(1), default=500, show_default=True, help="Requests or instances a round.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=7, show_default=True)
@click.option("--warm-up", type=click.IntRange(1), default=200, show_default=True, help="Sent first, not measured.")
@click.option(
    "--flame", type=click.Path(path_type=Path, dir_okay=False), default=None, help="Write a flame graph: SVG."
)
@click.option("--flame-s", type=click.IntRange(1, 600), default=5, show_default=True, help="Seconds to sample for it.")
@click.option(
    "--at-most",
    "bounds",
    multiple=True,
    type=BoundType(),
    help=f"Exit with 1 if a figure of {', '.join(_BOUNDED)} is above so many microseconds.",
)
@click.option(
    "--max-more",
    type=click.FloatRange(0),
    default=None,
    metavar="PERCENT",
    help="Exit with 1 if the second is shown to use more than so much more CPU than the first.",
)
@env_option
@json_option
def bench(
    worker: str,
    candidate: str | None,
    request: str | None,
    headers: tuple[tuple[str, str], ...],
    body: str | None,
    workflow: str | None,
    params: str,
    connections: int,
    count: int,
    rounds: int,
    warm_up: int,
    flame: Path | None,
    flame_s: int,
    bounds: tuple[Bound, ...],
    max_more: float | None,
    environment: str | None,
    as_json: bool,
) -> None:
    """Measure what a worker's requests or workflow steps cost.

    The worker is served on loopback with an empty data directory. Shown are the CPU time of the script's own code, as
    it is billed, and the kernel's of the whole isolate; how long clients waited; commits, operations and memory. Of
    two workers, or two revisions of one (DIR@REVISION), the load goes to both in turns, each round to new processes,
    and the difference is stated with its 95 % interval.
    """
    import trio

    from edge_runtime.benchmark.figures import ROUNDS_MIN
    from edge_runtime.benchmark.interrupted import ended_by_signals
    from edge_runtime.benchmark.measure import Plan, measured
    from edge_runtime.benchmark.profile import find_profiler, profile
    from edge_runtime.benchmark.results import compare_results
    from edge_runtime.benchmark.subjects import subject

    if workflow is not None and (request is not None or headers or body is not None):
        raise UsageError("--workflow starts instances: it goes without --request, --header and --body")
    if max_more is not None and candidate is None:
        raise UsageError("--max-more compares: name two folders or revisions")
    if candidate is not None and rounds < ROUNDS_MIN:
        raise UsageError(f"cannot compare {rounds} rounds; allowed: at least {ROUNDS_MIN}")
    if flame is not None:
        find_profiler()
        if candidate is not None:
            raise UsageError("--flame draws one worker: name one")
        if not flame.parent.is_dir():
            raise UsageError(f"cannot write the flame graph {flame}: {flame.parent} is no folder")

    async def measure(subjects: list[Subject]) -> tuple[list[Result], tuple[Cost, ...]]:
        load = (
            _requests(request or "GET /", headers, body, connections)
            if workflow is None
            else _instances(subjects, workflow, params, connections)
        )
        async with measured(subjects, Plan(load, count, rounds, warm_up), environment) as found:
            results = [one.result() for one in found]
            costs: tuple[Cost, ...] = ()
            if flame is not None:
                (one,) = found

                async def busy() -> None:
                    await one.send(connections * 4)

                costs = await profile(one.isolates[0], busy, seconds=flame_s, svg=flame)
            return results, costs

    async def run() -> tuple[list[Result], tuple[Cost, ...]]:
        with ended_by_signals(), ExitStack() as stack:
            texts = [text for text in (worker, candidate) if text is not None]
            return await measure(_told_apart([stack.enter_context(subject(text, environment)) for text in texts]))
        raise SystemExit(1)  # a signal ends the process before this

    results, costs = trio.run(run)
    comparison = compare_results(*results) if len(results) == 2 else None
    failures = [*_above(results[-1], bounds), *_too_much_more(comparison, max_more)]
    if as_json:
        click.echo(json.dumps(document(results, comparison, costs, failures), indent=2))
    else:
        print_results(results, comparison, costs, "request" if workflow is None else "step")
        for failure in failures:
            click.echo(f"failed: {failure}", err=True)
    if failures:
        raise SystemExit(1)


def _told_apart(subjects: list[Subject]) -> list[Subject]:
    """Their labels head columns."""
    if len({each.label for each in subjects}) == len(subjects):
        return subjects
    return [replace(each, label=f"{each.label} ({number})") for number, each in enumerate(subjects, 1)]


def _requests(request: str, headers: tuple[tuple[str, str], ...], body: str | None, connections: int) -> Load:
    from edge_runtime.benchmark.load import Requests

    method, _, target = request.strip().rpartition(" ")
    if not target.startswith("/") or " " in method.strip():
        raise UsageError(f'cannot send {request!r}: allowed is a path such as "/", or "POST /orders"')
    content = None
    if body is not None:
        try:
            content = Path(body[1:]).read_bytes() if body.startswith("@") else body.encode()
        except OSError as error:
            raise UsageError(f"cannot read the body {body[1:]}: {error.strerror}") from None
    return Requests(method.strip().upper() or "GET", target, headers, content, connections)


def _instances(subjects: Sequence[Subject], workflow: str, params: str, together: int) -> Load:
    from bindings.workflows.kind import WorkflowSpec
    from edge_runtime.benchmark.load import Instances
    from edge_runtime.workflows.script import payloads

    try:
        given = json.loads(params)
    except ValueError as error:
        raise UsageError(f"cannot start {workflow}: --params is not JSON: {error}") from None
    for each in subjects:
        specs = [binding.spec for binding in each.config.bindings if isinstance(binding.spec, WorkflowSpec)]
        if not any(spec.workflow == workflow for spec in specs):
            names = ", ".join(sorted(spec.workflow for spec in specs)) or "none"
            raise UsageError(f"cannot start {workflow!r}: {each.label} has no workflow of that name; it has {names}")
    return Instances(workflow, payloads.encode(given), together)


def _above(result: Result, bounds: tuple[Bound, ...]) -> list[str]:
    figures = {
        "p50": result.cpu_us.p50,
        "p95": result.cpu_us.p95,
        "p99": result.cpu_us.p99,
        "user": result.user_us,
        "isolate": result.isolate_us,
    }
    return [
        f"{result.label}: {bound.figure} is {figures[bound.figure]:.1f} us, allowed {bound.at_most_us:g}"
        for bound in bounds
        if figures[bound.figure] > bound.at_most_us
    ]


def _too_much_more(comparison: Comparisons | None, max_more: float | None) -> list[str]:
    if comparison is None or max_more is None:
        return []
    pairs = (("script", comparison.user_us), ("isolate", comparison.isolate_us))
    return [
        f"CPU of the {what}: {each.change:+.1%} ({each.low:+.1%} to {each.high:+.1%}), allowed +{max_more:g} %"
        for what, each in pairs
        if each.exceeds(max_more)
    ]
