from functools import partial

import pytest
from http_server import serving_by

from edge_runtime.isolate.http1 import connection as http1_connection
from edge_runtime.isolate.http1 import exchange as http1_exchange
from edge_runtime.isolate.http1 import writer as http1_writer
from edge_runtime.isolate.hypercorn import connection as hypercorn_connection
from edge_runtime.isolate.hypercorn import exchange as hypercorn_exchange
from edge_runtime.isolate.hypercorn import server as hypercorn_server

HTTP_MODULES = (
    http1_connection,
    http1_exchange,
    http1_writer,
    hypercorn_connection,
    hypercorn_exchange,
    hypercorn_server,
)


@pytest.fixture(params=["llhttp", "hypercorn"])
def serving(request):
    """A function: serves an app on a loopback port, by each implementation in turn."""
    return partial(serving_by, request.param)


@pytest.fixture
def set_limit(monkeypatch):
    """Changes a limit of the HTTP connections."""

    def set_limit(name, value):
        for module in HTTP_MODULES:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)

    return set_limit
