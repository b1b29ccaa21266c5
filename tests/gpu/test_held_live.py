"""A job held for want of memory, with real processes: the sidecar with the compiled driver, and the shell."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from tests.gpu.test_nvml import compiled
from tests.support.gpus import GIB
from tests.support.graphs import slow
from tests.support.mcp_process import environment
from tests.support.serve_process import LIMIT_S, ROOT, Served, serve_process
from tests.support.vram_engine import Vram
from tests.support.warm_python import WARM_PYTHON

SETTINGS = {"VRAM_HOLD": "true", "LEASE_TTL_S": "1"}


@dataclass(frozen=True, slots=True)
class Client:
    served: Served
    session: aiohttp.ClientSession

    async def submit(self) -> str:
        url = f"{self.served.url}/v1/comfyui/workflow"
        async with self.session.post(url, json={"workflow": slow(steps=75)}) as answer:
            assert answer.status == 202
            return str((await answer.json())["workflowId"])

    async def until(self, job: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Its state, looked at after each event of it."""
        url = f"{self.served.url}/v1/comfyui/workflow/{job}"
        async with asyncio.timeout(LIMIT_S), self.session.get(f"{url}/events") as events:
            while not condition(state := await self._state(url)):
                assert not ended(state), state
                await events.content.readline()
        return state

    async def until_shown(self, free: int) -> None:
        """The engine's word that so much is free has been heard."""
        async with asyncio.timeout(LIMIT_S):
            while (await self._state(f"{self.served.url}/v1/gpu"))["engines"][0]["vramFree"] != free:
                pass

    async def _state(self, url: str) -> dict[str, Any]:
        async with self.session.get(url) as answer:
            state: dict[str, Any] = await answer.json()
            return state


@asynccontextmanager
async def sidecar(folder: Path, engine: EmbeddedEngine) -> AsyncIterator[Client]:
    """In a fresh interpreter: LD_LIBRARY_PATH counts where a process begins."""
    command = (
        sys.executable,
        "-m",
        "tests.support.chaos",
        '{"constants": {"SAMPLE_S": 0.05}}',
        "http_sidecar",
    )
    serving = serve_process(folder, engine.url, *command, **SETTINGS)
    async with serving as served, aiohttp.ClientSession() as session:
        yield Client(served, session)


def ended(state: dict[str, Any]) -> bool:
    return state["status"] in {"completed", "failed", "cancelled"}


def held(state: dict[str, Any]) -> bool:
    return state["waitingFor"] is not None


async def test_a_held_job_outlives_a_killed_bridge_and_starts_when_memory_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(compiled(tmp_path)))
    monkeypatch.setenv("FAKE_NVML", "two")
    vram = Vram(held=20)
    vram.play(monkeypatch)
    async with EmbeddedEngine(EngineConfig(base_directory=tmp_path / "engine")) as engine:
        async with sidecar(tmp_path, engine) as client:
            first = await client.until(await client.submit(), ended)
            assert first["peakVramBytes"] == 5 * GIB, "by the driver: all that is in use, whoever uses it"
            vram.held, vram.others = 1, 14
            await client.until_shown(9 * GIB)
            job = await client.submit()
            before = await client.until(job, held)
            assert before["waitingFor"]["needBytes"] == 20 * GIB, "by the engine: what its torch held"
            client.served.process.kill()
            await client.served.ended()
        async with sidecar(tmp_path, engine) as client:
            asked = vram.asked
            after = await client.until(job, held)
            assert after["waitingFor"] == before["waitingFor"]
            assert "queued, position 1, held: Similar workflows needed 20.0 GiB" in await _shell(
                tmp_path, engine.url, "status", job
            )
            vram.others = 0
            assert (await client.until(job, ended))["status"] == "completed"
            assert vram.asked > asked


async def _shell(folder: Path, engine_url: str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(WARM_PYTHON, "-m", "comfy_mcp", *arguments),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=environment(folder, engine_url),
        cwd=ROOT,
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()
