"""What the tests of KV share."""

import pytest
from kv_fakes import StillClock

from edge_runtime.store.lmdb_store import open_store
from edge_runtime.store.memory_store import open_memory_store


@pytest.fixture(params=["memory", "lmdb"])
async def store(request, tmp_path):
    if request.param == "memory":
        async with open_memory_store() as opened:
            yield opened
    else:
        async with open_store(tmp_path / "store") as opened:
            yield opened


@pytest.fixture
def clock():
    return StillClock()
