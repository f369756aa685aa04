"""Static assets as a kind of binding: the section `assets`, a front door, and `env.<binding>` if it is named."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bindings.assets.files import AssetFolder, read_rules_file
from bindings.assets.globs import IgnoreRules, worker_first
from bindings.assets.html import HtmlHandling, NotFoundHandling
from bindings.assets.rules import parse_rules
from bindings.assets.server import AssetServer, Settings
from bindings.front_door import FrontDoor
from bindings.kind import BindingRuntime
from edge_runtime.config.decode import decode
from edge_runtime.config.model import Binding, Where
from edge_runtime.config.paths import path_inside
from edge_runtime.errors import ConfigError, ScriptError
from edge_runtime.limits import ASSET_RULE_LINE_MAX, ASSET_WORKER_FIRST_RULES_MAX

_log = logging.getLogger(__name__)
_SECTION: Final = "assets"


class AssetsSection(msgspec.Struct, frozen=True):
    directory: str
    binding: str | None = None
    html_handling: HtmlHandling = "auto-trailing-slash"
    not_found_handling: NotFoundHandling = "none"
    run_worker_first: bool | list[str] = False


class AssetsSpec(msgspec.Struct, frozen=True):
    directory: Path
    """Absolute."""
    html_handling: HtmlHandling
    not_found_handling: NotFoundHandling
    run_worker_first: bool | tuple[str, ...]


class AssetsKind:
    name = "assets"
    sections = (_SECTION,)

    def parse(self, sections: Mapping[str, object], worker: str, where: Where) -> Iterable[Binding]:
        if _SECTION not in sections:
            return
        place = where / _SECTION
        section = decode(sections[_SECTION], AssetsSection, place)
        if section.binding is not None and not section.binding.isidentifier():
            raise ConfigError(
                place.file, (place / "binding").at, f'the string "{section.binding}"', "a name that Python can spell"
            )
        first = section.run_worker_first
        if not isinstance(first, bool):
            _check_worker_first(first, place / "run_worker_first")
        yield Binding(
            self.name,
            section.binding or "",
            AssetsSpec(
                path_inside(section.directory, place / "directory"),
                section.html_handling,
                section.not_found_handling,
                first if isinstance(first, bool) else tuple(first),
            ),
        )

    def build(self, binding: Binding, runtime: BindingRuntime) -> AssetServer:
        spec = binding.spec
        assert isinstance(spec, AssetsSpec)
        if not spec.directory.is_dir():
            raise ScriptError(
                f"worker {runtime.worker.name}: the folder {spec.directory} named by assets.directory does not exist"
            )
        rules = parse_rules(
            read_rules_file(spec.directory, "_headers"),
            read_rules_file(spec.directory, "_redirects"),
            spec.html_handling,
        )
        for problem in rules.problems:
            _log.warning("worker %s: %s", runtime.worker.name, problem)
        first = spec.run_worker_first
        settings = Settings(
            html_handling=spec.html_handling,
            not_found_handling=spec.not_found_handling,
            worker_first=first if isinstance(first, bool) else worker_first(first),
            has_script=runtime.worker.main is not None,
            navigation_prefers_assets=runtime.worker.flag(
                "assets_navigation_prefers_asset_serving", "2025-04-01", "assets_navigation_has_no_effect"
            ),
        )
        ignored = IgnoreRules(read_rules_file(spec.directory, ".assetsignore"))
        return AssetServer(AssetFolder(spec.directory, ignored), rules, settings, runtime.offload)

    def front_door(self, binding: Binding, built: object | None, runtime: BindingRuntime) -> FrontDoor | None:
        assert isinstance(built, AssetServer)
        return built

    async def serve(self, bindings: Sequence[Binding], runtime: BindingRuntime) -> None:
        return


def _check_worker_first(rules: list[str], where: Where) -> None:
    if len(rules) > ASSET_WORKER_FIRST_RULES_MAX:
        raise ConfigError(where.file, where.at, f"{len(rules)} rules", f"at most {ASSET_WORKER_FIRST_RULES_MAX} rules")
    for index, rule in enumerate(rules):
        if not rule.removeprefix("!").startswith("/") or len(rule) > ASSET_RULE_LINE_MAX:
            place = where / index
            raise ConfigError(place.file, place.at, f'the string "{rule[:80]}"', 'a rule that begins with "/" or "!/"')
    if rules and all(rule.startswith("!") for rule in rules):
        raise ConfigError(where.file, where.at, "only exceptions", 'at least one rule that begins with "/"')
