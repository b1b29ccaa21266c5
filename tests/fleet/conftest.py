"""Several unlike embedded engines behind one bridge, in one process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.access import ALL_RIGHTS
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from comfy_mcp.operations.context import Caller, OperationContext
from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.operations.services import Services
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from tests.support.invariants import check_store

CALLER = Caller(client=ClientId("tester"), surface="test", rights=ALL_RIGHTS)


class Fleet:
    """The bridge over its engines, by their names."""

    def __init__(self, services: Services, engines: dict[str, EmbeddedEngine], file: Path) -> None:
        self.services = services
        self.engines = engines
        self.file = file

    async def __call__(self, name: str, /, *, content: bytes | None = None, **arguments: Any) -> Any:
        async def chunks() -> AsyncIterator[bytes]:
            yield content or b""

        context = OperationContext(
            services=self.services, caller=CALLER, content=None if content is None else chunks()
        )
        return await BY_NAME[name].call(context, arguments)

    async def are(self, *names: str) -> None:
        """Wait until the engines are these."""
        async with asyncio.timeout(60):
            while list(self.services.engines.pool) != list(names):
                await asyncio.sleep(0.02)

    async def connected(self) -> None:
        """Wait until all engines are there: until then others have their work."""
        async with asyncio.timeout(60):
            while not all(driver.connected for driver in self.services.engines._roster.drivers):
                await asyncio.sleep(0.02)

    async def run(self, graph: dict[str, Any], **arguments: Any) -> Any:
        job = await self("submit_workflow", workflow=graph, **arguments)
        return await self.end(job.workflow_id)

    async def running(self, workflow_id: str) -> Any:
        """Its state, once it is sent to an engine."""
        with self.services.hub.subscribe(job_id=JobId(workflow_id)) as events:
            async with asyncio.timeout(60):
                while (job := await self("workflow_status", workflow_id=workflow_id)).status == "queued":
                    await events.changed()
        return job

    async def end(self, workflow_id: str) -> Any:
        return await self("wait_for_workflow", workflow_id=workflow_id, timeout_s=60)


Open = Callable[..., AbstractAsyncContextManager[Fleet]]


@pytest.fixture
def open_fleet(tmp_path: Path) -> Open:
    return partial(fleet_of, tmp_path)


@asynccontextmanager
async def fleet_of(
    tmp_path: Path, settings: dict[str, Any] | None = None, **options: dict[str, Any]
) -> AsyncIterator[Fleet]:
    """`a={"without": …}, b={"models": […]}, …`: engines by name, each with its own options. With `url` it is
    there already."""
    async with contextlib.AsyncExitStack() as stack:
        engines, file = {}, ""
        for name, given_options in options.items():
            each = dict(given_options)
            folder = tmp_path / name
            checkpoints = folder / "models" / "checkpoints"
            checkpoints.mkdir(parents=True, exist_ok=True)
            for model in each.pop("models", ()):
                (checkpoints / model).write_bytes(b"model")
            labels = each.pop("labels", [])
            on_demand = each.pop("on_demand", False)
            if (url := each.pop("url", None)) is None:
                engines[name] = await stack.enter_async_context(
                    EmbeddedEngine(EngineConfig(base_directory=folder, **each))
                )
            file += f'[{name}]\nurl = "{url or engines[name].url}"\nlabels = {labels!r}\n'
            file += "on_demand = true\n" if on_demand else ""
        (tmp_path / "engines.toml").write_text(file, encoding="utf-8")
        given = load_settings(
            engines_file=tmp_path / "engines.toml",
            state_dir=tmp_path / "state",
            **(settings or {}),
        )
        services = await stack.enter_async_context(open_runtime(given))
        yield Fleet(services, engines, tmp_path / "engines.toml")
        await check_store(services.store)
