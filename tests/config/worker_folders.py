"""Workers on disk and binding kinds for the tests of configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from edge_runtime.config.decode import decode
from edge_runtime.config.model import Binding, Where
from edge_runtime.config.paths import path_inside

MINIMAL = 'name = "hello"\nmain = "src/entry.py"\ncompatibility_date = "2026-01-01"\n'


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def worker(root: Path, more: str = "", **files: str) -> Path:
    """A worker with a minimal wrangler.toml and `more` behind it."""
    return write(root, {"wrangler.toml": MINIMAL + more, "src/entry.py": "", **files})


class Namespace(msgspec.Struct, frozen=True):
    binding: str
    id: str = ""


class Drawers:
    """A kind like KV: a list of tables in `kv_namespaces`."""

    name = "drawers"
    sections = ("kv_namespaces",)

    def parse(self, sections: Mapping[str, object], worker: str, where: Where) -> Iterable[Binding]:
        for item in decode(sections["kv_namespaces"], list[Namespace], where / "kv_namespaces"):
            yield Binding(self.name, item.binding, (worker, item.id))


class Pictures:
    """A kind like assets: one table, inherited by environments, with a path."""

    name = "pictures"
    sections = ("assets",)

    def parse(self, sections: Mapping[str, object], worker: str, where: Where) -> Iterable[Binding]:
        table = decode(sections["assets"], dict[str, str], where / "assets")
        yield Binding(self.name, "", path_inside(table.get("directory", ""), where / "assets" / "directory"))


KINDS = (Drawers(), Pictures())
