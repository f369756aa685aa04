"""Usage as a kind of binding, ours: the section `usage`, and in env what reads the ledger and bills it.

    "usage": {"binding": "USAGE", "scope": "worker", "tariffs": ["prices.toml"]}

`scope` is "worker" (the default: a worker reads its own usage) or "all" (that of every worker of the data directory).
`tariffs` are tariff files in the worker's folder, besides those that come with the runtime.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from bindings.kind import BindingRuntime
from bindings.usage.reader import UsageReader
from edge_runtime.config.decode import decode
from edge_runtime.config.model import Binding, Where
from edge_runtime.config.paths import path_inside
from edge_runtime.config.wording import quoted
from edge_runtime.errors import ConfigError
from edge_runtime.metering.tariff import Tariff, load_tariff, shipped

_SECTION: Final = "usage"


class UsageSection(msgspec.Struct, frozen=True):
    binding: str
    scope: Literal["worker", "all"] = "worker"
    tariffs: list[str] = []


class UsageSpec(msgspec.Struct, frozen=True):
    scope: Literal["worker", "all"]
    tariffs: tuple[Tariff, ...]
    """Of files; names differ from each other and from the shipped ones."""


class UsageKind:
    name = "usage"
    sections = (_SECTION,)

    def parse(self, sections: Mapping[str, object], worker: str, where: Where) -> Iterable[Binding]:
        if _SECTION not in sections:
            return
        place = where / _SECTION
        section = decode(sections[_SECTION], UsageSection, place)
        if not section.binding.isidentifier():
            raise ConfigError(
                place.file, (place / "binding").at, f"the string {quoted(section.binding)}", "a name Python can spell"
            )
        yield Binding(self.name, section.binding, UsageSpec(section.scope, _tariffs(section.tariffs, place)))

    def build(self, binding: Binding, runtime: BindingRuntime) -> UsageReader:
        spec = binding.spec
        assert isinstance(spec, UsageSpec)
        return UsageReader(
            runtime.store, runtime.clock, spec.tariffs, runtime.worker.name if spec.scope == "worker" else None
        )

    async def serve(self, bindings: Sequence[Binding], runtime: BindingRuntime) -> None:
        return


def _tariffs(files: Sequence[str], place: Where) -> tuple[Tariff, ...]:
    found: dict[str, Tariff] = {}
    for index, file in enumerate(files):
        at = place / "tariffs" / index
        path = path_inside(file, at)
        if not path.is_file():
            raise ConfigError(at.file, at.at, f"{quoted(file)}, which is no file", "the path of a tariff file")
        tariff = load_tariff(str(path))
        if tariff.name in found or tariff.name in shipped():
            raise ConfigError(
                at.file, at.at, f"a tariff called {quoted(tariff.name)}, as another is", "one tariff of each name"
            )
        found[tariff.name] = tariff
    return tuple(found.values())
