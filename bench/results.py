"""Results of a run, kept with machine and commit: as JSON, as tables in Markdown, with peers as a plot in SVG."""

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

from bench import tables
from bench.against import Change, Earlier
from bench.answer import Answer
from bench.plot import plot

FOLDER = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Circumstances:
    at: str
    machine: str
    system: str
    python: str
    load: float
    """Processes that ran or waited to run in the minute before; 0 is a quiet machine."""
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
        load=round(os.getloadavg()[0], 1),
        commit=(_git("rev-parse", "HEAD") or "unknown") + ("+" if _git("status", "--porcelain") else ""),
    )


def document(of: Circumstances, answers: Sequence[Answer]) -> dict[str, object]:
    return {
        **asdict(of),
        "questions": [
            {
                "question": answer.question,
                "took_s": round(answer.took_s, 1),
                "yardstick_us": answer.yardstick_us,
                "failure": answer.failure,
            }
            for answer in answers
        ],
        "figures": [
            {"question": answer.question, **asdict(figure), "scaled": figure.scaled, "verdict": figure.verdict}
            for answer in answers
            for figure in answer.figures
        ],
        "beside_peers": [asdict(row) for answer in answers for row in answer.rows],
        "skipped": [asdict(peer) for answer in answers for peer in answer.skipped],
    }


def keep(
    folder: Path,
    of: Circumstances,
    answers: Sequence[Answer],
    earlier: Earlier | None = None,
    compared: Sequence[Change] = (),
) -> list[Path]:
    """Write the files of a run, named by its time and commit; returns them. Called again for the same run, with more
    answers, it replaces them; nothing of another run is overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{of.at.replace(':', '')}-{of.commit.removesuffix('+')[:12]}"
    rows = [row for answer in answers for row in answer.rows]
    skipped = [peer for answer in answers for peer in answer.skipped]
    lines = [
        f"Commit {of.commit}, {of.at}. {of.machine}, load {of.load}; {of.system}; Python {of.python}.",
        "",
        *tables.figures(answers),
    ]
    if rows or skipped:
        lines += [f"![CPU time per operation]({stem}.svg)", ""] if rows else []
        lines += tables.beside_peers(rows, skipped)
    lines += tables.questions(answers)
    if earlier is not None:
        lines += [f"Against commit {earlier.commit}, {earlier.at}, {earlier.machine}:", ""]
        lines += tables.markdown(Change.HEAD, [change.cells for change in compared], right=Change.RIGHT)
    found = {
        ".json": json.dumps(document(of, answers), indent=2) + "\n",
        ".md": "\n".join(lines).rstrip() + "\n",
    }
    if rows:
        found[".svg"] = plot(f"Commit {of.commit[:12]}, {of.at}, {of.machine}", rows)
    paths = []
    for suffix, text in found.items():
        path = folder / (stem + suffix)
        path.write_text(text)
        paths.append(path)
    return paths


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=FOLDER.parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()
