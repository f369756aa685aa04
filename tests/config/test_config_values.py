"""Durations, route patterns and requirements."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worker_folders import write

from edge_runtime.config.durations import parse_duration_ms
from edge_runtime.config.model import Route, Where
from edge_runtime.config.requirements import read_requirements
from edge_runtime.config.routes import decode_routes, parse_route
from edge_runtime.errors import ConfigError

HERE = Where("/w/wrangler.toml")


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (0, 0),
        (1500, 1500),
        (0.2, 1),
        ("1500", 1500),
        ("1 second", 1000),
        ("10 seconds", 10_000),
        ("1 Hour", 3_600_000),
        ("1.1 seconds", 1100),
        ("2 days", 172_800_000),
        ("1 week", 604_800_000),
        ("1 month", 30 * 86_400_000),
        ("1 year", 365 * 86_400_000),
        ("5minutes", 300_000),
    ],
)
def test_duration_in_milliseconds(value: object, ms: int) -> None:
    assert parse_duration_ms(value) == ms


@pytest.mark.parametrize(
    "value", [-1, float("nan"), float("inf"), 10**400, "", "x", "1 fortnight", "-1 day", "1 2 days"]
)
def test_wrong_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"duration: found .*; allowed: "):
        parse_duration_ms(value)


@pytest.mark.parametrize("value", [None, True, b"1 day", ["1 day"]])
def test_duration_of_another_type_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="duration: found"):
        parse_duration_ms(value)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=30), st.integers(), st.floats()))
def test_any_duration_is_a_whole_number_or_refused(value: object) -> None:
    try:
        assert parse_duration_ms(value) >= 0
    except ValueError:
        pass


@pytest.mark.parametrize(
    ("pattern", "routes"),
    [
        ("example.com/api/*", [Route("example.com", "/api/")]),
        ("https://Example.com/API/*", [Route("example.com", "/API/")]),
        ("example.com/api*", [Route("example.com", "/api")]),
        ("example.com/exact", [Route("example.com", "/exact", exact=True)]),
        ("example.com", [Route("example.com", "/", exact=True)]),
        ("*.example.com/*", [Route("*.example.com", "/")]),
        ("*example.com/*", [Route("example.com", "/"), Route("*.example.com", "/")]),
        ("/api/*", [Route("*", "/api/")]),
        ("/", [Route("*", "/", exact=True)]),
        ("*/*", [Route("*", "/")]),
        ("*", [Route("*", "/")]),
        ("127.0.0.1/*", [Route("127.0.0.1", "/")]),
    ],
)
def test_route_pattern(pattern: str, routes: list[Route]) -> None:
    assert list(parse_route(pattern, HERE)) == routes


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "a b.com/",
        "a*b.com/",
        "a.com/*/b",
        "a.com/?q=1",
        "a.com:80/*",
        "ftp://a.com/*",
        "a..com/",
        "-a.com/",
        "ä.de/",
    ],
)
def test_wrong_route_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError):
        parse_route(pattern, HERE)


def test_routes_are_listed_once_and_disabled_ones_left_out() -> None:
    routes = ["a.com/*", {"pattern": "a.com", "custom_domain": True}, {"pattern": "b.com/*", "enabled": False}]
    assert decode_routes(None, routes, HERE) == (Route("a.com", "/"),)
    with pytest.raises(ConfigError, match="a host alone"):
        decode_routes({"pattern": "a.com/*", "custom_domain": True}, None, HERE)
    with pytest.raises(ConfigError, match="both route and routes"):
        decode_routes("a.com/*", [], HERE)


def test_requirements_leave_out_what_the_runtime_provides(tmp_path: Path) -> None:
    text = """
[project]
name = "w"
dependencies = ["fastapi", "Workers_Py", "workers-runtime-sdk>=1", "jinja2 >=3 ; python_version > '3'", "fastapi"]
[dependency-groups]
dev = ["pytest"]
[tool.other]
key = 2026-01-01
"""
    write(tmp_path, {"pyproject.toml": text})
    assert read_requirements(tmp_path) == ("fastapi", "jinja2 >=3 ; python_version > '3'")


def test_no_pyproject_means_no_requirements(tmp_path: Path) -> None:
    assert read_requirements(tmp_path) == ()
    write(tmp_path, {"pyproject.toml": "[build-system]\nrequires = []"})
    assert read_requirements(tmp_path) == ()


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("project = 1", "project"),
        ("project.dependencies = 'x'", "project.dependencies"),
        ("project.dependencies = [1]", "project.dependencies[0]"),
        ("project.dependencies = ['a', '--index-url=http://x']", "project.dependencies[1]"),
        ("project.dependencies = ['./local']", "project.dependencies[0]"),
        ("project.dependencies = ['']", "project.dependencies[0]"),
        ("project.dependencies = [", "line 1, column 25"),
    ],
)
def test_wrong_requirements_are_refused(tmp_path: Path, text: str, at: str) -> None:
    write(tmp_path, {"pyproject.toml": text})
    with pytest.raises(ConfigError) as caught:
        read_requirements(tmp_path)
    assert caught.value.file == str(tmp_path / "pyproject.toml")
    assert caught.value.at == at
