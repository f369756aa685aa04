from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from asset_folders import ask, inline, write_files

from bindings.assets import KIND
from bindings.assets.kind import AssetsSpec
from bindings.front_door import HasFrontDoor
from edge_runtime.config.load import load_config
from edge_runtime.config.model import Binding, Where
from edge_runtime.errors import ConfigError, ScriptError


@pytest.fixture
def where(tmp_path):
    return Where(str(tmp_path / "wrangler.jsonc"))


def parsed(value: object, where: Where) -> list[Binding]:
    return list(KIND.parse({"assets": value}, "site", where))


def runtime_of(config) -> SimpleNamespace:
    return SimpleNamespace(worker=config, offload=inline)


def test_section_becomes_one_binding_with_defaults(where, tmp_path):
    assert parsed({"directory": "./public/", "binding": "ASSETS"}, where) == [
        Binding("assets", "ASSETS", AssetsSpec(tmp_path / "public", "auto-trailing-slash", "none", False))
    ]


def test_binding_is_optional_and_settings_are_kept(where, tmp_path):
    (binding,) = parsed(
        {
            "directory": "public",
            "html_handling": "none",
            "not_found_handling": "404-page",
            "run_worker_first": ["/api/*", "!/api/docs"],
        },
        where,
    )
    assert binding.name == ""
    assert binding.spec == AssetsSpec(tmp_path / "public", "none", "404-page", ("/api/*", "!/api/docs"))


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ([], "assets"),
        ({}, "assets.directory"),
        ({"directory": 5}, "assets.directory"),
        ({"directory": ""}, "assets.directory"),
        ({"directory": "../outside"}, "assets.directory"),
        ({"directory": "/etc"}, "assets.directory"),
        ({"directory": "a\0b"}, "assets.directory"),
        ({"directory": "p", "binding": "not a name"}, "assets.binding"),
        ({"directory": "p", "html_handling": "maybe"}, "assets.html_handling"),
        ({"directory": "p", "not_found_handling": 404}, "assets.not_found_handling"),
        ({"directory": "p", "run_worker_first": "yes"}, "assets.run_worker_first"),
        ({"directory": "p", "run_worker_first": ["api"]}, "assets.run_worker_first[0]"),
        ({"directory": "p", "run_worker_first": ["/a", "!b"]}, "assets.run_worker_first[1]"),
        ({"directory": "p", "run_worker_first": ["!/a"]}, "assets.run_worker_first"),
        ({"directory": "p", "run_worker_first": ["/a"] * 101}, "assets.run_worker_first"),
    ],
)
def test_wrong_values_are_named_by_their_place(value, at, where):
    with pytest.raises(ConfigError) as caught:
        parsed(value, where)
    assert caught.value.at == at


async def test_kind_builds_the_binding_and_its_front_door(tmp_path, caplog):
    write_files(
        tmp_path,
        {
            "wrangler.jsonc": '{"name": "site", "compatibility_date": "2025-01-01", "assets": {"directory": "public"}}',
            "public/index.html": "home",
            "public/_redirects": "broken",
        },
    )
    config = load_config(tmp_path, [KIND])
    (binding,) = config.bindings
    with caplog.at_level(logging.WARNING):
        built = KIND.build(binding, runtime_of(config))
    assert "_redirects:1" in caplog.text
    assert isinstance(KIND, HasFrontDoor)
    door = KIND.front_door(binding, built, runtime_of(config))
    assert (await ask(door, "/")).body == b"home"
    assert (await ask(door, "/missing")).status == 404
    await KIND.serve([binding], runtime_of(config))


def test_missing_folder_is_reported_before_serving(tmp_path, where):
    (binding,) = parsed({"directory": "public"}, where)
    with pytest.raises(ScriptError, match=r"public named by assets\.directory does not exist"):
        KIND.build(binding, SimpleNamespace(worker=SimpleNamespace(name="site")))
