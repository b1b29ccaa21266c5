"""The operations over a real runtime and the embedded engine, in one process."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from comfy_mcp.domain.ids import ClientId
from comfy_mcp.driving import attempt
from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from comfy_mcp.operations import cancelling
from comfy_mcp.operations.context import Caller, OperationContext
from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.operations.services import Services
from comfy_mcp.operations.shapes import WorkflowResult
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import Settings, load_settings
from tests.support.invariants import check_store


class Bench:
    """Calls operations by name, as a surface does."""

    def __init__(self, services: Services, caller: Caller) -> None:
        self.services = services
        self.caller = caller

    async def __call__(
        self,
        name: str,
        /,
        on_progress: Callable[[WorkflowResult], Awaitable[None]] | None = None,
        **arguments: Any,
    ) -> Any:
        context = OperationContext(services=self.services, caller=self.caller, on_progress=on_progress)
        return await BY_NAME[name].call(context, arguments)

    async def sized(self, workflow_id: str) -> Any:
        """The outputs of a workflow that has ended, as soon as the size of each is known."""
        async with asyncio.timeout(20):
            state = await self("workflow_status", workflow_id=workflow_id)
            while any(output.size is None for output in state.outputs):
                await asyncio.sleep(0)  # a state from memory lets nobody else run
                state = await self("workflow_status", workflow_id=workflow_id)
        return state.outputs


CALLER = Caller(client=ClientId("tester"), surface="test")


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[EmbeddedEngine]:
    async with EmbeddedEngine(EngineConfig(base_directory=tmp_path / "engine")) as engine:
        yield engine


@pytest.fixture
def settings(tmp_path: Path, engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(attempt, "PROGRESS_S", 0.01)
    return load_settings(
        engine_urls=engine.url,
        state_dir=tmp_path / "state",
        workflow_roots=(tmp_path / "workflows",),
        connect_timeout_s=2.0,
    )


@pytest.fixture
async def call(settings: Settings) -> AsyncIterator[Bench]:
    async with open_runtime(settings) as services:
        yield Bench(services, CALLER)
        await check_store(services.store)


@pytest.fixture
async def call_without_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """The engine's address is one where nothing listens."""
    monkeypatch.setattr(cancelling, "CANCEL_WAIT_S", 0.01)
    settings = load_settings(
        engine_urls="http://127.0.0.1:9",
        state_dir=tmp_path / "state",
        connect_timeout_s=2.0,
    )
    async with open_runtime(settings) as services:
        yield Bench(services, CALLER)
        await check_store(services.store)


async def foreign_count(engine: EmbeddedEngine) -> int:
    async with aiohttp.ClientSession() as http, http.get(f"{engine.url}/prompt") as answer:
        return int(json.loads(await answer.text())["exec_info"]["queue_remaining"])
