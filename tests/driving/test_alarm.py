"""The one way in which a tenure is woken."""

import asyncio
from dataclasses import dataclass

from comfy_mcp.driving.alarm import Alarm
from comfy_mcp.driving.clock import Clock


@dataclass
class Time:
    now: float = 0.0

    def clock(self) -> Clock:
        return Clock(now_ms=lambda: 0, monotonic=lambda: self.now)


async def test_rings_while_awake_end_the_next_sleep_once() -> None:
    alarm = Alarm(Time().clock())
    alarm.ring()
    alarm.ring()
    async with asyncio.timeout(20):
        await alarm.sleep()
    async with asyncio.TaskGroup() as group:
        sleeping = group.create_task(alarm.sleep())
        await asyncio.sleep(0)
        assert not sleeping.done()
        alarm.ring()
        alarm.ring()


async def test_a_time_that_has_passed_ends_the_sleep() -> None:
    time = Time(now=100.0)
    alarm = Alarm(time.clock())
    alarm.by(99.0)
    async with asyncio.timeout(20):
        await alarm.sleep()


async def test_the_earliest_time_counts_and_a_later_one_is_asked_for_anew() -> None:
    time = Time()
    alarm = Alarm(time.clock())
    alarm.by(3600.0)
    alarm.by(0.0)
    alarm.by(7200.0)
    async with asyncio.timeout(20):
        await alarm.sleep()
    alarm.by(3600.0)  # the one of before has rung: this one is not taken for later
    assert alarm._timer is not None
    alarm.stop()
    assert alarm._timer is None


async def test_a_sleeper_that_is_cancelled_leaves_nothing_behind() -> None:
    alarm = Alarm(Time().clock())
    async with asyncio.TaskGroup() as group:
        sleeping = group.create_task(alarm.sleep())
        await asyncio.sleep(0)
        sleeping.cancel()
    alarm.ring()
    async with asyncio.timeout(20):
        await alarm.sleep()
