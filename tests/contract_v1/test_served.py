"""The service as compose files start it: a process, configured by the contract's variables alone."""

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import aiohttp
import pytest

from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from tests.support.graphs import picture
from tests.support.processes import REPOSITORY, python_process
from tests.support.sidecar import LIMIT_S, WORKFLOW

PAGE = "https://page.test"


def environment(folder: Path, engine_url: str, **more: str) -> dict[str, str]:
    return {
        "COMFY_BRIDGE_STATE_DIR": str(folder / "state"),
        "COMFYUI_API_ENDPOINT": engine_url,
        "MANAGEMENT_API_PORT": "0",
        "MANAGEMENT_API_HOST": "127.0.0.1",
        "CORS_ALLOWED_ORIGINS": PAGE,
        "SALAD_API_KEY": "unused",
        "SALAD_ORG_NAME": "unused",
        **more,
    }


async def test_existing_variables_are_all_that_it_needs(tmp_path: Path) -> None:
    async with EmbeddedEngine(EngineConfig(base_directory=tmp_path / "engine")) as engine:
        env = environment(tmp_path, engine.url, MANAGEMENT_API_KEY="the-key")
        command = ("-m", "comfy_mcp", "serve")
        async with (
            python_process(*command, env=env, log=tmp_path / "serve.log") as (process, url),
            aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=LIMIT_S)) as http,
        ):
            async with http.get("/health") as answer:
                assert (await answer.json())["status"] == "healthy"
            async with http.post(WORKFLOW, json={"workflow": picture()}) as answer:
                assert answer.status == 401
            headers = {"Authorization": "Bearer the-key", "Origin": PAGE}
            async with http.post(WORKFLOW, json={"workflow": picture()}, headers=headers) as answer:
                assert answer.status == 202
                assert answer.headers["Access-Control-Allow-Origin"] == PAGE
                job = (await answer.json())["workflowId"]
            async with http.get(f"{WORKFLOW}/{job}/wait", headers={"X-API-Key": "the-key"}) as answer:
                assert (await answer.json())["status"] == "completed"
                assert "Access-Control-Allow-Origin" not in answer.headers
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(LIMIT_S):
                assert await process.wait() == 0
    assert "the-key" not in (tmp_path / "serve.log").read_text()


@pytest.mark.parametrize("module", [("comfy_mcp", "serve"), ("http_sidecar",)])
async def test_without_a_key_it_refuses_to_be_reached_from_elsewhere(
    tmp_path: Path, module: tuple[str, ...]
) -> None:
    env = environment(tmp_path, "http://127.0.0.1:9", MANAGEMENT_API_HOST="0.0.0.0")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *module),
        env={**env, "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    async with asyncio.timeout(LIMIT_S):
        out, errors = await process.communicate()
    assert process.returncode != 0
    assert out == b""
    assert b"Without a key" in errors
    assert b"--insecure" in errors
    assert b"Traceback" not in errors
