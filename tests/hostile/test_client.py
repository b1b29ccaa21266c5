"""A hostile client harms nobody else: while it does its worst, others are answered and their jobs run."""

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from tests.hostile.client import MODES, SUBMITS, serve_guarded
from tests.hostile.crowds import KIND, mcp_session, silent_webhooks
from tests.support.graphs import picture
from tests.support.serve_process import Served
from tests.support.webhook_receiver import receiving

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
        assert await mcp_session(http, served.url) == 200
        async with http.get(f"{served.url}/v1/comfyui/events") as stream:
            assert stream.status == 200
    lines = [line for line in served.log if line.get("status") != 200]
    assert len(lines) < 400, "what is refused does not fill the log"


async def test_receivers_that_do_not_answer_delay_no_event_of_others(tmp_path: Path) -> None:
    """Those of others are sent at once, also to the same host."""
    async with (
        asyncio.timeout(LIMIT_S),
        EmbeddedEngine(EngineConfig(base_directory=tmp_path / "engine")) as engine,
        serve_guarded(tmp_path, engine.url, PRIVATE_URLS="true") as served,
        silent_webhooks(served.url),
        receiving() as receiver,
        aiohttp.ClientSession(served.url, headers=KIND) as http,
    ):
        async with http.post("/v1/webhooks/secret") as answer:
            assert answer.status == 200
        async with http.post(WORKFLOW, json={"workflow": picture(), "webhook": receiver.url}) as answer:
            job = (await answer.json())["workflowId"]
        (got,) = await receiver.until(1)
        assert (got.event["type"], got.event["data"]["workflowId"]) == ("workflow.completed", job)
