"""Patterns of paths: `run_worker_first` lists, and the lines of `.assetsignore`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from edge_runtime.limits import ASSET_IGNORE_RULES_MAX


@dataclass(frozen=True, slots=True)
class WorkerFirst:
    """Which paths go to the script before assets are looked at: lists of globs, where * matches anything."""

    worker: tuple[re.Pattern[str], ...]
    assets: tuple[re.Pattern[str], ...]
    """Exceptions ("!/path"); they win."""

    def decide(self, path: str) -> Literal["worker", "assets"] | None:
        """None: no rule speaks of this path. `path` is as on the request line, without query."""
        if any(pattern.fullmatch(path) for pattern in self.assets):
            return "assets"
        return "worker" if any(pattern.fullmatch(path) for pattern in self.worker) else None


def worker_first(rules: Iterable[str]) -> WorkerFirst:
    """Compile rules that each begin with "/" or "!/"."""
    rules = tuple(rules)
    return WorkerFirst(
        tuple(_glob(rule) for rule in rules if not rule.startswith("!")),
        tuple(_glob(rule[1:]) for rule in rules if rule.startswith("!")),
    )


def _glob(rule: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in re.sub(r"\*+", "*", rule).split("*")), re.DOTALL)


class IgnoreRules:
    """The files that `.assetsignore` keeps from being served; its lines are those of a .gitignore file.

    A later line wins over an earlier one; a file in an ignored folder cannot be brought back.
    """

    __slots__ = ("_rules",)

    def __init__(self, text: str = "") -> None:
        compiled = (_ignore_rule(line) for line in text.splitlines()[:ASSET_IGNORE_RULES_MAX])
        self._rules = tuple(rule for rule in compiled if rule is not None)

    def ignores(self, path: str) -> bool:
        """`path` is the absolute name of a file within the folder, "/a/b.txt"."""
        if not self._rules:
            return False
        parts = path[1:].split("/")
        return any(
            self._matches("/".join(parts[:depth]), is_folder=depth < len(parts)) for depth in range(1, len(parts) + 1)
        )

    def _matches(self, name: str, *, is_folder: bool) -> bool:
        for rule in reversed(self._rules):
            if (is_folder or not rule.folders_only) and rule.pattern.fullmatch(name):
                return not rule.negated
        return False


@dataclass(frozen=True, slots=True)
class _IgnoreRule:
    pattern: re.Pattern[str]
    negated: bool
    folders_only: bool


def _ignore_rule(line: str) -> _IgnoreRule | None:
    line = line.rstrip("\r\n")
    while line.endswith(" ") and not line.endswith("\\ "):
        line = line[:-1]
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    line = line.removeprefix("!")
    folders_only = line.endswith("/")
    line = line.rstrip("/")
    anchored = "/" in line
    line = line.removeprefix("/")
    if not line:
        return None
    try:
        pattern = re.compile(("" if anchored else "(?:.*/)?") + _translate(line), re.DOTALL)
    except re.error:
        return None
    return _IgnoreRule(pattern, negated, folders_only)


_TOKEN = re.compile(r"(?P<folders>(?:^|(?<=/))\*\*/)|(?P<rest>(?<=/)\*\*$)|(?P<stars>\*+)|(?P<one>\?)|"
                    r"(?P<set>\[!?\]?[^\]/]*\])|\\(?P<escaped>.)|(?P<plain>.)", re.DOTALL)  # fmt: skip


def _translate(line: str) -> str:
    out = []
    for token in _TOKEN.finditer(line):
        kind = token.lastgroup
        text = token[0]
        if kind == "folders":
            out.append("(?:.*/)?")
        elif kind == "rest":
            out.append(".+")
        elif kind == "stars":
            out.append("[^/]*")
        elif kind == "one":
            out.append("[^/]")
        elif kind == "set":
            inner = text[1:-1]
            mark, inner = ("^/", inner[1:]) if inner.startswith("!") else ("", inner)
            escaped = inner.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace("^", "\\^")
            out.append(f"[{mark}{escaped}]")
        else:
            out.append(re.escape(token["escaped"] or text))
    return "".join(out)
