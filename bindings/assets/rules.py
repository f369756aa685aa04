"""The `_headers` and `_redirects` files: reading them, and applying them to a path. Pure.

A line that cannot be meant is left out and described in `problems`; the rest counts. In patterns * matches anything
and is `:splat` in what follows, `:name` matches one segment. Source: workers-shared utils/configuration.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from edge_runtime.limits import (
    ASSET_DYNAMIC_REDIRECTS_MAX,
    ASSET_HEADER_RULES_MAX,
    ASSET_RULE_LINE_MAX,
    ASSET_STATIC_REDIRECTS_MAX,
)

REDIRECT_STATUSES: Final = (301, 302, 303, 307, 308)
_REWRITE: Final = 200

_NAME: Final = re.compile(r":([A-Za-z]\w*)", re.ASCII)
_PATH_LINE: Final = re.compile(r"[^\s]+://|/")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]+")


@dataclass(frozen=True, slots=True)
class HeaderRule:
    pattern: re.Pattern[str]
    of_host: bool
    """The pattern is matched against "https://host/path" rather than the path."""
    set: tuple[tuple[str, str], ...]
    unset: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RedirectRule:
    pattern: re.Pattern[str]
    to: str
    status: int


@dataclass(frozen=True, slots=True)
class RedirectTarget:
    """Where a path leads: a path or URL; status 200 stands for serving that path in place."""

    to: str
    status: int


@dataclass(frozen=True, slots=True)
class Rules:
    headers: tuple[HeaderRule, ...] = ()
    static: dict[str, RedirectTarget] = field(default_factory=dict)
    dynamic: tuple[RedirectRule, ...] = ()
    problems: tuple[str, ...] = ()

    def redirect(self, path: str) -> RedirectTarget | None:
        """The first rule that fits a path as on the request line; exact ones before patterns."""
        if (target := self.static.get(path)) is not None:
            return target
        for rule in self.dynamic:
            if (match := rule.pattern.fullmatch(path)) is not None:
                to = _fill(rule.to, match)
                return RedirectTarget(to if "://" in to else re.sub("/{2,}", "/", to), rule.status)
        return None

    def apply_headers(self, host: str, path: str, headers: list[tuple[bytes, bytes]]) -> None:
        """Change a response's headers. Values of several rules are combined; a rule's first value replaces ours."""
        given: set[bytes] = set()
        for rule in self.headers:
            match = rule.pattern.fullmatch(f"https://{host}{path}" if rule.of_host else path)
            if match is None:
                continue
            for name in rule.unset:
                _remove(headers, name.encode())
            for name, value in rule.set:
                raw = name.encode()
                if raw not in given:
                    _remove(headers, raw)
                    given.add(raw)
                headers.append((raw, _fill(value, match).encode("utf-8", "replace")))


def parse_rules(headers_file: str, redirects_file: str, html_handling: str) -> Rules:
    problems: list[str] = []
    headers = _parse_headers(headers_file, problems)
    static, dynamic = _parse_redirects(redirects_file, html_handling != "none", problems)
    return Rules(headers, static, dynamic, tuple(problems))


def _parse_headers(text: str, problems: list[str]) -> tuple[HeaderRule, ...]:
    rules: list[HeaderRule] = []
    pattern: re.Pattern[str] | None = None
    of_host = False
    given: dict[str, str] = {}
    unset: list[str] = []

    def close() -> None:
        if pattern is not None and (given or unset):
            rules.append(HeaderRule(pattern, of_host, tuple(given.items()), tuple(unset)))

    for number, line in _lines(text, "_headers", problems):
        if _PATH_LINE.match(line):
            close()
            pattern, given, unset = None, {}, []
            if len(rules) >= ASSET_HEADER_RULES_MAX:
                problems.append(f"_headers:{number}: more than {ASSET_HEADER_RULES_MAX} rules; the rest is left out")
                return tuple(rules)
            of_host = line.startswith("https://")
            if of_host or line.startswith("/"):
                pattern = _pattern(line, f"_headers:{number}", problems)
            else:
                problems.append(f"_headers:{number}: a URL here begins with https://")
            continue
        if pattern is None:
            problems.append(f"_headers:{number}: a header before any path")
            continue
        name, colon, value = (part.strip() for part in line.partition(":"))
        name = name.lower()
        if not colon and name.startswith("!"):
            unset.append(name[1:].strip())
        elif not colon or not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            problems.append(f'_headers:{number}: expected "Name: value" or "! Name"')
        else:
            given[name] = f"{given[name]}, {value}" if name in given else value
    close()
    return tuple(rules)


def _parse_redirects(
    text: str, html_handling: bool, problems: list[str]
) -> tuple[dict[str, RedirectTarget], tuple[RedirectRule, ...]]:
    static: dict[str, RedirectTarget] = {}
    dynamic: list[RedirectRule] = []
    seen: set[str] = set()
    for number, line in _lines(text, "_redirects", problems):
        place = f"_redirects:{number}"
        tokens = line.split()
        comment = next((at for at, token in enumerate(tokens) if at >= 2 and token.startswith("#")), len(tokens))
        problem = _redirect_problem(tokens[:comment], html_handling)
        if problem is None and tokens[0] in seen:
            problem = f"{tokens[0]} has a rule already"
        if problem is not None:
            problems.append(f"{place}: {problem}")
            continue
        source, to, status = tokens[0], tokens[1], int(tokens[2]) if comment == 3 else 302
        seen.add(source)
        if "*" in source or _NAME.search(source) or dynamic:
            pattern = _pattern(source, place, problems)
            if len(dynamic) >= ASSET_DYNAMIC_REDIRECTS_MAX:
                problems.append(f"{place}: more than {ASSET_DYNAMIC_REDIRECTS_MAX} rules with patterns; left out")
            elif pattern is not None:
                dynamic.append(RedirectRule(pattern, to, status))
        elif len(static) >= ASSET_STATIC_REDIRECTS_MAX:
            problems.append(f"{place}: more than {ASSET_STATIC_REDIRECTS_MAX} rules; left out")
        else:
            static[source] = RedirectTarget(to, status)
    return static, tuple(dynamic)


def _redirect_problem(tokens: Sequence[str], html_handling: bool) -> str | None:
    if len(tokens) not in (2, 3):
        return f"expected a path, a destination and perhaps a status, found {len(tokens)} words"
    source, to = tokens[0], tokens[1]
    if not source.startswith("/"):
        return f"{source}: a rule applies to a path, which begins with /"
    elsewhere = to.startswith(("https://", "http://"))
    if not elsewhere and not to.startswith("/"):
        return f"{to}: a destination is a path or an http(s) URL"
    if len(tokens) == 3:
        if tokens[2] not in {str(status) for status in (_REWRITE, *REDIRECT_STATUSES)}:
            return f"status {tokens[2]}; allowed: 200, 301, 302 (default), 303, 307, 308"
        if tokens[2] == str(_REWRITE) and elsewhere:
            return f"{to}: a rule with status 200 leads to a path"
    loops = source.endswith("/*") or (source.endswith("/") and html_handling)
    if loops and not elsewhere and to.endswith(("/index", "/index.html")):
        return "this rule would lead back to itself"
    return None


def _lines(text: str, file: str, problems: list[str]) -> list[tuple[int, str]]:
    kept = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if len(line) > ASSET_RULE_LINE_MAX:
            problems.append(f"{file}:{number}: longer than {ASSET_RULE_LINE_MAX} characters; left out")
            continue
        kept.append((number, line))
    return kept


def _pattern(rule: str, place: str, problems: list[str]) -> re.Pattern[str] | None:
    origin, path = "", rule
    if rule.startswith("https://"):
        host, slash, rest = rule.removeprefix("https://").partition("/")
        origin, path = "https://" + _compile_part(host, "[^/.]+"), slash + rest
    try:
        return re.compile(origin + _compile_part(path, "[^/]+"), re.DOTALL)
    except re.error:
        problems.append(f"{place}: a pattern holds * or a name at most once; left out")
        return None


def _compile_part(text: str, one: str) -> str:
    out, at = "", 0
    for found in re.finditer(r"\*|" + _NAME.pattern, text, re.ASCII):
        name = found[1] or "splat"
        out += re.escape(text[at : found.start()]) + f"(?P<{name}>{one if found[1] else '.*'})"
        at = found.end()
    return out + re.escape(text[at:])


def _fill(text: str, match: re.Match[str]) -> str:
    values = match.groupdict()
    if not values:
        return text
    return _NAME.sub(lambda found: values.get(found[1], found[0]), text)


def _remove(headers: list[tuple[bytes, bytes]], name: bytes) -> None:
    headers[:] = [pair for pair in headers if pair[0] != name]
