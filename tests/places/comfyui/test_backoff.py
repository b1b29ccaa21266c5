"""Pauses between attempts, on given time."""

from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.places.comfyui.backoff import Backoff


def test_pauses_double_up_to_the_limit() -> None:
    backoff = Backoff(max_s=1.0, first_s=0.1)
    pauses = [backoff.pause_s]
    for _ in range(6):
        backoff = backoff.lost(0.0)
        pauses.append(backoff.pause_s)
    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_a_connection_that_held_starts_the_pauses_anew() -> None:
    backoff = Backoff(max_s=5.0, failures=7).connected(100.0).lost(105.0)
    assert backoff.pause_s == backoff.first_s


def test_a_connection_that_is_lost_at_once_is_a_failure_like_others() -> None:
    backoff = Backoff(max_s=5.0, first_s=0.1, failures=2).connected(100.0).lost(100.1)
    assert (backoff.failures, backoff.pause_s, backoff.connected_at) == (3, 0.4, None)


@given(st.integers(0, 10**9), st.floats(0.001, 3600))
def test_no_pause_is_longer_than_the_limit(failures: int, max_s: float) -> None:
    assert 0 <= Backoff(max_s=max_s, failures=failures).pause_s <= max_s
