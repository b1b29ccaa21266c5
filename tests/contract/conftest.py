"""The same tests on two engines: our embedded one, and the real ComfyUI 0.3.75 (marked `live`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from tests.contract.harness import Engine
from tests.support.real_comfyui import RealComfyUI


@dataclass(frozen=True, slots=True)
class Running:
    url: str
    base: Path


@pytest.fixture(scope="session")
def real_comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One real ComfyUI for all tests: it takes seconds to start, so the tests share it."""
    base = tmp_path_factory.mktemp("comfyui")
    with RealComfyUI(base) as comfyui:
        yield Running(comfyui.url, base)


@asynccontextmanager
async def _embedded(base: Path) -> AsyncIterator[Running]:
    async with EmbeddedEngine(EngineConfig(base_directory=base)) as embedded:
        yield Running(embedded.url, base)


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.live)])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    """An idle engine with an empty history and an empty cache."""
    name: str = request.param
    async with AsyncExitStack() as stack:
        if name == "embedded":
            running = await stack.enter_async_context(_embedded(tmp_path))
        else:
            running = request.getfixturevalue("real_comfyui")
        http = await stack.enter_async_context(aiohttp.ClientSession())
        tested = Engine(name, running.url, running.base, http)
        await tested.idle()
        await tested.post("/history", {"clear": True})
        yield tested
        await tested.idle()
