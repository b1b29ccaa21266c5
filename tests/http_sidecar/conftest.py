"""The sidecar over a real runtime and the embedded engine, in one process, spoken to over HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from comfy_mcp.driving import attempt
from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.services import Services
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import Settings, load_settings
from http_sidecar.api_keys import KeyRing
from http_sidecar.app import build_app
from tests.support.invariants import check_store

Http = TestClient[Any, Any]


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
        connect_timeout_s=2.0,
        rate_limit_per_minute=0,
    )


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    async with open_runtime(settings) as services:
        yield services
        await check_store(services.store)


@pytest.fixture
async def http(services: Services, settings: Settings) -> AsyncIterator[Http]:
    """A client of the whole application, with no keys configured."""
    app = build_app(Bridge(services), settings, keys=KeyRing(settings))
    server = TestServer(app)
    async with TestClient(server) as client:
        yield client
