"""apps/rate_limiter through real HTTP: alarms refill the buckets, also while the server is down."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from edge_process import APPS, EdgeProcess, eventually


@pytest.fixture
def serve(tmp_path):
    started = []

    def start(**variables):
        given = [part for name, value in variables.items() for part in ("--var", f"{name}:{value}")]
        edge = EdgeProcess(
            "dev", APPS / "rate_limiter", "--port", 0, "--data", tmp_path / "data", "--no-reload", *given
        )
        started.append(edge)
        return edge.wait_ready()

    yield start
    for edge in started:
        edge.kill()


def test_a_bucket_gives_its_tokens_once_however_many_ask_and_an_alarm_puts_them_back(serve):
    edge = serve(CAPACITY=5, REFILL_MS=500)

    def take(_):
        with edge.client() as client:
            return client.post("/ann").status_code

    with edge.client() as client:
        assert client.get("/ann").json() == {"capacity": 5, "left": 5}
        # A busy machine may put a token back before the next request comes.
        assert client.post("/ann?tokens=5").json()["left"] == 0
        refused = eventually(lambda: (answer := client.post("/ann")).status_code == 429 and answer, every_s=0)
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["ratelimit-remaining"] == "0"
        assert client.post("/bob").status_code == 200
        eventually(lambda: client.get("/ann").json()["left"] == 5)
    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(take, range(12)))
    assert statuses.count(200) >= 5
    assert set(statuses) <= {200, 429}


def test_concurrent_clients_share_one_bucket(serve):
    edge = serve(CAPACITY=7, REFILL_MS=3_600_000)

    def take(_):
        with edge.client() as client:
            return client.post("/ann").status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(take, range(24)))
    assert sorted(statuses) == [200] * 7 + [429] * 17


def test_wrong_requests_take_nothing(serve):
    edge = serve(CAPACITY=3)
    with edge.client() as client:
        for tokens in ("0", "4", "-1", "x", "²"):
            assert client.post("/ann", params={"tokens": tokens}).status_code == 400
        assert client.put("/ann").status_code == 405
        assert client.get("/").status_code == 404
        assert client.get("/a/b").status_code == 404
        assert client.get("/ann").json()["left"] == 3


def test_tokens_come_back_for_the_time_the_server_was_down(serve):
    first = serve(CAPACITY=50, REFILL_MS=40)
    with first.client() as client:
        assert client.post("/ann?tokens=50").status_code == 200
    first.kill()
    second = serve(CAPACITY=50, REFILL_MS=40)
    with second.client() as client:
        eventually(lambda: client.get("/ann").json()["left"] >= 5)
        eventually(lambda: client.get("/ann").json()["left"] == 50)
