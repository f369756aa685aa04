from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.config import jsonc
from edge_runtime.config.files import read_config
from edge_runtime.errors import ConfigError


def refused(file: Path, content: str | bytes) -> ConfigError:
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as caught:
        read_config(file)
    assert caught.value.file == str(file)
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1,}', {"a": 1}),
        ("[1, 2,\n]", [1, 2]),
        ('{"a": [1, /* , */], // ]\n}', {"a": [1]}),
        ('{"a": "// no comment, }", "b": "/* nor this */"}', {"a": "// no comment, }", "b": "/* nor this */"}),
        ('{"a": "\\"//,]"}', {"a": '"//,]'}),
        ('/**/{"Infinity": -1.5e3}//', {"Infinity": -1500.0}),
        ('{"a": {"x": 1}, "b": {"x": 1}}', {"a": {"x": 1}, "b": {"x": 1}}),
    ],
)
def test_comments_and_trailing_commas_are_read(text: str, value: object) -> None:
    assert jsonc.parse(text) == value


@pytest.mark.parametrize(
    ("text", "place", "found", "allowed"),
    [
        ("", (1, 1), "the end of the file", "a JSON value"),
        ('{\n  "a": 1,\n  a: 2\n}', (3, 3), '"a: 2"', "a key in double quotes"),
        ("{'a': 1}", (1, 2), "\"'a': 1}\"", "strings in double quotes"),
        ("{\"a\": 'b'}", (1, 7), "\"'b'}\"", "strings in double quotes"),
        ('{"a": 0x10}', (1, 8), '"x10}"', "decimal numbers"),
        ('{"NaN": NaN}', (1, 9), "the word NaN", "a JSON number, true, false or null"),
        ('{"a": -Infinity}', (1, 7), "the word -Infinity", "a JSON number, true, false or null"),
        ('{"a": +1}', (1, 7), '"+1}"', "a JSON value"),
        ('{"a": .5}', (1, 7), '".5}"', "a JSON value"),
        ('{"a": 1,, }', (1, 9), '", }"', "a key in double quotes"),
        ("[,]", (1, 2), '",]"', "a JSON value"),
        ("{,}", (1, 2), '",}"', "a key in double quotes"),
        ("[1,,]", (1, 4), '",]"', "a JSON value"),
        ('{"a" 1}', (1, 6), '"1}"', "a colon after the key"),
        ('{"a": 1\n "b": 2}', (2, 2), '"\\"b\\": 2}"', "a comma or a closing bracket"),
        ('{"a": 1} 2', (1, 10), '"2"', "one JSON value and nothing after it"),
        ('{"a": "b', (1, 7), '"\\"b"', "a closing double quote on the same line"),
        ('{"a": 1 /* }', (1, 9), "a comment that does not end", "/* ... */"),
        ('{"a": {"b": 1,\n"b": 2}}', (2, 1), 'the key "b" a second time', "each key once"),
        ('{"a": 1, "\\u0061": 2}', (1, 10), 'the key "\\u0061" a second time', "each key once"),
    ],
)
def test_json_beyond_wranglers_is_refused_with_line_and_column(
    tmp_path: Path, text: str, place: tuple[int, int], found: str, allowed: str
) -> None:
    error = refused(tmp_path / "wrangler.jsonc", text)
    assert (error.at, error.found, error.allowed) == (f"line {place[0]}, column {place[1]}", found, allowed)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ('name = "a"\nmain =', "line 2, column 7"),
        ('name = "a"\nname = "b"\n', "line 2, column 11"),
        ('name = "a', "line 1, column 10"),
        ("a = 2026-13-01", "line 1, column 9"),
        ("a = 1\nb = 'x' y", "line 2, column 9"),
    ],
)
def test_toml_is_refused_with_line_and_column(tmp_path: Path, text: str, at: str) -> None:
    error = refused(tmp_path / "wrangler.toml", text)
    assert (error.at, error.allowed) == (at, "valid TOML")


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("wrangler.toml", b"a = '\xff'", "the byte 0xff in line 1"),
        ("wrangler.json", b"{\n\xfe}", "the byte 0xfe in line 2"),
        ("wrangler.json", b"[1]", "a list of 1"),
        ("wrangler.json", b'{"a": "\\ud800"}', "half of a surrogate pair"),
        ("wrangler.json", b'{"\\ud800": 1}', "half of a surrogate pair"),
        ("wrangler.json", b'{"a": 1e999}', "the number inf"),
        ("wrangler.json", b'{"a": ' + b"9" * 5000 + b"}", "a number of thousands of digits"),
        ("wrangler.toml", b"a = 0x" + b"f" * 1000, "the number of 4000 bits"),
        ("wrangler.json", b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "deeper nesting"),
        ("wrangler.json", b"[" * 200_000, "deeper nesting"),
        ("wrangler.toml", b"a = " + b"[" * 100_000, "deeper nesting"),
        ("wrangler.toml", b"#" * (2**20 + 1), "more than 1048576 bytes"),
    ],
)
def test_content_that_cannot_be_configuration_is_refused(tmp_path: Path, name: str, content: bytes, found: str) -> None:
    assert refused(tmp_path / name, content).found == found


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "wrangler.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_config(file) == {"a": 1}


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wrangler.toml").mkdir()
    with pytest.raises(ConfigError, match="no regular file"):
        read_config(tmp_path / "wrangler.toml")
