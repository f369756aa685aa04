import pytest

from edge_runtime.actors.alarms import next_attempt, retry_delay_ms


@pytest.mark.parametrize(
    ("retries", "delay_s"),
    [(0, 2), (1, 4), (2, 8), (3, 16), (4, 32), (5, 64), (8, 512), (9, 1024), (10, 1024), (10_000, 1024)],
)
def test_delay_doubles_up_to_a_bound(retries, delay_s):
    assert retry_delay_ms(retries, 0.0) == delay_s * 1000
    assert delay_s * 1000 <= retry_delay_ms(retries, 0.999999) < delay_s * 1250


@pytest.mark.parametrize(("retries", "due_ms"), [(0, 3000), (5, 65_000), (6, None), (7, None)])
def test_an_alarm_is_dropped_after_six_retries(retries, due_ms):
    assert next_attempt(retries, 1000, 0.0) == due_ms
