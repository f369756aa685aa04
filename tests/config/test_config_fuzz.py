"""Whatever stands in the files, reading them gives a configuration or a ConfigError."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worker_folders import KINDS, write

from edge_runtime.config import keys
from edge_runtime.config.dev_vars import read_dotenv
from edge_runtime.config.load import load_config
from edge_runtime.config.model import WorkerConfig
from edge_runtime.config.requirements import read_requirements
from edge_runtime.errors import ConfigError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return write(tmp_path_factory.mktemp("fuzz"), {"src/entry.py": ""})


def load(folder: Path, name: str, content: bytes, environment: str | None = None) -> WorkerConfig | None:
    file = folder / name
    file.write_bytes(content)
    try:
        return load_config(file, KINDS, environment=environment)
    except ConfigError as error:
        refusal = error
    assert refusal.found
    assert refusal.allowed
    assert str(refusal).encode()
    return None


WORDS = st.sampled_from(
    sorted(keys.KNOWN | {"binding", "id", "pattern", "crons", "cpu_ms", "flavour", "directory", "a"})
)
TEXT = st.one_of(
    st.text(max_size=12), WORDS, st.sampled_from(["* * * * *", "src/entry.py", "2026-01-01", "x.com/*", ".."])
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.one_of(WORDS, TEXT), inner, max_size=5)),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["w.toml", "w.json", "w.jsonc"]))
def test_any_bytes(folder: Path, content: bytes, name: str) -> None:
    load(folder, name, content)


@settings(deadline=None)
@given(st.text(alphabet="{}[]\",:'/*\\\n -+.0123456789eEnulltrueNaNInfinity=#abcx", max_size=60))
def test_any_punctuation(folder: Path, text: str) -> None:
    load(folder, "w.jsonc", text.encode())
    load(folder, "w.toml", text.encode())


@settings(deadline=None)
@given(VALUES)
def test_any_json_value(folder: Path, value: object) -> None:
    load(folder, "w.json", json.dumps(value).encode())


@settings(deadline=None)
@given(st.dictionaries(WORDS, VALUES, max_size=6), st.sampled_from([None, "a", "env"]))
def test_any_values_of_known_keys(folder: Path, values: dict[str, object], environment: str | None) -> None:
    base = {"name": "hello", "main": "src/entry.py", "compatibility_date": "2026-01-01"}
    config = load(folder, "w.json", json.dumps({**base, **values}).encode(), environment)
    if config is not None:
        assert config.limits.cpu_ms >= 1
        assert config.root == folder
        assert all(isinstance(name, str) for name in config.vars)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5))
def test_json_is_read_as_the_strict_parser_reads_it(folder: Path, values: dict[str, object]) -> None:
    text = json.dumps({"vars": values, "name": "hello", "main": "src/entry.py", "compatibility_date": "2026-01-01"})
    config = load(folder, "w.jsonc", text.encode())
    if config is not None:
        assert config.vars == msgspec.json.decode(text)["vars"]


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=80), st.text(alphabet="AB=:'\"`#\\n \t\nexport", max_size=60).map(str.encode)))
def test_any_dotenv(folder: Path, content: bytes) -> None:
    (folder / "vars").write_bytes(content)
    try:
        found = read_dotenv(folder / "vars")
    except ConfigError:
        return
    assert all(name.isascii() for name in found)


@settings(deadline=None)
@given(VALUES)
def test_any_pyproject(folder: Path, value: object) -> None:
    # A JSON scalar or list on one line is, for most values, TOML too.
    (folder / "pyproject.toml").write_text(f"project.dependencies = {json.dumps(value)}\n")
    try:
        found = read_requirements(folder)
    except ConfigError:
        return
    finally:
        (folder / "pyproject.toml").unlink()
    assert not any(text.startswith("-") for text in found)
