from __future__ import annotations

from pathlib import Path

import pytest
from worker_folders import write

from edge_runtime.config.dev_vars import read_dev_vars, read_dotenv
from edge_runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# nothing\n\n   \n", {}),
        ("A=1", {"A": "1"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("export A = spaced out  \n", {"A": "spaced out"}),
        ("A: yaml", {"A": "yaml"}),
        ("A=", {"A": ""}),
        ("A=\nB=2", {"A": "", "B": "2"}),
        ("A=#c\nB=x#y # z", {"A": "", "B": "x"}),
        ("A='#kept' # comment\nB=\"#kept\"", {"A": "#kept", "B": "#kept"}),
        ("A='a\\nb'\nB=\"a\\nb\"\nC=a\\nb", {"A": "a\\nb", "B": "a\nb", "C": "a\\nb"}),
        ('KEY="-----BEGIN\nline=2\n-----END"\nB=1', {"KEY": "-----BEGIN\nline=2\n-----END", "B": "1"}),
        ('A=`it\'s "so"`', {"A": 'it\'s "so"'}),
        ('A="say \\"hi\\""', {"A": 'say \\"hi\\"'}),
        ("a.b-c=1", {"a.b-c": "1"}),
        ("A=x=y", {"A": "x=y"}),
        ("A=don't", {"A": "don't"}),
        ("A=${B}\nB=1", {"A": "${B}", "B": "1"}),
        ("A=1\nA=2", {"A": "2"}),
    ],
)
def test_dotenv_syntax(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    write(tmp_path, {".dev.vars": text.encode()})
    assert read_dotenv(tmp_path / ".dev.vars") == expected


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("A=1\nhunter2", "line 2"),
        ("=hunter2", "line 1"),
        ('A="x\n\nhunter2', "line 1.A"),
        ('\nA="x" hunter2', "line 2.A"),
    ],
)
def test_wrong_line_is_refused_without_showing_it(tmp_path: Path, text: str, at: str) -> None:
    write(tmp_path, {".dev.vars": text})
    with pytest.raises(ConfigError) as caught:
        read_dotenv(tmp_path / ".dev.vars")
    assert caught.value.at == at
    assert "hunter2" not in str(caught.value)


def test_file_of_the_environment_stands_in_for_the_general_one(tmp_path: Path) -> None:
    write(tmp_path, {".dev.vars": "A=general", ".dev.vars.staging": "B=staging", ".env": "C=env"})
    assert read_dev_vars(tmp_path, None) == {"A": "general"}
    assert read_dev_vars(tmp_path, "staging") == {"B": "staging"}
    assert read_dev_vars(tmp_path, "other") == {"A": "general"}


def test_env_files_are_merged_where_no_dev_vars_exist(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            ".env": "A=1\nB=1\nC=1\nD=1",
            ".env.local": "B=2\nC=2\nD=2",
            ".env.staging": "C=3\nD=3",
            ".env.staging.local": "D=4",
        },
    )
    assert read_dev_vars(tmp_path, None) == {"A": "1", "B": "2", "C": "2", "D": "2"}
    assert read_dev_vars(tmp_path, "staging") == {"A": "1", "B": "2", "C": "3", "D": "4"}
    assert read_dev_vars(tmp_path, None, dot_env=False) == {}


def test_folder_named_env_is_no_file_of_secrets(tmp_path: Path) -> None:
    write(tmp_path, {".env/bin/python": ""})
    assert read_dev_vars(tmp_path, None) == {}
