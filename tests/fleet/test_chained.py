"""Two bridges: the first drives the second over Comfy API v2, which has the embedded engine."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.access import ApiKey, Right, digest_of
from comfy_mcp.domain.errors import EngineUnreachable
from comfy_mcp.places.cloud.http import CloudHttp, Reply
from tests.support import graphs
from tests.support.sidecar import WORKFLOW, Sidecar, open_sidecar

KEY = "the-key-of-the-far-bridge"
LANE = "comfy-api-v2"
NEAR_KEY = "the-key-of-the-near-bridge"


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Sidecar]:
    async with open_sidecar(tmp_path / "far", http_key=KEY) as sidecar:
        yield sidecar


def near_of(tmp_path: Path, far: Sidecar, **more: Any) -> Any:
    """Its own engine is down: what runs, runs far away."""
    given: dict[str, Any] = {
        "engine_url": "http://127.0.0.1:9",
        "comfy_api_url": f"{far.url}/api/v2/",
        "comfy_api_key": KEY,
    }
    return open_sidecar(tmp_path / "near", **(given | more))


@pytest.fixture
async def near(tmp_path: Path, far: Sidecar) -> AsyncIterator[Sidecar]:
    async with near_of(tmp_path, far) as sidecar:
        yield sidecar


async def far_jobs(far: Sidecar) -> list[dict[str, Any]]:
    answer = await far("GET", "/v1/comfyui/workflows", headers={"X-API-Key": KEY})
    return list(answer.body["workflows"])


async def test_a_workflow_runs_far_away_and_its_picture_is_kept_here(near: Sidecar, far: Sidecar) -> None:
    job = await near.submit(graphs.picture(), gpu=LANE)
    state = await near.ended(job)
    assert (state["status"], state["engine"], state["error"]) == ("completed", LANE, None)
    (output,) = state["outputs"]
    answer = await near("GET", output["url"])
    assert answer.status == 200
    assert answer.data.startswith(b"\x89PNG")
    (ran,) = await far_jobs(far)
    assert ran["status"] == "completed"


async def test_what_asks_for_no_lane_stays_here(near: Sidecar, far: Sidecar) -> None:
    job = await near.submit(graphs.picture())
    await near.ended(await near.submit(graphs.picture(), gpu=LANE))
    assert (await near("GET", f"{WORKFLOW}/{job}")).body["status"] == "queued"
    assert len(await far_jobs(far)) == 1


async def test_a_file_travels_with_the_workflow(near: Sidecar, far: Sidecar) -> None:
    before = await near.ended(await near.submit(graphs.picture(size=32), gpu=LANE))
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": f"output:{before['outputs'][0]['outputId']}"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "again"}},
    }
    state = await near.ended(await near.submit(graph, gpu=LANE))
    assert (state["status"], state["error"]) == ("completed", None)
    pictures = [await near("GET", each["outputs"][0]["url"]) for each in (before, state)]
    sizes = [picture.data[16:24] for picture in pictures]  # width and height in the header of a PNG
    assert sizes[0] == sizes[1]


async def test_a_file_of_an_engine_here_travels_too(tmp_path: Path, far: Sidecar) -> None:
    async with near_of(tmp_path, far, engine_url=None) as near:
        made = await near.ended(await near.submit(graphs.picture()))
        picture = await near("GET", made["outputs"][0]["url"])
        (tmp_path / "near" / "engine" / "input" / "mine.png").write_bytes(picture.data)
        graph = {
            "1": {"class_type": "LoadImage", "inputs": {"image": "mine.png"}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "again"}},
        }
        state = await near.ended(await near.submit(graph, gpu=LANE))
        assert (state["status"], state["engine"], state["error"]) == ("completed", LANE, None)


async def test_progress_is_seen_and_a_cancel_reaches_the_far_engine(near: Sidecar, far: Sidecar) -> None:
    job = await near.submit(graphs.slow(), gpu=LANE)
    await near.until_running(job)
    answer = await near("DELETE", f"{WORKFLOW}/{job}")
    assert answer.body["status"] == "cancelled"
    (ran,) = await far_jobs(far)
    assert (await far.ended(ran["workflowId"], headers={"X-API-Key": KEY}))["status"] == "cancelled"


async def test_what_fails_far_away_fails_here_with_the_same_words(near: Sidecar) -> None:
    state = await near.ended(await near.submit(graphs.failing("no luck"), gpu=LANE))
    assert (state["status"], state["failure"]["kind"]) == ("failed", "node_error")
    assert "no luck" in state["error"]
    assert state["failure"]["nodeId"] == "3"


async def test_what_only_the_service_can_judge_is_judged_there(tmp_path: Path, far: Sidecar) -> None:
    graph = graphs.picture() | {"3": {"class_type": "NobodyHasThis", "inputs": {"x": ["1", 0]}}}
    graph["2"]["inputs"]["images"] = ["3", 0]
    async with near_of(tmp_path, far, engine_url=None) as near:
        answer = await near("POST", WORKFLOW, json={"workflow": graph, "gpu": LANE})
        assert "was not checked" in " ".join(answer.body["warnings"])
        state = await near.ended(answer.body["workflowId"])
    assert (state["status"], state["failure"]["kind"]) == ("failed", "validation")
    assert f"{LANE} refused it" in state["error"]
    assert await far_jobs(far) == []


async def test_a_lost_answer_makes_no_second_job(
    near: Sidecar, far: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, lost = CloudHttp.ask, list[Reply]()

    async def losing(http: CloudHttp, what: str, *given: Any, **more: Any) -> Reply:
        reply = await ask(http, what, *given, **more)
        if what == "submit" and reply.status == 201 and not lost:
            lost.append(reply)
            raise EngineUnreachable("the answer was lost", next_step="")
        return reply

    monkeypatch.setattr(CloudHttp, "ask", losing)
    state = await near.ended(await near.submit(graphs.picture(), gpu=LANE))
    assert (state["status"], state["attempt"]) == ("completed", 1)
    assert len(lost) == len(await far_jobs(far)) == 1


async def test_a_process_that_comes_after_finds_what_runs(tmp_path: Path, far: Sidecar) -> None:
    async with near_of(tmp_path, far) as first:
        job = await first.submit(graphs.slow(steps=60), gpu=LANE)
        await first.until_running(job)
    async with near_of(tmp_path, far) as second:
        state = await second.ended(job)
    assert (state["status"], state["attempt"]) == ("completed", 1)
    assert len(await far_jobs(far)) == 1


async def test_a_key_that_is_refused_is_said_and_never_shown(tmp_path: Path, far: Sidecar) -> None:
    async with near_of(tmp_path, far, comfy_api_key="a-wrong-key-0123") as near:
        while near.services.engines.lanes.trouble(LANE) is None:
            await near("GET", "/health")
        answer = await near("POST", WORKFLOW, json={"workflow": graphs.picture(), "gpu": LANE})
        (warning,) = answer.body["warnings"]
        assert "Check the lane's URL and key" in warning
        job = answer.body["workflowId"]
        assert "Check the lane" in (await near("GET", f"{WORKFLOW}/{job}")).body["waitingFor"]["message"]
        status = await near("GET", "/v1/status")
        assert LANE in " ".join(status.body["problems"])
        assert b"a-wrong-key" not in status.data + answer.data


async def test_a_lane_needs_the_right_to_spend(tmp_path: Path, far: Sidecar) -> None:
    async with near_of(tmp_path, far, http_key=NEAR_KEY) as near:
        for name, rights in {"sam": {Right.SUBMIT}, "pat": {Right.SUBMIT, Right.SPEND}}.items():
            key = ApiKey(name=name, digest=digest_of(name), rights=frozenset(rights), created_at=1)
            await near.services.store.add_key(key)
        body = {"workflow": graphs.picture(), "gpu": LANE}
        refused = await near("POST", WORKFLOW, json=body, headers={"X-API-Key": "sam"})
        taken = await near("POST", WORKFLOW, json=body, headers={"X-API-Key": "pat"})
    assert (refused.status, refused.body["code"], taken.status) == (403, "forbidden", 202)


async def test_a_lane_has_no_engines_to_choose_from(near: Sidecar) -> None:
    body = {"workflow": graphs.picture(), "gpu": LANE, "labels": ["h100"]}
    answer = await near("POST", WORKFLOW, json=body)
    assert (answer.status, answer.body["code"]) == (400, "invalid_argument")


async def test_a_retry_goes_to_the_same_lane(near: Sidecar) -> None:
    job = await near.submit(graphs.failing(), gpu=LANE)
    await near.ended(job)
    answer = await near("POST", f"{WORKFLOW}/{job}/retry")
    assert (await near.ended(answer.body["workflowId"]))["engine"] == LANE


async def test_a_lane_that_is_not_configured_any_more_keeps_its_jobs_waiting(
    tmp_path: Path, far: Sidecar
) -> None:
    async with near_of(tmp_path, far, comfy_api_key="a-wrong-key-0123") as before:
        job = await before.submit(graphs.picture(), gpu=LANE)
    async with near_of(tmp_path, far, comfy_api_url=None) as near:
        state = (await near("GET", f"{WORKFLOW}/{job}")).body
        answer = await near("POST", WORKFLOW, json={"workflow": graphs.picture(), "gpu": LANE})
    assert "is not configured" in state["waitingFor"]["message"]
    assert (answer.status, answer.body["code"]) == (400, "lane_unavailable")
