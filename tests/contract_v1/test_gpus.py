"""GPUs over HTTP: the contract's shape with GPUs that know everything, little, or are lost."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from comfy_mcp.domain.gpu import GpuDevice, GpuState
from comfy_mcp.gpu import monitor
from comfy_mcp.gpu.nvml import NvmlReading
from tests.support.gpus import CARD, GIB, ScriptedDriver, reading
from tests.support.sidecar import Sidecar, open_sidecar

BLIND = GpuDevice(index=1, name="MIG parent", uuid="GPU-b")
LOST = replace(BLIND, index=2, state=GpuState.LOST, fault="GPU is lost")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> ScriptedDriver:
    driver = ScriptedDriver(shows=reading(CARD, BLIND, LOST))
    monkeypatch.setattr(monitor, "Nvml", lambda: driver)
    monkeypatch.setattr(monitor, "SAMPLE_S", 0.001)
    return driver


@pytest.fixture
async def v1(tmp_path: Path, driver: ScriptedDriver) -> AsyncIterator[Sidecar]:
    async with open_sidecar(tmp_path) as sidecar:
        yield sidecar


async def test_the_status_has_the_contracts_members_and_nulls(v1: Sidecar) -> None:
    gpu = (await v1("GET", "/v1/status")).body["gpu"]
    assert gpu["available"] is True
    contract = ("index", "name", "utilization", "memory", "temperature")
    assert [{name: item[name] for name in contract} for item in gpu["gpus"]] == [
        {
            "index": 0,
            "name": "Card",
            "utilization": 50.0,
            "memory": {"used": 4 * GIB, "total": 24 * GIB, "percentUsed": 16.7},
            "temperature": 60.0,
        },
        *(
            {
                "index": index,
                "name": "MIG parent",
                "utilization": None,
                "memory": {"used": None, "total": None, "percentUsed": None},
                "temperature": None,
            }
            for index in (1, 2)
        ),
    ]


async def test_a_lost_gpu_has_its_state_on_every_path(v1: Sidecar) -> None:
    whole, status = (await v1("GET", "/v1/gpu")).body, (await v1("GET", "/v1/status")).body
    assert [item["state"] for item in whole["gpus"]] == ["ok", "ok", "lost"]
    assert [item["state"] for item in status["gpu"]["gpus"]] == ["ok", "ok", "lost"]
    told = [problem for problem in status["problems"] if "GPU 2" in problem]
    assert told == [problem for problem in whole["problems"] if "GPU 2" in problem]
    assert len(told) == 1


async def test_a_driver_that_dies_is_a_reason_and_no_fault(v1: Sidecar, driver: ScriptedDriver) -> None:
    assert (await v1("GET", "/v1/gpu")).body["available"] is True
    driver.shows = NvmlReading(devices=(), reason="NVML: Driver Not Loaded")
    after = await v1("GET", "/v1/gpu")
    while after.body["available"]:  # the sample is shared for a millisecond
        after = await v1("GET", "/v1/gpu")
    assert after.status == 200
    assert (after.body["source"], after.body["gpus"]) == ("none", [])
    assert after.body["reason"].startswith("NVML: Driver Not Loaded; engine ")
