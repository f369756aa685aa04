from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from foreign_worker import Worker, open_worker


@pytest.fixture(params=["trio", "asyncio"])
async def worker(request: pytest.FixtureRequest) -> AsyncIterator[Worker]:
    """A worker of each flavour."""
    async with open_worker(request.param) as opened:
        yield opened
