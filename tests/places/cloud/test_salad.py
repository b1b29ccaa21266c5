"""SaladCloud's job queue, by a stand-in that keeps jobs and has its faults: see docs/salad.md."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from comfy_mcp.places.cloud import salad
from comfy_mcp.settings import cloud
from tests.support import graphs
from tests.support.sidecar import WORKFLOW, Sidecar, open_sidecar

KEY = "the-salad-key"
JOBS = "/api/public/organizations/org/projects/pictures/queues/comfy/jobs"
PNG = b"\x89PNG\r\n\x1a\n picture"
RESULT = {"images": [base64.b64encode(PNG).decode()], "filenames": ["a_00001_.png"], "stats": {}}


class Queue:
    """The queue and its workers. A job ends as `ends` says as soon as it is asked for a second time.

    `faults`: answered in turn before anything else; `loses`: answers of POST that never arrive.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.faults: list[web.Response] = []
        self.loses = 0
        self.ends: dict[str, Any] | None = {"status": "succeeded", "output": RESULT}
        self.keys: set[str | None] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.keys.add(request.headers.get("Salad-Api-Key"))
        name = request.match_info.get("id")
        if name == salad.NO_JOB:
            return web.json_response({"title": "Not Found"}, status=404)
        if self.faults:
            return self.faults.pop(0)
        if name is None:
            return await self._create(request)
        job = self.jobs.get(name)
        if job is None:
            return web.json_response({"title": "Not Found"}, status=404)
        if request.method == "DELETE":
            job["status"] = "cancelled"
            return web.Response(status=202)
        self._advance(job)
        return web.json_response(job)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        job = {"id": f"job-{len(self.jobs) + 1}", "status": "pending", "events": [], **body}
        self.jobs[job["id"]] = job
        if self.loses:
            self.loses -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(job, status=201)

    def _advance(self, job: dict[str, Any]) -> None:
        if job["status"] == "pending":
            job["status"] = "running"
        elif job["status"] == "running" and self.ends is not None:
            job.update(self.ends)


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
async def near(tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sidecar]:
    app = web.Application(client_max_size=2**26)
    for path in (JOBS, f"{JOBS}/{{id}}"):
        app.router.add_route("*", path, queue.handle)
    async with TestServer(app) as server:
        monkeypatch.setattr(cloud, "SALAD_URL", str(server.make_url("/api/public")))
        async with open_sidecar(
            tmp_path, salad_api_key=KEY, salad_org_name="org", salad_queue="pictures/comfy"
        ) as sidecar:
            yield sidecar


async def run(near: Sidecar, graph: dict[str, Any] | None = None) -> dict[str, Any]:
    return await near.ended(await near.submit(graph or graphs.picture(), gpu="salad"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def test_a_workflow_runs_and_its_picture_is_kept(near: Sidecar, queue: Queue) -> None:
    graph = graphs.picture()
    state = await run(near, graph)
    assert (state["status"], state["engine"], state["error"]) == ("completed", "salad", None)
    assert (await near("GET", state["outputs"][0]["url"])).data == PNG
    assert queue.keys == {KEY}
    (job,) = queue.jobs.values()
    assert job["input"]["prompt"] == graph
    assert job["metadata"]["comfy_bridge"] == job["input"]["id"]


async def test_a_file_goes_inline(near: Sidecar, queue: Queue) -> None:
    data = base64.b64encode(graphs_png()).decode()
    graph = graphs.picture()
    graph["1"] = {"class_type": "LoadImage", "inputs": {"image": f"data:image/png;base64,{data}"}}
    assert (await run(near, graph))["status"] == "completed"
    assert queue.jobs["job-1"]["input"]["prompt"]["1"]["inputs"]["image"] == data


def graphs_png() -> bytes:
    return (Path(__file__).parents[3] / "docs" / "page.png").read_bytes()


async def test_a_file_that_is_too_large_is_said(
    near: Sidecar, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salad, "INLINE_BYTES", 10)
    graph = graphs.picture()
    data = base64.b64encode(graphs_png()).decode()
    graph["1"] = {"class_type": "LoadImage", "inputs": {"image": f"data:image/png;base64,{data}"}}
    state = await run(near, graph)
    assert (state["failure"]["kind"], queue.jobs) == ("missing_input", {})


async def test_a_busy_queue_is_asked_again_and_makes_one_job(near: Sidecar, queue: Queue) -> None:
    queue.faults = [web.json_response({}, status=429, headers={"Retry-After": "0"})]
    state = await run(near)
    assert (state["status"], state["attempt"], len(queue.jobs)) == ("completed", 1, 1)


async def test_a_lost_answer_is_a_second_attempt_in_sight_of_everybody(near: Sidecar, queue: Queue) -> None:
    queue.loses = 1
    state = await run(near)
    assert (state["status"], state["attempt"], len(queue.jobs)) == ("completed", 2, 2)


async def test_a_result_of_megabytes_arrives(near: Sidecar, queue: Queue) -> None:
    large = PNG + bytes(7 * 2**20)
    queue.ends = {
        "status": "succeeded",
        "output": {**RESULT, "images": [base64.b64encode(large).decode()]},
    }
    state = await run(near)
    assert (await near("GET", state["outputs"][0]["url"])).data == large


@pytest.mark.parametrize(
    ("ends", "kind", "message"),
    [
        ({"status": "succeeded", "output": None}, "engine_bad_answer", "more than 10 MB"),
        ({"status": "failed", "output": {"error": "boom"}}, "node_error", "boom"),
        ({"status": "failed", "output": None}, "node_error", "gave the job up"),
        (
            {"status": "succeeded", "output": {"images": ["???"]}},
            "engine_bad_answer",
            "'output_1.png' could not be fetched",
        ),
    ],
)
async def test_an_end_that_is_no_good_one_says_why(
    near: Sidecar,
    queue: Queue,
    ends: dict[str, Any],
    kind: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("comfy_mcp.places.cloud.place.FIRST_S", 0.01)
    monkeypatch.setattr("comfy_mcp.places.cloud.place.MOST_S", 0.01)
    queue.ends = ends
    state = await run(near)
    assert (state["status"], state["failure"]["kind"]) == ("failed", kind)
    assert message in state["error"]


async def test_what_the_queue_refuses_is_refused(near: Sidecar, queue: Queue) -> None:
    queue.faults = [web.json_response({"title": "Bad", "detail": "the input is too large"}, status=400)]
    state = await run(near)
    assert (state["failure"]["kind"], queue.jobs) == ("validation", {})
    assert "salad refused it: the input is too large" in state["error"]


async def test_a_cancel_reaches_the_queue(near: Sidecar, queue: Queue) -> None:
    queue.ends = None
    job = await near.submit(graphs.picture(), gpu="salad")
    await until(lambda: any(each["status"] == "running" for each in queue.jobs.values()))
    await near("DELETE", f"{WORKFLOW}/{job}")
    assert (await near.ended(job))["status"] == "cancelled"
    assert queue.jobs["job-1"]["status"] == "cancelled"


@pytest.mark.parametrize("fault", [web.HTTPBadGateway, web.HTTPNoContent, web.HTTPOk])
async def test_an_answer_that_is_none_is_asked_for_again(
    near: Sidecar, queue: Queue, fault: type[web.HTTPException]
) -> None:
    job = await near.submit(graphs.picture(), gpu="salad")
    await until(lambda: bool(queue.jobs))
    queue.faults = [web.Response(status=fault.status_code, text=json.dumps({"x": 1}))]
    assert (await near.ended(job))["status"] == "completed"
