"""A hostile client harms nobody else: while it does its worst, others are answered and their jobs run."""

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from tests.hostile.client import KIND, MODES, SUBMITS, serve_guarded
from tests.support.graphs import picture
from tests.support.serve_process import Served

LIMIT_S = 60.0

# The engine is in this process: aiohttp leaves the file of an upload that broke off to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning"
)

WORKFLOW = "/v1/comfyui/workflow"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with (
        EmbeddedEngine(EngineConfig(base_directory=tmp_path / "engine")) as engine,
        serve_guarded(tmp_path, engine.url) as served,
    ):
        yield served
    gc.collect()


ALL = {**MODES, **SUBMITS}


@pytest.mark.parametrize("mode", ALL)
async def test_others_are_answered_and_their_jobs_run(served: Served, mode: str) -> None:
    async with (
        asyncio.timeout(LIMIT_S),
        aiohttp.ClientSession(headers=KIND) as http,
        ALL[mode](served.url),
    ):
        for path in ("/health", "/ready", "/v1/status"):
            async with http.get(f"{served.url}{path}") as answer:
                assert (path, answer.status) == (path, 200)
        async with http.post(f"{served.url}{WORKFLOW}", json={"workflow": picture()}) as answer:
            assert answer.status == 202
            job = (await answer.json())["workflowId"]
        async with http.get(f"{served.url}{WORKFLOW}/{job}/wait?timeoutS=50") as answer:
            assert (await answer.json())["status"] == "completed"
    assert len(served.log) < 400, "what repeats does not fill the log"
