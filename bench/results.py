"""Results of a run, kept with machine and commit: as JSON, as a table in Markdown, as a plot in SVG."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.sax.saxutils import escape

from bench.figure import Figure
from bench.peers.row import WORKLOADS, Row, Skipped
from bench.yardstick import REFERENCE_US

FOLDER = Path(__file__).parent / "results"

_BAR = 22
_LEFT = 290
_WIDTH = 980
_COLOURS = {"edge": "#c2410c"}
_OTHERS = "#64748b"


@dataclass(frozen=True, slots=True)
class Circumstances:
    at: str
    machine: str
    system: str
    python: str
    commit: str
    """With "+" where the tree had changes that were not committed."""


def circumstances(now: datetime) -> Circumstances:
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Circumstances(
        at=now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        machine=f"{os.cpu_count()} x {model[1] if model else platform.machine()}, {memory_gb:.0f} GiB",
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        commit=_git("rev-parse", "HEAD") + ("+" if _git("status", "--porcelain") else ""),
    )


def document(
    of: Circumstances, figures: Sequence[Figure], rows: Sequence[Row], skipped: Sequence[Skipped]
) -> dict[str, object]:
    return {
        **asdict(of),
        "figures": [
            {**asdict(figure), "scaled": figure.scaled, "reached": figure.bound is None or figure.reached}
            for figure in figures
        ],
        "beside_peers": [asdict(row) for row in rows],
        "skipped": [asdict(peer) for peer in skipped],
    }


def keep(
    of: Circumstances,
    figures: Sequence[Figure],
    rows: Sequence[Row],
    skipped: Sequence[Skipped],
    folder: Path = FOLDER,
) -> list[Path]:
    """Write the files of a run, named by its time and commit; returns them. Nothing of another run is overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{of.at.replace(':', '')}-{of.commit[:12]}"
    found = {
        ".json": json.dumps(document(of, figures, rows, skipped), indent=2),
        ".md": table(of, figures, rows, skipped),
    }
    if rows:
        found[".svg"] = plot(of, rows)
    paths = []
    for suffix, text in found.items():
        path = stem.with_name(stem.name + suffix)
        path.write_text(text)
        paths.append(path)
    return paths


def table(of: Circumstances, figures: Sequence[Figure], rows: Sequence[Row], skipped: Sequence[Skipped]) -> str:
    lines = [f"Commit {of.commit}, {of.at}. {of.machine}; {of.system}; Python {of.python}.", ""]
    if figures:
        lines += ["| figure | measured | scaled | unit | bound | reached | note |", "|---|---:|---:|---|---|---|---|"]
        for figure in figures:
            bound = "" if figure.bound is None else f"{figure.sense} {figure.bound:g}"
            reached = "" if figure.bound is None else "yes" if figure.reached else "no"
            scaled = "" if figure.scaled is None else f"{figure.scaled:.2f}"
            cells = (figure.what, f"{figure.value:.2f}", scaled, figure.unit, bound, reached, figure.note)
            lines.append(f"| {' | '.join(cells)} |")
        found_us = dict.fromkeys(f"{one.yardstick_us:.0f}" for one in figures if one.yardstick_us)
        lines += [
            "",
            f"Scaled: to the speed of a machine where a hello on bare hypercorn and trio takes {REFERENCE_US:.0f} us of"
            f" CPU; beside these figures it took {', '.join(found_us)} us here. Bounds are judged on scaled values"
            " where there are any.",
            "",
        ]
    for workload in WORKLOADS:
        chosen = sorted((row for row in rows if row.workload == workload), key=lambda row: row.cpu_us)
        if not chosen:
            continue
        lines += [f"**{workload}**", "", "| system | CPU us | per s | p50 ms | p99 ms | syncs | note |"]
        lines.append("|---|---:|---:|---:|---:|---:|---|")
        for row in chosen:
            syncs = "not counted" if row.syncs is None else f"{row.syncs:.2f}"
            lines.append(
                f"| {row.system} {row.version} | {row.cpu_us:.0f} | {row.per_second:.0f} | {row.p50_ms:.2f} "
                f"| {row.p99_ms:.2f} | {syncs} | {row.note} |"
            )
        lines.append("")
    if rows:
        lines += [
            "CPU time is of all processes of a system, per request, increment or step; ms are a client's wait for a "
            "call, which is an instance of ten steps in the last two. Syncs are calls of fsync, fdatasync and msync "
            "per operation, counted in a run of their own.",
            "",
        ]
        for system, durability in dict.fromkeys((row.system, row.durability) for row in rows):
            lines.append(f"- {system}: {durability}")
        lines.append("")
    lines += [f"- skipped: {peer.system}: {peer.why}" for peer in skipped]
    return "\n".join(lines).rstrip() + "\n"


def plot(of: Circumstances, rows: Sequence[Row]) -> str:
    """CPU time per operation, one block of bars a workload, each block to its own scale."""
    parts: list[str] = []
    y = 60
    for workload in WORKLOADS:
        chosen = sorted((row for row in rows if row.workload == workload), key=lambda row: row.cpu_us)
        if not chosen:
            continue
        parts.append(f'<text x="16" y="{y}" font-weight="bold">{escape(workload)}: CPU us per operation</text>')
        y += 10
        longest = max(row.cpu_us for row in chosen)
        for row in chosen:
            width = max(1.0, (_WIDTH - _LEFT - 200) * row.cpu_us / longest)
            syncs = "" if row.syncs is None else f", {row.syncs:.2f} syncs"
            colour = _COLOURS.get(row.system, _OTHERS)
            parts.append(f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(row.system)}</text>')
            parts.append(f'<rect x="{_LEFT}" y="{y + 2}" width="{width:.1f}" height="{_BAR - 6}" fill="{colour}"/>')
            parts.append(f'<text x="{_LEFT + width + 6:.1f}" y="{y + 15}">{row.cpu_us:,.0f}{syncs}</text>')
            y += _BAR
        y += 30
    title = f"Commit {of.commit[:12]}, {of.at}, {of.machine}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="white"/><text x="16" y="26">{escape(title)}</text>'
        + "".join(parts)
        + "</svg>\n"
    )


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()
