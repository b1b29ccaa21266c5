"""The whole sidecar over a real runtime and the embedded engine, on a real socket, in this process."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.test_utils import TestServer
from multidict import CIMultiDictProxy
from yarl import URL

from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.services import Services
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import Settings, load_settings
from http_sidecar.api_keys import KeyRing
from http_sidecar.app import build_app
from http_sidecar.bounds import Bounds
from tests.support.constants import constants
from tests.support.invariants import check_store

WORKFLOW = "/v1/comfyui/workflow"
LIMIT_S = 60.0
"""No request of a test takes so long; it turns a missing answer into a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: CIMultiDictProxy[str]
    data: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    url: str
    session: aiohttp.ClientSession
    services: Services
    settings: Settings

    async def __call__(self, method: str, path: str | URL, **options: Any) -> Answer:
        """`options` are those of aiohttp's ClientSession.request; a URL is asked for as it is."""
        url = path if isinstance(path, URL) else f"{self.url}{path}"
        async with self.session.request(method, url, **options) as response:
            return Answer(status=response.status, headers=response.headers, data=await response.read())

    async def submit(self, graph: dict[str, Any], **more: Any) -> str:
        """The id of the new workflow."""
        headers = more.pop("headers", None)
        answer = await self("POST", WORKFLOW, json={"workflow": graph, **more}, headers=headers)
        assert answer.status == 202, answer.data
        return str(answer.body["workflowId"])

    async def ended(self, job: str, **options: Any) -> dict[str, Any]:
        """Its state, once it is final."""
        answer = await self("GET", f"{WORKFLOW}/{job}/wait?timeout_s=30", **options)
        assert answer.body["status"] in {"completed", "failed", "cancelled"}, answer.body
        return dict(answer.body)

    async def measured(self, job: str) -> dict[str, Any]:
        """Its state, once the sizes of its outputs are known: they follow the end."""
        async with asyncio.timeout(30):
            while True:
                state = (await self("GET", f"{WORKFLOW}/{job}")).body
                if all(output["size"] is not None for output in state["outputs"]):
                    return dict(state)

    async def until_running(self, job: str, **options: Any) -> None:
        with self.services.hub.subscribe() as events:
            while (await self("GET", f"{WORKFLOW}/{job}", **options)).body["status"] == "queued":
                await events.changed()


@asynccontextmanager
async def open_sidecar(
    folder: Path,
    *,
    engine_url: str | None = None,
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
    **overrides: Any,
) -> AsyncIterator[Sidecar]:
    """Without `engine_url` an embedded engine of its own; without `http_key` no key is asked for."""
    async with AsyncExitStack() as stack:
        if engine_url is None:
            config = EngineConfig(base_directory=folder / "engine")
            engine_url = (await stack.enter_async_context(EmbeddedEngine(config))).url
        defaults: dict[str, Any] = {
            "engine_urls": engine_url,
            "state_dir": folder / "state",
            "connect_timeout_s": 2.0,
            "rate_limit_per_minute": 0,
        }
        settings = load_settings(**(defaults | overrides))
        stack.enter_context(constants(PROGRESS_S=0.01))
        services = await stack.enter_async_context(open_runtime(settings))
        async with serving(services, settings, bounds) as sidecar:
            yield sidecar
        await check_store(services.store)


@asynccontextmanager
async def serving(
    services: Services,
    settings: Settings,
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
) -> AsyncIterator[Sidecar]:
    """The application over `services`, on a free port of loopback."""
    bridge = Bridge(services)
    app = build_app(bridge, settings, keys=KeyRing(settings, bridge), bounds=bounds)
    timeout = aiohttp.ClientTimeout(total=LIMIT_S)
    async with TestServer(app) as server, aiohttp.ClientSession(timeout=timeout) as session:
        url = str(server.make_url("")).rstrip("/")
        yield Sidecar(url=url, session=session, services=services, settings=settings)
