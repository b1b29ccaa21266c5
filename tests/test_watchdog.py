"""The watchdog: when the loop stood, for how long, and what it did."""

import asyncio
import threading
import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from comfy_mcp.watchdog import BEAT_S, ENDLESS_S, LINE_S, STALL_S, Watch, watching


class Stands:
    """A thread that stands for the loop's."""

    def __init__(self) -> None:
        self.stalls = 0
        self.goes_on = threading.Event()
        self.thread = threading.Thread(target=self.goes_on.wait)
        self.thread.start()
        self.watch = Watch(self.thread.ident or 0, self.count)
        self.now = self.watch._at
        self.cpu = self.watch._cpu

    def count(self) -> None:
        self.stalls += 1

    def beat(self, seconds: float, cpu_s: float = 0.0) -> list[Any]:
        self.now, self.cpu = self.now + seconds, self.cpu + cpu_s
        with capture_logs() as lines:
            self.watch.beat(self.now, self.cpu)
        return list(lines)

    def look(self, seconds: float) -> list[Any]:
        with capture_logs() as lines:
            self.watch.look(self.now + seconds)
        return list(lines)


@pytest.fixture
def stands() -> Any:
    stands = Stands()
    yield stands
    stands.goes_on.set()
    stands.thread.join()


def test_a_loop_that_goes_on_is_not_told(stands: Stands) -> None:
    for _ in range(10):
        assert stands.look(BEAT_S) == []
        assert stands.beat(BEAT_S + 0.9 * STALL_S, 1.0) == []
    assert stands.stalls == 0


def test_a_stall_is_told_with_what_the_loop_did(stands: Stands) -> None:
    assert stands.look(BEAT_S + 1.1 * STALL_S) == []
    (line,) = stands.beat(BEAT_S + 0.4, 0.1)
    assert (line["event"], line["seconds"], line["cpu_s"]) == ("loop_stood", 0.4, 0.1)
    assert "wait" in " ".join(line["where"])
    assert stands.stalls == 1
    assert stands.beat(BEAT_S) == []


def test_what_kept_the_watchdog_from_looking_is_told_where_it_computed(stands: Stands) -> None:
    (line,) = stands.beat(1.0, 1.0)
    assert (line["event"], line["where"]) == ("loop_stood", ())
    assert stands.beat(60.0, 0.5) == [], "a machine that slept"
    assert stands.stalls == 1


def test_every_stall_counts_and_one_a_second_is_told(stands: Stands) -> None:
    told = [len(stands.beat(BEAT_S + STALL_S + 0.01, 1.0)) for _ in range(10)]
    assert stands.stalls == 10
    assert 1 < sum(told) <= 1 + 10 * (BEAT_S + STALL_S + 0.01) / LINE_S


def test_a_stall_that_does_not_end_is_told_once_before_it_ends(stands: Stands) -> None:
    assert stands.look(BEAT_S + 1.1 * STALL_S) == []
    (line,) = stands.look(BEAT_S + 1.1 * ENDLESS_S)
    assert line["event"] == "loop_stands"
    assert line["where"]
    assert stands.look(BEAT_S + 2 * ENDLESS_S) == []


async def test_the_running_loop_is_watched() -> None:
    stood = asyncio.Event()
    with capture_logs() as lines:

        def is_named() -> bool:
            told = [line for line in lines if line["event"] == "loop_stood"]
            return any("compute" in call for line in told for call in line["where"])

        async with watching(stood.set), asyncio.timeout(30):
            while not is_named():
                compute()
                await asyncio.sleep(BEAT_S)
    assert stood.is_set()


def compute() -> None:
    """Keep the loop for long enough that the watchdog looks meanwhile, on a machine of any speed."""
    until = time.monotonic() + 4 * STALL_S
    while time.monotonic() < until:
        sum(range(1_000))
