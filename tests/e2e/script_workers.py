"""Workers of the tests' own: their folders written, one server for many of them, requests to each by host."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from edge_process import EDGE, EdgeProcess, plain_client

SCRIPTS = Path(__file__).parent / "workers"
FLAVOURS = ("trio", "asyncio")
OLD_DATE = "2025-11-02"
"""The compatibility date of Cloudflare's examples."""


def write_worker(folder: Path, script: str, files: dict[str, str | bytes] | None = None, **config: object) -> Path:
    folder.mkdir(parents=True)
    for name, content in {"src/entry.py": script, **(files or {})}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    written = {"name": folder.name, "main": "src/entry.py", "compatibility_date": "2026-05-01", **config}
    (folder / "wrangler.json").write_text(json.dumps(written))
    return folder


def write_flavours(root: Path, subject: str, flavours: Iterable[str] = FLAVOURS, **config: object) -> None:
    """The script of a subject as one worker a flavour, named `<subject>-<flavour>`."""
    script = (SCRIPTS / f"{subject}.py").read_text()
    given = dict(config.pop("vars", None) or {})  # type: ignore[call-overload]
    for flavour in flavours:
        write_worker(
            root / f"{subject}-{flavour}",
            script,
            compatibility_flags=["python_workers"] if flavour == "asyncio" else [],
            vars={"FLAVOUR": flavour, **given},
            **config,
        )


@contextmanager
def served(root: Path, data: Path) -> Iterator[EdgeProcess]:
    """`edge run` for every worker in a folder; it must end cleanly, without a word from Python itself."""
    with EdgeProcess("run", root, "--port", 0, "--data", data, "--grace-s", 1) as edge:
        yield edge.wait_ready()
        assert edge.interrupt() == 0
        for complaint in ("never awaited", "never retrieved", "Task was destroyed", "unraisable", "ResourceWarning"):
            assert complaint not in edge.output, edge.output


def client_of(edge: EdgeProcess, worker: str) -> httpx2.Client:
    """A client whose every request goes to one worker."""
    return plain_client(edge.url, headers={"host": f"{worker}.localhost"})


def edge_command(*arguments: object) -> str:
    done = subprocess.run([*EDGE, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
