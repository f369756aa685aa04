from __future__ import annotations

from pathlib import Path

import pytest
from crash_server import CrashServer, ModelServer


@pytest.fixture
def model(tmp_path):
    server = ModelServer(tmp_path / "asked.jsonl")
    yield server
    server.close()


@pytest.fixture
def server(tmp_path):
    """Make a CrashServer on the test's data directory; ended with the test."""
    made = []

    def make(folder: Path, **variables: object) -> CrashServer:
        made.append(CrashServer(folder, tmp_path / "data", **variables))
        return made[-1]

    yield make
    for one in made:
        one.close()
