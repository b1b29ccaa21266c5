"""A submit whose job was written has it as its answer, whatever raises behind the commit."""

from collections.abc import Callable
from typing import Any

import pytest

from comfy_mcp.domain.errors import ErrorCode, LimitExceeded, StoreFault
from comfy_mcp.driving.direct import DirectSubmits
from comfy_mcp.driving.engines import Engines
from comfy_mcp.driving.tenure import Tenure
from comfy_mcp.store import Store
from tests.operations.conftest import Bench
from tests.support.graphs import picture


def raises_behind(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, error: Exception) -> None:
    """Once: what it does is done, and then it raises."""
    original: Callable[..., Any] = getattr(owner, name)
    raised: list[Exception] = []

    def behind() -> None:
        if not raised:
            raised.append(error)
            raise error

    async def waits(*args: Any, **how: Any) -> Any:
        result = await original(*args, **how)
        behind()
        return result

    def at_once(*args: Any, **how: Any) -> Any:
        result = original(*args, **how)
        if (
            result is not None or name != "add_and_claim_now"
        ):  # None: another write is under way, it wrote nothing
            behind()
        return result

    is_async = original.__code__.co_flags & 0x80
    monkeypatch.setattr(owner, name, waits if is_async else at_once)


STEPS = {
    "the claim": (Store, "_claimed"),
    "the write on the loop": (Store, "add_and_claim_now"),
    "the write": (Store, "add_and_claim"),
    "the short way": (DirectSubmits, "submit"),
    "the place that was reserved": (Tenure, "take_reserved"),
    "all": (Engines, "submit"),
}
FAULTS = (RuntimeError("a defect"), StoreFault("No word of the commit.", next_step="Try again."))


@pytest.mark.parametrize("fault", FAULTS, ids=["a defect", "no word of the commit"])
@pytest.mark.parametrize(("owner", "name"), STEPS.values(), ids=STEPS)
async def test_the_job_is_the_answer_and_runs(
    call: Bench, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, fault: Exception
) -> None:
    await call(
        "wait_for_workflow", workflow_id=(await call("submit_workflow", workflow=picture())).workflow_id
    )
    raises_behind(monkeypatch, owner, name, fault)
    submitted = await call("submit_workflow", workflow=picture(), name="this one")
    assert (submitted.status, submitted.name) == ("queued", "this one")
    ended = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    assert ended.status == "completed"
    listed = await call("list_workflows")
    assert [each.workflow_id for each in listed.workflows].count(submitted.workflow_id) == 1
    assert len(listed.workflows) == 2


async def test_so_are_those_of_a_batch(call: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    raises_behind(monkeypatch, Engines, "submit_all", RuntimeError("a defect"))
    batch = await call("submit_workflow", workflow=picture(), matrix={"width": [16, 32, 48]})
    assert len(set(batch.workflow_ids)) == 3
    assert (await call("wait_for_workflow", workflow_id=batch.workflow_id)).status == "completed"
    assert len((await call("list_workflows")).workflows) == 3


@pytest.mark.parametrize("error", [RuntimeError("a defect"), StoreFault("Full.", next_step="Make room.")])
async def test_where_nothing_was_written_the_error_is_the_answer(
    call: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def raises(*_args: Any, **_how: Any) -> Any:
        raise error

    monkeypatch.setattr(Engines, "submit", raises)
    with pytest.raises(type(error)) as caught:
        await call("submit_workflow", workflow=picture())
    assert caught.value is error
    assert (await call("list_workflows")).workflows == []


async def test_a_full_queue_is_not_looked_up(call: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def raises(*_args: Any, **_how: Any) -> Any:
        raise LimitExceeded("The queue is full.", next_step="Wait.")

    monkeypatch.setattr(Engines, "submit", raises)
    monkeypatch.setattr(Store, "view_job", None)
    with pytest.raises(LimitExceeded):
        await call("submit_workflow", workflow=picture())


async def test_where_the_store_does_not_say_the_error_names_the_job(
    call: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = StoreFault("The database is locked.", next_step="Wait.", code=ErrorCode.STORE_UNAVAILABLE)

    async def raises(*_args: Any, **_how: Any) -> Any:
        raise silent

    with monkeypatch.context() as patched:
        raises_behind(patched, Engines, "submit", RuntimeError("a defect"))
        patched.setattr(Store, "view_job", raises)
        with pytest.raises(StoreFault, match="The database is locked") as caught:
            await call("submit_workflow", workflow=picture())
    [job] = (await call("list_workflows")).workflows
    assert caught.value.details["workflowId"] == job.workflow_id
    assert job.workflow_id in caught.value.next_step
    assert (await call("wait_for_workflow", workflow_id=job.workflow_id)).status == "completed"
