"""The MCP server in memory, over a real runtime and the embedded engine."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp.client import Client
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp_types import CallToolResult, TextContent

import tests.support.ready_client  # noqa: F401 - no event loop stands still for its import
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.services import Services
from comfy_mcp.runtime import open_runtime
from comfy_mcp.server import ReadyBridge, ResourceBus, build_server, open_bus, publish_events
from comfy_mcp.server.app import BridgeServer
from comfy_mcp.settings import Settings, load_settings

MODES = ("2026-07-28", "legacy")
"""Both protocol eras, as mcp.client.Client names them."""

LIMIT_S = 30.0
"""No step of a test takes so long; it turns a missing notification into a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    server: BridgeServer
    services: Services
    bus: ResourceBus
    settings: Settings

    def client(self, mode: str, **options: Any) -> Client:
        return Client(self.server, mode=mode, **options)


@asynccontextmanager
async def open_surface(
    folder: Path, *, engine_url: str | None = None, **overrides: Any
) -> AsyncIterator[Surface]:
    """A server with everything below it; without `engine_url` an embedded engine of its own."""
    async with AsyncExitStack() as stack:
        if engine_url is None:
            config = EngineConfig(base_directory=folder / "engine")
            engine_url = (await stack.enter_async_context(EmbeddedEngine(config))).url
        settings = bridge_settings(folder, engine_url, **overrides)
        caller = Caller(client=ClientId(settings.client_name), surface="mcp-stdio")
        bus = await stack.enter_async_context(open_bus())
        services = await stack.enter_async_context(open_runtime(settings))
        await stack.enter_async_context(background(publish_events(Bridge(services), caller, bus)))
        server = build_server(ReadyBridge(Bridge(services)), settings, bus=bus)
        yield Surface(server=server, services=services, bus=bus, settings=settings)


def bridge_settings(folder: Path, engine_url: str, **overrides: Any) -> Settings:
    values: dict[str, Any] = {
        "engine_urls": (engine_url,),
        "state_dir": folder / "state",
        "workflow_roots": (folder,),
    }
    return load_settings(**(values | overrides))


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """A task for the time of the context. What fails inside the context comes out unwrapped."""
    failed: BaseException | None = None
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below, outside the group
            failed = error
        finally:
            task.cancel()
    if failed is not None:
        raise failed


@dataclass(slots=True)
class Heard:
    """A client's message handler that keeps what the server sent by itself."""

    _messages: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)

    async def __call__(self, message: Any) -> None:
        self._messages.put_nowait(message)

    async def next_update(self) -> str:
        """The URI of the next notifications/resources/updated."""
        while True:
            message = await self._next()
            if message.method == "notifications/resources/updated":
                return str(message.params.uri)

    async def until_list_changed(self) -> None:
        while (await self._next()).method != "notifications/resources/list_changed":
            pass

    async def _next(self) -> Any:
        async with asyncio.timeout(LIMIT_S):
            return await self._messages.get()


async def subscribe(client: Client, uri: str) -> None:
    """resources/subscribe, which 2026-07-28 has deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        await client.subscribe_resource(uri)


async def unsubscribe(client: Client, uri: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        await client.unsubscribe_resource(uri)


def slow_graph(*, steps: int = 5, step_ms: int = 20, seed: int = 0) -> dict[str, Any]:
    """Takes steps * step_ms; another seed makes it another picture to the engine's cache."""
    image = {"width": 64, "height": 64, "color": 255, "steps": steps, "step_ms": step_ms, "seed": seed}
    return {
        "1": {"class_type": "BridgeSlowImage", "inputs": image},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "t"}},
    }


def text_of(result: CallToolResult) -> str:
    first = result.content[0]
    assert isinstance(first, TextContent)
    return first.text


async def submit(client: Client, graph: dict[str, Any]) -> str:
    result = await client.call_tool("submit_workflow", {"workflow": graph})
    assert not result.is_error, text_of(result)
    return str(result.structured_content["workflowId"])
