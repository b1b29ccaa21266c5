"""Retries, deadlines and failures over REST."""

from pathlib import Path

from tests.support.graphs import failing, picture, slow
from tests.support.sidecar import WORKFLOW, open_sidecar


async def test_a_failed_workflow_is_retried_once_asked_and_its_attempts_are_shown(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as sidecar:
        first = await sidecar.submit(failing())
        await sidecar.ended(first)
        key = {"Idempotency-Key": "once more"}
        answer = await sidecar("POST", f"{WORKFLOW}/{first}/retry", headers=key)
        assert answer.status == 202
        again = answer.body["workflowId"]
        assert answer.headers["Location"] == f"{WORKFLOW}/{again}"
        repeated = await sidecar("POST", f"{WORKFLOW}/{first}/retry", headers=key)
        assert (repeated.status, repeated.body) == (202, answer.body)
        assert (await sidecar("GET", f"{WORKFLOW}/{first}")).body["retriedBy"] == again
        assert (answer.body["retryOf"], answer.body["status"]) == (first, "queued")
        await sidecar.ended(again)
        plain = (await sidecar("GET", f"{WORKFLOW}/{again}")).body
        assert (plain["retryOf"], plain["attempts"]) == (first, None)
        attempts = (await sidecar("GET", f"{WORKFLOW}/{again}?attempts=true")).body["attempts"]
        assert [(each["workflowId"], each["outcome"]) for each in attempts] == [
            (first, "failed"),
            (again, "failed"),
        ]
        assert {"engine", "promptId", "claimedTime", "endTime", "reason"} <= set(attempts[0])
        listed = (await sidecar("GET", "/v1/comfyui/workflows?failureKind=node_error")).body["workflows"]
        assert {item["workflowId"] for item in listed} == {first, again}
        assert (await sidecar("GET", "/v1/comfyui/workflows?failureKind=oom")).body["workflows"] == []
        left = (await sidecar("GET", "/v1/comfyui/workflows?status=failed&retried=false")).body["workflows"]
        assert [item["workflowId"] for item in left] == [again]
        waited = await sidecar("POST", f"{WORKFLOW}/{first}/retry", headers={"Prefer": "wait=30"})
        assert (waited.status, waited.body["status"], waited.body["retryOf"]) == (200, "failed", first)


async def test_what_has_completed_is_not_retried(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as sidecar:
        job = await sidecar.submit(picture())
        await sidecar.ended(job)
        answer = await sidecar("POST", f"{WORKFLOW}/{job}/retry")
        assert (answer.status, answer.body["code"]) == (409, "not_retryable")
        assert answer.body["currentStatus"] == "completed"


async def test_timeouts_are_taken_in_camel_case_shown_as_deadlines_and_kept(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as sidecar:
        job = await sidecar.submit(slow(), queueTimeoutS=600, runTimeoutS=0.3)
        await sidecar.until_running(job)
        state = (await sidecar("GET", f"{WORKFLOW}/{job}")).body
        if state["status"] == "running":  # else it has been stopped already
            assert state["runDeadline"] == state["startTime"] + 300
        ended = await sidecar.ended(job)
        assert (ended["status"], ended["failure"]["kind"]) == ("failed", "timeout")
        refused = await sidecar("POST", WORKFLOW, json={"workflow": picture(), "runTimeoutS": -1})
        assert (refused.status, refused.body["code"]) == (400, "invalid_argument")
