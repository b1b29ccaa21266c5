"""Files that are opened on a thread are closed, whoever waits for them."""

import asyncio
import threading

import pytest

from comfy_mcp.library.opening import opened


async def test_what_is_opened_or_raised_is_the_callers() -> None:
    late: list[str] = []
    assert await opened(lambda: "file", late.append) == "file"

    def missing() -> str:
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        await opened(missing, late.append)
    assert late == []


@pytest.mark.parametrize("fails", [False, True])
async def test_what_is_opened_for_nobody_is_given_back(fails: bool) -> None:
    begun, may_end, late = threading.Event(), threading.Event(), asyncio.Queue[str]()

    def slow() -> str:
        begun.set()
        may_end.wait()
        if fails:
            raise FileNotFoundError
        return "file"

    async with asyncio.TaskGroup() as group:
        task = group.create_task(opened(slow, late.put_nowait))
        await asyncio.to_thread(begun.wait)
        task.cancel()
    assert task.cancelled()
    may_end.set()
    if fails:
        await asyncio.get_running_loop().shutdown_default_executor()
        assert late.empty()
    else:
        assert await late.get() == "file"
