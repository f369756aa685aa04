from functools import partial

import pytest
from http_server import serving_by

from edge_runtime.isolate import http1_exchange, http1_loop, hypercorn_connection, hypercorn_exchange


@pytest.fixture(params=["llhttp", "hypercorn"])
def serving(request):
    """A function: serves an app on a loopback port, by each implementation in turn."""
    return partial(serving_by, request.param)


@pytest.fixture
def set_limit(monkeypatch):
    """Changes a limit of the HTTP connections."""

    def set_limit(name, value):
        for module in (http1_loop, http1_exchange, hypercorn_connection, hypercorn_exchange):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)

    return set_limit
