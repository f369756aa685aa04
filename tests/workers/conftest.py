from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from script_event import open_event

from edge_runtime.event import EventContext


@pytest.fixture(params=["trio", "asyncio"])
async def event(request: pytest.FixtureRequest) -> AsyncIterator[EventContext]:
    """An event of each flavour."""
    async with open_event(request.param) as opened:
        yield opened
