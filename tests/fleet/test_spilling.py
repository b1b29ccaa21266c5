"""`gpu: "auto"` with two bridges: the first has an engine that is busy, and the second one as its service."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.ids import JobId
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Store
from tests.support import graphs
from tests.support.serve_process import serve_process
from tests.support.sidecar import WORKFLOW, Sidecar, open_sidecar
from tests.support.warm_python import WARM_PYTHON

KEY = "the-key-of-the-far-bridge"
LANE = "comfy-api-v2"
MONEY = {"cloud_price": 3.6, "cloud_budget": 5.0, "cloud_budget_job": 2.0}


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Sidecar]:
    async with open_sidecar(tmp_path / "far", http_key=KEY) as sidecar:
        yield sidecar


async def far_jobs(far: Sidecar) -> list[dict[str, Any]]:
    answer = await far("GET", "/v1/comfyui/workflows", headers={"X-API-Key": KEY})
    return list(answer.body["workflows"])


async def test_a_busy_engine_spills_and_the_cost_is_what_the_service_says(
    tmp_path: Path, far: Sidecar
) -> None:
    given: dict[str, Any] = {"comfy_api_url": far.url, "comfy_api_key": KEY, "spill_wait_s": 1.0, **MONEY}
    async with open_sidecar(tmp_path / "near", **given) as near:
        await near.ended(await near.submit(graphs.slow(steps=5, step_ms=200)))  # now its pace is known
        assert (await near.ended(await near.submit(graphs.slow(steps=3), gpu=LANE)))["engine"] == LANE
        busy = [await near.submit(graphs.slow(steps=500)) for _ in range(12)]
        await near.until_running(busy[0])
        state = await near.ended(await near.submit(graphs.slow(steps=3), gpu="auto"))
        assert (state["status"], state["engine"]) == ("completed", LANE)
        assert f"sends it to {LANE}: here it would wait about" in " ".join(state["warnings"])
        there = max(await far_jobs(far), key=lambda each: each["createdTime"])
        ran_ms = there["completionTime"] - there["startTime"]
        assert state["cost"] == pytest.approx(3.6 * ran_ms / 3_600_000, abs=1e-6)
        await near("DELETE", f"{WORKFLOW}/mine")
        status = (await near("GET", "/v1/status")).body["spending"]
        assert 0 < status["today"] < 0.1


async def test_a_run_is_stopped_when_its_reservation_is_used_up(tmp_path: Path, far: Sidecar) -> None:
    given: dict[str, Any] = {"comfy_api_url": far.url, "comfy_api_key": KEY, **MONEY}
    given["cloud_budget_job"] = 0.0003  # 0.3 s
    async with open_sidecar(tmp_path / "near", engine_url="http://127.0.0.1:9", **given) as near:
        state = await near.ended(await near.submit(graphs.slow(), gpu=LANE))
        assert (state["status"], state["failure"]["kind"]) == ("failed", "timeout")
        assert "what was reserved for it" in state["error"]
        assert 0.0003 <= state["cost"] < 0.02
    (there,) = await far_jobs(far)
    assert there["status"] == "cancelled"


@pytest.mark.parametrize(("when", "sent", "attempts"), [("before", 0, 2), ("after", 1, 1)])
async def test_killed_around_the_post_it_is_sent_once_and_counted_once(
    tmp_path: Path, far: Sidecar, when: str, sent: int, attempts: int
) -> None:
    """Reserved, and not sent; or sent, and nobody has written down what the service calls it."""
    folder = tmp_path / "near"
    at = {"target": "comfy_mcp.places.cloud.place:CloudPlace.submit", "when": when, "nth": 1}
    point = json.dumps({"at": at})
    command = (WARM_PYTHON, "-m", "tests.support.chaos", point, "http_sidecar")
    lane: dict[str, Any] = {"comfy_api_url": far.url, "comfy_api_key": KEY, "lease_ttl_s": 1.0, **MONEY}
    nowhere = "http://127.0.0.1:9"
    named = {name.upper(): value for name, value in lane.items()}
    async with serve_process(folder, nowhere, *command, **named) as served:
        body = {"workflow": graphs.picture(), "gpu": LANE}
        async with far.session.post(f"{served.url}{WORKFLOW}", json=body) as response:
            job_id = (await response.json())["workflowId"]
        await served.ended()
    store = await Store.open(load_settings(state_dir=folder / "state"))
    killed = await store.get_job(JobId(job_id))
    assert killed is not None
    assert killed.spend is not None
    assert await store.spent(at=killed.created_at) == killed.spend.reserved == 2_000_000
    await store.close()
    assert len(await far_jobs(far)) == sent
    async with open_sidecar(folder, engine_url=nowhere, **lane) as near:
        state = await near.ended(job_id)
        assert (state["status"], state["engine"], state["attempt"]) == ("completed", LANE, attempts)
        spent = await near.services.store.spent(at=killed.created_at)
        assert spent == round(state["cost"] * 1_000_000) < 2_000_000
    assert len(await far_jobs(far)) == 1
