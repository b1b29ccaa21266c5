"""A write has a time limit, and costs no timer where it has nothing to wait for."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from http_sidecar.door.slow_clients import ClientTooSlow, write_within


class Transport(asyncio.WriteTransport):
    aborted = False

    def abort(self) -> None:
        self.aborted = True


async def _at_once() -> str:
    return "written"


async def _after_two_waits() -> str:
    await asyncio.sleep(0)
    waiting = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(waiting.set_result, "written")
    return str(await waiting)


async def _future() -> str:
    waiting = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(waiting.set_result, "written")
    return str(await waiting)


@pytest.mark.parametrize("write", [_at_once, _after_two_waits, _future])
async def test_the_result_of_the_write_is_returned(write: Callable[[], Awaitable[str]]) -> None:
    assert await write_within(5, write()) == "written"


async def test_a_future_is_a_write_too() -> None:
    waiting = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(waiting.set_result, None)
    assert await write_within(5, waiting) is None


@pytest.mark.parametrize("waits", [0, 1, 2])
async def test_what_the_write_raises_comes_out(waits: int) -> None:
    async def broken() -> None:
        for _ in range(waits):
            await asyncio.sleep(0)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await write_within(5, broken())


@pytest.mark.parametrize("waits", [0, 1])
async def test_a_client_that_reads_nothing_is_cut_off(waits: int) -> None:
    ended: list[str] = []

    async def stuck() -> None:
        try:
            for _ in range(waits):
                await asyncio.sleep(0)
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("ended")

    transport = Transport()
    with pytest.raises(ClientTooSlow):
        await write_within(0, stuck(), cut=transport)
    assert transport.aborted
    assert ended == ["ended"]


async def test_a_write_that_is_cancelled_ends_the_write() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def stuck() -> None:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    transport = Transport()
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(write_within(60, stuck(), cut=transport))
        await begun.wait()
        writing.cancel()
    assert ended.is_set()
    assert not transport.aborted


async def test_no_timer_is_set_for_a_write_that_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    set_timers: list[float] = []
    timeout = asyncio.timeout

    def noted(delay: float) -> asyncio.Timeout:
        set_timers.append(delay)
        return timeout(delay)

    monkeypatch.setattr(asyncio, "timeout", noted)
    await write_within(7, _at_once())
    assert set_timers == []
    await write_within(7, _after_two_waits())
    assert set_timers == [7]
