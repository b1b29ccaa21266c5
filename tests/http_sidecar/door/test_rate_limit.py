"""The rate limit's windows, on a clock that the test turns."""

from http_sidecar.door.rate_limit import Limiter


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_window_begins_with_the_first_request_and_ends_a_minute_later() -> None:
    clock = Clock()
    limiter = Limiter(2, now=clock)
    clock.now += 30
    verdicts = [limiter.hit("a") for _ in range(3)]
    assert [verdict and verdict.allowed for verdict in verdicts] == [True, True, False]
    assert [verdict and verdict.remaining for verdict in verdicts] == [1, 0, 0]
    clock.now += 59.5
    late = limiter.hit("a")
    assert late is not None
    assert (late.allowed, late.reset_s) == (False, 1)
    clock.now += 0.5
    fresh = limiter.hit("a")
    assert fresh is not None
    assert (fresh.allowed, fresh.remaining, fresh.reset_s) == (True, 1, 60)


def test_who_is_refused_is_not_locked_out_for_longer() -> None:
    clock = Clock()
    limiter = Limiter(1, now=clock)
    for _ in range(50):
        limiter.hit("a")
        clock.now += 1.2  # 60 seconds in all: the last is a new window's first
    verdict = limiter.hit("a")
    assert verdict is not None
    assert verdict.allowed


def test_callers_are_counted_apart() -> None:
    limiter = Limiter(1, now=Clock())
    assert all((verdict := limiter.hit(name)) is not None and verdict.allowed for name in "abc")


def test_no_limit_is_no_verdict() -> None:
    assert Limiter(0, now=Clock()).hit("a") is None


def test_a_flood_of_callers_costs_a_bounded_memory_and_forgets_the_longest_silent() -> None:
    limiter = Limiter(1, now=Clock(), buckets=3)
    for name in ("a", "b", "c", "a", "d"):  # b is the one without a request for longest
        limiter.hit(name)
    allowed = {
        name: (verdict := limiter.hit(name)) is not None and verdict.allowed for name in ("a", "d", "b")
    }
    assert allowed == {"a": False, "d": False, "b": True}


def test_both_families_of_headers_agree() -> None:
    limiter = Limiter(1, now=Clock())
    first, second = limiter.hit("a"), limiter.hit("a")
    assert first is not None
    assert second is not None
    assert first.headers() == {
        "x-ratelimit-limit": "1",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "60",
        "RateLimit-Policy": '"default";q=1;w=60',
        "RateLimit": '"default";r=0;t=60',
    }
    assert second.headers() == first.headers() | {"Retry-After": "60"}
