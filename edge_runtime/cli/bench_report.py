"""What `edge bench` prints of its results, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edge_runtime.cli.tables import Cell, print_rows

if TYPE_CHECKING:
    from edge_runtime.benchmark.profile import Cost
    from edge_runtime.benchmark.results import Comparisons, Result


def document(
    results: list[Result], comparison: Comparisons | None, costs: tuple[Cost, ...], failures: list[str]
) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "results": [
            {**asdict(result), "runtime_us": result.runtime_us, "kernel_us": result.kernel_us} for result in results
        ]
    }
    if comparison is not None:
        shown["comparison"] = {
            name: {**asdict(each), "verdict": each.verdict}
            for name, each in (("user_us", comparison.user_us), ("isolate_us", comparison.isolate_us))
        }
    if costs:
        shown["largest_costs"] = [asdict(cost) for cost in costs]
    return {**shown, "failures": failures}


def print_results(results: list[Result], comparison: Comparisons | None, costs: tuple[Cost, ...], unit: str) -> None:
    labels = [result.label for result in results]
    columns = [_figures(result, unit) for result in results]
    print_rows(
        [f"per {unit}", *labels],
        [{f"per {unit}": name, **{label: column[name] for label, column in zip(labels, columns, strict=True)}}
         for name in columns[0]],
        as_json=False,
        right=labels,
    )  # fmt: skip
    if comparison is not None:
        click.echo()
        for what, each in (("script", comparison.user_us), ("isolate", comparison.isolate_us)):
            click.echo(
                f"CPU of the {what}: {each.base:.1f} us, {each.candidate:.1f} us: {each.change:+.1%} "
                f"(95 % interval {each.low:+.1%} to {each.high:+.1%}): {each.verdict}"
            )
    else:
        click.echo()
        rows: list[dict[str, Cell]] = [
            {
                "event": handler.kind,
                "handler": handler.handler,
                f"per {unit}": f"{handler.per_operation:.2f}",
                "CPU us mean": f"{handler.cpu_us.mean:.1f}",
                "p50": f"{handler.cpu_us.p50:.0f}",
                "p95": f"{handler.cpu_us.p95:.0f}",
                "p99": f"{handler.cpu_us.p99:.0f}",
                "wall ms p50": f"{handler.wall_ms.p50:.2f}",
            }
            for handler in results[0].handlers
        ]
        names = ("event", "handler", f"per {unit}", "CPU us mean", "p50", "p95", "p99", "wall ms p50")
        print_rows(names, rows, as_json=False, right=names[2:])
    if costs:
        click.echo()
        shares: list[dict[str, Cell]] = [
            {"function": cost.function, "own": f"{cost.own:.1%}", "with callees": f"{cost.total:.1%}"} for cost in costs
        ]
        print_rows(("function", "own", "with callees"), shares, as_json=False, right=("own", "with callees"))


def _figures(result: Result, unit: str) -> dict[str, str]:
    latency = "request" if unit == "request" else "instance"
    return {
        "CPU of the script, p50 / p95 / p99, us": _spread(result.cpu_us.p50, result.cpu_us.p95, result.cpu_us.p99),
        "CPU of the script, all its events, us": f"{result.user_us:.1f}",
        "CPU of the isolate, us": f"{result.isolate_us:.1f}",
        "  script / runtime / kernel, us": _spread(result.user_us, result.runtime_us, result.kernel_us),
        "CPU of the server process, us": f"{result.supervisor_us:.1f}",
        f"wall of a{'n' if unit == 'step' else ''} {latency}, p50 / p95 / p99, ms": _spread(
            result.latency_ms.p50, result.latency_ms.p95, result.latency_ms.p99
        ),
        f"{unit}s per second": f"{result.per_second:.0f}",
        "commits": f"{result.commits:.3f}",
        **{name: f"{amount:.2f}" for name, amount in result.quantities.items()},
        **{f"a million at list price, {name}": cost for name, cost in result.million_at_list_price.items()},
        "memory of an isolate: peak / private, MB": f"{result.peak_mb:.1f} / {result.private_mb:.1f}",
        "events that failed": str(result.failed),
        f"{unit}s measured": str(result.operations),
    }


def _spread(*values: float) -> str:
    return " / ".join(f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in values)
