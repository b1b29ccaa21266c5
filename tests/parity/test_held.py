"""A job that is held for want of memory is the same job on every surface."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.needs import needs_of
from comfy_mcp.gpu import monitor
from comfy_mcp.operations import metrics_refresh
from tests.parity.surfaces import NAMES, House, open_house
from tests.support.gpus import GIB
from tests.support.graphs import slow
from tests.support.metrics import metrics_of
from tests.support.sidecar import LIMIT_S
from tests.support.streams import stream
from tests.support.vram_engine import Vram


async def test_every_surface_says_why_a_job_is_held_until_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vram = Vram(held=20)
    vram.play(monkeypatch)
    monkeypatch.setattr(metrics_refresh, "REFRESH_S", 0.05)
    monkeypatch.setattr(metrics_refresh, "UNREAD_S", 0.05)
    monkeypatch.setattr(monitor, "SAMPLE_S", 0.05)
    async with open_house(tmp_path, vram_hold=True) as house, stream(house.sidecar) as socket:
        await house.sidecar.ended(await house.sidecar.submit(slow(steps=60)))
        assert await house.sidecar.services.store.vram_need(needs_of(parse_graph(slow())).shape) == 20 * GIB
        vram.held, vram.others = 1, 14
        async with asyncio.timeout(LIMIT_S):  # until the engine's word has been heard
            while (await house.sidecar("GET", "/v1/gpu")).body["engines"][0]["vramFree"] != 9 * GIB:
                pass
        await socket.send("subscribe", "*")
        job = await house.sidecar.submit(slow(steps=1))
        told = await socket.until("workflow:queued")
        while "waitingFor" not in told:
            told = await socket.until("workflow:queued")
        assert told["workflowId"] == job
        said = {name: await _waits(house, name, job) for name in NAMES}
        (engine,) = house.sidecar.services.engines.pool
        assert said["rest"] == told["waitingFor"]
        assert said == dict.fromkeys(NAMES, said["rest"])
        assert said["rest"] == {
            "reason": "vram",
            "message": f"Similar workflows needed 20.0 GiB of VRAM; {engine} has 10.0 GiB of 24.0 GiB.",
            "since": said["rest"]["since"],
            "needBytes": 20 * GIB,
            "freeBytes": 10 * GIB,
            "engines": [{"engine": engine, "freeBytes": 10 * GIB, "totalBytes": 24 * GIB}],
        }
        assert await _held_gauge(house) == 1.0
        vram.others = 0
        assert (await house.sidecar.ended(job))["status"] == "completed"
        assert {await _waits(house, name, job) for name in NAMES} == {None}
        assert await _held_gauge(house) == 0.0


async def _waits(house: House, name: str, job: str) -> Any:
    """By the status, which the lists agree with."""
    status = await house.surfaces[name]("workflow_status", {"workflow_id": job})
    listed = await house.surfaces[name]("list_workflows", {"fields": "full"})
    assert status.result is not None
    assert listed.result is not None
    (item,) = [each for each in listed.result["workflows"] if each["workflowId"] == job]
    assert item.get("waitingFor") == status.result.get("waitingFor")
    return status.result.get("waitingFor")


async def _held_gauge(house: House) -> float | None:
    services = house.sidecar.services
    backlog = await services.store.backlog()
    async with asyncio.timeout(LIMIT_S):  # the gauges follow at their own pace
        while (
            value := metrics_of(services).registry.get_sample_value(
                "comfy_bridge_workflows_held", {"reason": "vram"}
            )
        ) != backlog.held:
            await house.sidecar("GET", "/metrics")
    return value
