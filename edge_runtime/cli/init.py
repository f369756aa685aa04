"""`edge init`: a new worker to start from."""

from __future__ import annotations

import re
from pathlib import Path

import click

from edge_runtime.errors import UsageError

_SCRIPT = """\
from workers import DurableObject, Response, WorkerEntrypoint


class Counter(DurableObject):
    async def increment(self):
        count = (await self.ctx.storage.get("count") or 0) + 1
        await self.ctx.storage.put("count", count)
        return count


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        counter = self.env.COUNTER.getByName("visits")
        return Response.json({"visits": await counter.increment()})
"""

_CONFIG = """\
{
  "name": "%(name)s",
  "main": "src/entry.py",
  "compatibility_date": "2026-05-01",
  // python_workers: asyncio, as on Cloudflare. Without it the script runs on trio.
  "compatibility_flags": ["python_workers"],
  "durable_objects": {"bindings": [{"name": "COUNTER", "class_name": "Counter"}]},
  "migrations": [{"tag": "v1", "new_sqlite_classes": ["Counter"]}]
}
"""

_IGNORE = ".edge/\n.dev.vars\n__pycache__/\n"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--name", default=None, help="Name of the worker; by default the folder's.")
def init(folder: Path, name: str | None) -> None:
    """Write a new worker to start from: a configuration and a script with a Durable Object.

    Nothing that exists is overwritten.
    """
    name = name or re.sub(r"[^a-z0-9-]+", "-", folder.resolve().name.lower()).strip("-") or "worker"
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        raise UsageError(
            f"cannot name a worker {name!r}: allowed are lower-case letters, digits and dashes, at most 63"
        )
    files = {"wrangler.jsonc": _CONFIG % {"name": name}, "src/entry.py": _SCRIPT, ".gitignore": _IGNORE}
    taken = [file for file in files if (folder / file).exists()]
    if taken:
        raise UsageError(f"cannot write a new worker into {folder}: it has {', '.join(taken)} already")
    for file, text in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    click.echo(f"wrote {', '.join(files)} to {folder}\nstart it with: edge dev {folder}")
