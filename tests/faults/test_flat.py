"""The judge of the soak: what it lets pass, and what it must not."""

import random
from collections.abc import Callable

import pytest

from tests.faults.flat import Bound, Point, judge, slope

MIB = 2**20
BOUND = Bound(noise=3 * MIB, per_job=256)
RESTS = range(500, 10_001, 500)


def series(value: Callable[[int], float]) -> list[Point]:
    return [(jobs, value(jobs)) for jobs in RESTS]


def warm(jobs: int) -> float:
    """Caches fill until 3,000 jobs."""
    return 100 * MIB + min(jobs, 3_000) * 5_000


def noisy(seed: int, amplitude: float) -> Callable[[int], float]:
    rng = random.Random(seed)
    return lambda jobs: warm(jobs) + rng.uniform(-amplitude, amplitude)


def test_what_fills_up_and_then_stays_is_flat() -> None:
    verdict = judge(series(warm), BOUND)
    assert verdict.flat
    assert (verdict.growth, verdict.jobs) == (0, 4_500)


@pytest.mark.parametrize("seed", range(20))
def test_noise_of_two_arenas_is_flat(seed: int) -> None:
    assert judge(series(noisy(seed, 2 * MIB)), BOUND).flat


def test_a_single_outlier_does_not_make_a_trend() -> None:
    assert judge(series(lambda jobs: warm(jobs) + (400 * MIB if jobs == 10_000 else 0)), BOUND).flat
    assert judge(series(lambda jobs: warm(jobs) - (50 * MIB if jobs == 5_500 else 0)), BOUND).flat


@pytest.mark.parametrize("seed", range(20))
def test_a_leak_under_noise_is_found(seed: int) -> None:
    """2 KiB a job: a remembered graph, say."""
    base = noisy(seed, MIB)
    verdict = judge(series(lambda jobs: base(jobs) + jobs * 2_048), BOUND)
    assert not verdict.flat
    assert verdict.growth == pytest.approx(4_500 * 2_048, rel=0.3)


def test_a_leak_that_comes_in_steps_is_found() -> None:
    """An arena now and then, as the allocator takes it."""
    assert not judge(series(lambda jobs: warm(jobs) + jobs * 1_500 // MIB * MIB), BOUND).flat


def test_one_thing_left_open_at_every_reconnect_is_found() -> None:
    """50 reconnects in 10,000 jobs, one open file for each."""
    assert not judge(series(lambda jobs: 20 + jobs // 200), Bound(noise=8)).flat
    assert judge(series(lambda jobs: 20 + jobs // 500 % 2 * 4), Bound(noise=8)).flat


def test_the_smallest_leak_that_is_found_is_as_it_says() -> None:
    finds = judge(series(warm), BOUND).finds
    assert judge(series(lambda jobs: warm(jobs) + jobs * finds * 0.99), BOUND).flat
    assert not judge(series(lambda jobs: warm(jobs) + jobs * finds * 1.01), BOUND).flat


def test_what_shrinks_is_flat() -> None:
    assert judge(series(lambda jobs: 300 * MIB - jobs * 1_000), BOUND).flat


def test_a_limit_holds_whatever_the_trend() -> None:
    level = series(lambda _jobs: 17 * MIB)
    assert judge(level, Bound(noise=MIB, most=17 * MIB)).flat
    assert not judge(level, Bound(noise=MIB, most=16 * MIB)).flat


def test_too_few_rests_are_no_verdict() -> None:
    with pytest.raises(ValueError, match="too few"):
        judge([(jobs, 0.0) for jobs in range(10)], BOUND)


def test_the_slope_is_the_median_of_all_pairs() -> None:
    assert slope([(0, 0.0), (1, 10.0), (2, 2.0)]) == 1.0
