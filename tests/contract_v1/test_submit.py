"""POST /v1/comfyui/workflow."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from http_sidecar.bounds import Bounds
from tests.contract_v1.shapes import UUID, assert_problem
from tests.support.graphs import picture, slow
from tests.support.sidecar import WORKFLOW, Sidecar, open_sidecar, serving


async def test_a_submit_is_accepted_with_id_status_and_position(v1: Sidecar) -> None:
    answer = await v1("POST", WORKFLOW, json={"workflow": picture(), "priority": "normal", "gpu": "local"})

    assert answer.status == 202
    assert answer.headers["Content-Type"].startswith("application/json")
    body = answer.body
    assert UUID.fullmatch(body["workflowId"])
    assert body["status"] == "queued"
    assert type(body["queuePosition"]) is int
    assert body["queuePosition"] >= 1


async def test_only_the_workflow_is_required_and_priority_is_normal(v1: Sidecar) -> None:
    job = await v1.submit(picture())
    assert (await v1("GET", f"{WORKFLOW}/{job}")).body["priority"] == "normal"


@pytest.mark.parametrize("priority", ["low", "normal", "high"])
async def test_every_priority_is_taken_and_kept(v1: Sidecar, priority: str) -> None:
    job = await v1.submit(picture(), priority=priority)
    assert (await v1("GET", f"{WORKFLOW}/{job}")).body["priority"] == priority


async def test_unknown_keys_are_tolerated(v1: Sidecar) -> None:
    body = {"workflow": picture(), "callback": "http://127.0.0.1:9/", "metadata": {"a": [1]}}
    assert (await v1("POST", WORKFLOW, json=body)).status == 202


async def test_high_goes_first_and_low_last_and_equals_keep_their_order(tmp_path: Path) -> None:
    """The earlier service ran `high` last-in-first-out, and `low` as `normal`."""
    async with open_sidecar(tmp_path, pipeline_depth=1) as v1:
        running = await v1.submit(slow(steps=2000))
        await v1.until_running(running)
        order = ["low", "normal", "high", "low", "normal", "high"]
        jobs = [(priority, await v1.submit(picture(), priority=priority)) for priority in order]
        shown = [(await v1("GET", f"{WORKFLOW}/{job}")).body for _, job in jobs]
        assert [body["queuePosition"] for body in shown] == [5, 3, 1, 6, 4, 2]
        await v1("DELETE", f"{WORKFLOW}/{running}")
        ended = {job: await v1.ended(job) for _, job in jobs}
    by_start = [priority for priority, job in sorted(jobs, key=lambda item: ended[item[1]]["startTime"])]
    assert by_start == ["high", "high", "normal", "normal", "low", "low"]


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, "workflow"),
        ({"workflow": None}, "workflow"),
        ({"workflow": [1]}, "workflow"),
        ({"workflow": 7}, "workflow"),
        ({"workflow": {}}, "no nodes"),
        ({"workflow": picture(), "priority": "urgent"}, "priority"),
        ({"workflow": picture(), "priority": 1}, "priority"),
        ({"workflow": picture(), "gpu": "tpu"}, "gpu"),
        ({"workflow": {"nodes": [], "links": []}}, "switch it on again"),
        ({"workflow": {"1": {"class_type": "NoSuchNode", "inputs": {}}}}, "NoSuchNode"),
    ],
)
async def test_a_body_that_is_wrong_is_400_and_says_where(
    v1: Sidecar, body: dict[str, Any], names: str
) -> None:
    answer = await v1("POST", WORKFLOW, json=body)
    assert names in assert_problem(answer, 400, "Bad Request")["detail"]
    assert (await v1("GET", "/v1/comfyui/workflows")).body["workflows"] == [], "nothing was written"


@pytest.mark.parametrize("raw", [b"", b"{", b"null", b"[]", b'"text"', b"\xff\xfe", b'{"workflow": NaN}'])
async def test_a_body_that_is_no_json_object_is_400(v1: Sidecar, raw: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert_problem(await v1("POST", WORKFLOW, data=raw, headers=headers), 400, "Bad Request")


async def test_the_salad_lane_is_refused_clearly_instead_of_being_ignored(v1: Sidecar) -> None:
    answer = await v1("POST", WORKFLOW, json={"workflow": picture(), "gpu": "salad"})
    assert assert_problem(answer, 400, "Bad Request")["code"] == "lane_unavailable"


async def test_no_file_of_the_server_is_read(v1: Sidecar, tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text("{}")
    answer = await v1("POST", WORKFLOW, json={"path": str(tmp_path / "graph.json")})
    assert assert_problem(answer, 400, "Bad Request")["code"] == "path_not_allowed"


@pytest.mark.parametrize(("body_bytes", "code"), [(8 * 2**20, "too_large"), (10_000, "body_too_large")])
async def test_a_workflow_that_is_too_large_is_413(tmp_path: Path, body_bytes: int, code: str) -> None:
    graph = picture()
    graph["1"]["_meta"]["title"] = "x" * 20_000
    async with open_sidecar(tmp_path, bounds=Bounds(body_bytes=body_bytes), max_graph_bytes=8_000) as v1:
        answer = await v1("POST", WORKFLOW, json={"workflow": graph})
        assert assert_problem(answer, 413, "Content Too Large")["code"] == code
        assert (await v1("GET", "/health")).status == 200


async def test_a_full_queue_is_503_with_retry_after(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, engine_url="http://127.0.0.1:9", max_queued=1) as v1:
        await v1.submit(picture())
        answer = await v1("POST", WORKFLOW, json={"workflow": picture()})
        body = assert_problem(answer, 503, "Service Unavailable")
        assert (body["code"], body["retryable"]) == ("queue_full", True)
        assert int(answer.headers["Retry-After"]) > 0


@pytest.fixture
async def broken(v1: Sidecar) -> AsyncIterator[Sidecar]:
    """A sidecar over services with a defect that nobody foresaw."""

    def fails() -> str:
        raise RuntimeError("secret detail of the defect")

    async with serving(replace(v1.services, new_id=fails), v1.settings) as sidecar:
        yield sidecar


async def test_what_nobody_foresaw_is_500_with_an_error_id_and_nothing_else(broken: Sidecar) -> None:
    answer = await broken("POST", WORKFLOW, json={"workflow": picture()})
    body = assert_problem(answer, 500, "Internal Server Error")
    assert body["errorId"] in body["message"]
    assert "secret detail" not in answer.data.decode()
