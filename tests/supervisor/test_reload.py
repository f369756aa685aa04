"""Which changes of files are a worker's, in development."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.supervisor.reload import changes_of_worker


@pytest.mark.parametrize("name", ["entry.py", "lib/part.py", "wrangler.jsonc", "gone.py", "other.log"])
def test_a_workers_files_are_seen(tmp_path: Path, name: str) -> None:
    (tmp_path / "other.log").touch()
    assert changes_of_worker(tmp_path, tmp_path / "data")(None, str(tmp_path / name))


@pytest.mark.parametrize("name", ["data/lock", ".venv/lib/part.py", "__pycache__/entry.pyc", "entry.py.swp", ".edge/x"])
def test_what_tools_and_the_server_put_beside_them_is_not(tmp_path: Path, name: str) -> None:
    assert not changes_of_worker(tmp_path, tmp_path / "data")(None, str(tmp_path / name))


def test_the_file_that_the_server_prints_to_is_not(tmp_path: Path) -> None:
    with open(tmp_path / "server.log", "w") as log:
        is_change = changes_of_worker(tmp_path, tmp_path / "data", output=[log.fileno()])
        assert not is_change(None, str(tmp_path / "server.log"))
        assert is_change(None, str(tmp_path / "entry.py"))
