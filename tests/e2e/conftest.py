"""What modules that run one script in both flavours share."""

import pytest
from script_workers import FLAVOURS


@pytest.fixture(params=FLAVOURS)
def flavour(request):
    return request.param


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")
