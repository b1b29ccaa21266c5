"""The runtime in the background: waited for, tried again, and its failure said on every call."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from comfy_mcp.domain.errors import BridgeError, ErrorCode, StoreFault
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.server.runtime_provider import PAUSE_S, ReadyBridge, RuntimeProvider
from comfy_mcp.settings import Settings
from tests.support.mcp_surface import LIMIT_S, background, bridge_settings

BRIDGE = cast("Bridge", object())
ENGINE = "http://127.0.0.1:9"


class Openings:
    """What each attempt to open the runtime does, in order; the last one for ever."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self._outcomes = list(outcomes)
        self.closed = 0

    @asynccontextmanager
    async def __call__(self, settings: Settings) -> AsyncIterator[Bridge]:
        outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        if outcome is not None:
            raise outcome
        try:
            yield BRIDGE
        finally:
            self.closed += 1


async def forever(bridge: Bridge) -> None:
    await asyncio.Event().wait()


def provider(folder: Path, openings: Openings, pause_s: float = PAUSE_S) -> RuntimeProvider:
    return RuntimeProvider(bridge_settings(folder, ENGINE), open_bridge=openings, pause_s=pause_s)


FAULT = StoreFault("It is locked.", next_step="Close the other one.")


async def test_a_call_that_comes_first_waits_for_the_runtime(tmp_path: Path) -> None:
    runtime = provider(tmp_path, openings := Openings(None))
    async with asyncio.TaskGroup() as tasks:
        got = tasks.create_task(runtime.get())
        await asyncio.sleep(0)
        assert not got.done()
        async with background(runtime.run(forever)), asyncio.timeout(LIMIT_S):
            assert await got is BRIDGE
    assert openings.closed == 1


async def test_a_fault_is_said_on_each_call_until_an_attempt_succeeds(tmp_path: Path) -> None:
    runtime = provider(tmp_path, Openings(FAULT, FAULT, None), pause_s=0.02)
    async with background(runtime.run(forever)), asyncio.timeout(LIMIT_S):
        with pytest.raises(StoreFault, match=r"It is locked"):
            await runtime.get()
        while True:
            try:
                assert await runtime.get() is BRIDGE
            except StoreFault:
                await asyncio.sleep(0)
            else:
                break


async def test_an_unforeseen_failure_shows_an_id_and_not_its_text(tmp_path: Path) -> None:
    runtime = provider(tmp_path, Openings(RuntimeError("the password is 1234")))
    async with background(runtime.run(forever)), asyncio.timeout(LIMIT_S):
        with pytest.raises(BridgeError, match=r"error id") as caught:
            await runtime.get()
    assert caught.value.code is ErrorCode.INTERNAL
    assert "1234" not in str(caught.value)


async def test_a_runtime_that_breaks_is_opened_again(tmp_path: Path) -> None:
    broken = asyncio.Event()

    async def break_once(bridge: Bridge) -> None:
        if not broken.is_set():
            broken.set()
            raise FAULT
        await asyncio.Event().wait()

    runtime = provider(tmp_path, openings := Openings(None), pause_s=0.02)
    async with background(runtime.run(break_once)), asyncio.timeout(LIMIT_S):
        await broken.wait()
        while openings.closed == 0:
            await asyncio.sleep(0)
        with pytest.raises(StoreFault):
            await runtime.get()
        while True:
            try:
                assert await runtime.get() is BRIDGE
            except StoreFault:
                await asyncio.sleep(0)
            else:
                break


async def test_a_call_does_not_wait_for_ever(tmp_path: Path) -> None:
    with pytest.raises(StoreFault, match=r"still opening"):
        await RuntimeProvider(
            bridge_settings(tmp_path, ENGINE), open_bridge=Openings(None), start_timeout_s=0.01
        ).get()


async def test_services_that_are_there_need_no_waiting() -> None:
    assert await ReadyBridge(BRIDGE).get() is BRIDGE
