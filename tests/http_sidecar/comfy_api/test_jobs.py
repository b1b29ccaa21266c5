"""Jobs over HTTP, as no SDK would send them, and what the SDKs do not look at."""

import asyncio
import json
from typing import Any

import pytest

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.driving.engines import Engines
from comfy_mcp.store import Store
from tests.http_sidecar.comfy_api.conftest import API, HEADERS, of
from tests.operations.test_written import FAULTS, raises_behind
from tests.support.graphs import picture, slow
from tests.support.sidecar import Sidecar

JOBS = f"{API}/jobs"
WORKFLOW = "/v1/comfyui/workflow"


async def test_a_job_has_links_times_and_numbers(v2: Sidecar) -> None:
    created = await v2("POST", JOBS, json={"workflow": picture()}, headers=HEADERS)
    job = created.body
    assert (created.status, created.headers["Location"]) == (201, job["urls"]["self"])
    assert job["urls"]["events"] == f"{JOBS}/{job['id']}/events"
    await v2.ended(job["id"], headers=HEADERS)
    done = (await v2("GET", job["urls"]["self"], headers=HEADERS)).body
    assert done["created_at"] <= done["started_at"] <= done["completed_at"] < done["expires_at"]
    assert done["progress"] == {
        "value": 1.0,
        "nodes_done": 2,
        "nodes_total": 2,
        "current_node": None,
        "message": None,
    }
    assert done["metrics"]["queue_ms"] >= 0
    assert done["metrics"]["execution_ms"] >= 0


async def test_a_repeat_is_the_same_job_and_another_body_under_its_key_is_refused(v2: Sidecar) -> None:
    headers, graph = HEADERS | {"Idempotency-Key": "k"}, picture()
    first, again = [await v2("POST", JOBS, json={"workflow": graph}, headers=headers) for _ in range(2)]
    assert (first.body["id"], again.status) == (again.body["id"], 201)
    for path, key in ((JOBS, '"k"'), (WORKFLOW, "k"), (WORKFLOW, '"k"')):  # as the other API reads it
        same = await v2("POST", path, json={"workflow": graph}, headers=HEADERS | {"Idempotency-Key": key})
        assert first.body["id"] in same.body.values(), (path, key)
    for key in ("", '""', "\u00e9"):
        empty = await v2("POST", JOBS, json={"workflow": graph}, headers=HEADERS | {"Idempotency-Key": key})
        assert (empty.status, empty.body["error"]["code"]) == (400, "invalid_argument")
    other = await v2("POST", JOBS, json={"workflow": picture()}, headers=headers)
    assert (other.status, other.body["error"]["code"]) == (422, "idempotency_key_reuse")


NO_LABELS: list[Any] = [
    *("a=b", [1], {"a": 1}, {"a=b": "c"}, {"": "a"}, {"a": "x" * 513}),
    {f"name {number}": "" for number in range(17)},
]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "invalid_argument"),
        ({"workflow": "text"}, 400, "invalid_argument"),
        ([], 400, "invalid_argument"),
        ({"workflow": {}}, 422, "invalid_workflow"),
        ({"workflow": {"1": 7}}, 422, "invalid_workflow"),
        (
            {"workflow": {"1": {"class_type": "LoadImage", "inputs": {"image": {"__type": "core/ASSET"}}}}},
            422,
            "missing_asset",
        ),
        (
            {"workflow": {"1": {"inputs": {"image": {"__type": "core/ASSET", "info": {"id": 7}}}}}},
            422,
            "missing_asset",
        ),
        *[({"workflow": {}, "metadata": each}, 422, "metadata_invalid") for each in NO_LABELS],
    ],
)
async def test_a_wrong_body_is_an_error_in_the_contracts_shape(
    v2: Sidecar, body: Any, status: int, code: str
) -> None:
    answer = await v2("POST", JOBS, json=body, headers=HEADERS)
    assert (answer.status, answer.body["error"]["code"]) == (status, code)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.body["error"]["message"]


async def test_a_list_goes_page_by_page(v2: Sidecar) -> None:
    made = [
        (await v2("POST", JOBS, json={"workflow": picture()}, headers=HEADERS)).body["id"] for _ in range(3)
    ]
    first = (await v2("GET", f"{JOBS}?limit=2", headers=HEADERS)).body
    rest = (await v2("GET", f"{JOBS}?limit=2&cursor={first['next_cursor']}", headers=HEADERS)).body
    assert [each["id"] for each in first["jobs"] + rest["jobs"]] == made[::-1]
    assert "next_cursor" not in rest
    assert len((await v2("GET", f"{JOBS}?limit=99999", headers=HEADERS)).body["jobs"]) == 3
    for wrong in ("limit=0", "limit=x", "cursor=made-up"):
        answer = await v2("GET", f"{JOBS}?{wrong}", headers=HEADERS)
        assert (answer.status, answer.body["error"]["code"]) == (400, "invalid_argument")


async def test_a_key_that_may_only_submit_gets_the_job_it_made(v2: Sidecar) -> None:
    answer = await v2("POST", JOBS, json={"workflow": picture()}, headers=of("sam"))
    assert (answer.status, answer.body["status"], answer.body["outputs"]) == (201, "queued", [])
    seen = await v2("GET", answer.body["urls"]["self"], headers=of("sam"))
    assert (seen.status, seen.body["error"]["code"]) == (403, "forbidden")


async def test_a_job_that_can_not_be_read_back_is_what_its_submit_has_said(
    v2: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def locked(*_args: Any) -> Any:
        raise StoreFault("The database is locked.", next_step="Wait.")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "view_job", locked)
        body = {"workflow": picture(), "metadata": {"run": "1"}}
        answer = await v2("POST", JOBS, json=body, headers=HEADERS)
        unread = await v2("GET", answer.body["urls"]["self"], headers=HEADERS)
    made = answer.body
    assert (answer.status, made["status"], made["metadata"], made["outputs"]) == (
        201,
        "queued",
        {"run": "1"},
        [],
    )
    assert (unread.status, unread.body["error"]["code"]) == (429, "deployment_not_ready")
    assert (await v2.ended(made["id"], headers=HEADERS))["status"] == "completed"


@pytest.mark.parametrize("fault", FAULTS, ids=["a defect", "no word of the commit"])
async def test_a_job_is_answered_whatever_raises_behind_its_commit(
    v2: Sidecar, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    raises_behind(monkeypatch, Engines, "submit", fault)
    answer = await v2("POST", JOBS, json={"workflow": picture()}, headers=HEADERS)
    assert (answer.status, answer.body["status"] in {"queued", "running", "succeeded"}) == (201, True)
    assert (await v2.ended(answer.body["id"], headers=HEADERS))["status"] == "completed"
    assert len((await v2("GET", JOBS, headers=HEADERS)).body["jobs"]) == 1


async def test_where_the_store_does_not_say_the_error_names_the_job(
    v2: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def locked(*_args: Any) -> Any:
        raise StoreFault("The database is locked.", next_step="Wait.")

    with monkeypatch.context() as patched:
        raises_behind(patched, Engines, "submit", RuntimeError("a defect"))
        patched.setattr(Store, "view_job", locked)
        answer = await v2("POST", JOBS, json={"workflow": picture()}, headers=HEADERS)
    [job] = (await v2("GET", JOBS, headers=HEADERS)).body["jobs"]
    assert (answer.status, answer.body["error"]["code"]) == (429, "deployment_not_ready")
    assert job["id"] in json.dumps(answer.body)


async def test_a_cancel_is_said_until_it_has_happened(v2: Sidecar) -> None:
    job = (await v2("POST", JOBS, json={"workflow": slow()}, headers=HEADERS)).body
    await v2.until_running(job["id"], headers=HEADERS)
    assert (await v2("GET", job["urls"]["self"], headers=HEADERS)).body["status"] == "running"
    cancelled = await v2("POST", job["urls"]["cancel"], headers=HEADERS)
    assert cancelled.body["status"] in {"canceling", "canceled"}
    async with asyncio.timeout(30):
        await v2.ended(job["id"], headers=HEADERS)
    assert (await v2("GET", job["urls"]["self"], headers=HEADERS)).body["status"] == "canceled"
    missing = await v2("POST", f"{JOBS}/nothing/cancel", headers=HEADERS)
    assert (missing.status, missing.body["error"]["code"]) == (404, "not_found")


async def test_labels_are_kept_and_found(v2: Sidecar) -> None:
    given = [{"client": "acme", "run": "1=x"}, {"client": "acme", "run": "\U0001f98a"}, {"client": "other"}]
    ids = []
    for labels in given:
        body = {"workflow": picture(), "metadata": labels}
        made = (await v2("POST", JOBS, json=body, headers=HEADERS)).body
        assert made["metadata"] == labels
        ids.append(made["id"])

    async def found(**labels: str) -> list[str]:
        query = {f"metadata[{name}]": value for name, value in labels.items()}
        answer = await v2("GET", JOBS, params=query, headers=HEADERS)
        return [each["id"] for each in answer.body["jobs"]]

    assert await found(client="acme") == [ids[1], ids[0]]
    assert await found(run="1=x") == [ids[0]]
    assert await found(client="acme", run="\U0001f98a") == [ids[1]]
    assert await found(client="nobody") == []
    listed = await v2("GET", JOBS, headers=HEADERS)
    assert [each["metadata"] for each in listed.body["jobs"]] == given[::-1]
