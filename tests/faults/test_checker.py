"""The checker finds what it is there to find: each test makes one kind of lie, by hand, in a good store."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from comfy_mcp.domain.events import FailureKind, JobEvent, JobFailure
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.job import Job
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Lease, Store
from tests.faults.checker import Expectations, Outcome, _check_chains, check, read_record
from tests.faults.clients import Clients, Submitted
from tests.faults.world import World
from tests.support.jobs import (
    GRAPH,
    cancelled,
    completed,
    failed,
    new_prompt_id,
    queued_event,
    requeued,
    started,
)

ENGINE = EngineId("engine")
STRICT = Expectations(lossy_engine=False)
LOSSY = Expectations()
RAN = ("accepted", "start", "success")


class House:
    """A store with jobs, and an engine's record of them, both written by the test."""

    def __init__(self, folder: Path, store: Store, lease: Lease) -> None:
        self.store = store
        self.clients = Clients(cast("World", None))
        self._lease = lease
        self._log = folder / "record.jsonl"

    async def job(
        self, *record: str, pid: int = 1, kind: str = "failing", run_timeout_ms: int | None = None
    ) -> Job:
        """A job that has been claimed and started; the engine's record says `record` of its prompt."""
        event = replace(queued_event(), run_timeout_ms=run_timeout_ms)
        job, _ = await self.store.add_job(event, GRAPH, max_queued=10)
        self.clients.submitted.append(Submitted(kind=kind, job_id=job.id))
        return await self.claim(*record, pid=pid)

    async def claim(self, *record: str, pid: int = 1) -> Job:
        claim = await self.store.claim_next(self._lease, prompt_id=new_prompt_id(), now=1_500)
        assert claim is not None
        assert claim.job.prompt_id is not None
        self.engine_says(claim.job.prompt_id, *record, pid=pid)
        return await self.write(started(claim.job))

    async def write(self, event: JobEvent) -> Job:
        return await self.store.record(self._lease, event.job_id, [event])

    def engine_says(self, prompt_id: str, *record: str, pid: int = 1) -> None:
        with self._log.open("a") as log:
            for what in record:
                line = {"at": 1_600, "pid": pid, "prompt_id": prompt_id, "what": what}
                log.write(json.dumps(line) + "\n")

    async def verdict(self, expected: Expectations = STRICT, *, pid: int | None = None) -> Outcome:
        record = read_record(self._log, pid=pid)
        return await asyncio.to_thread(check, self.store.info.path, record, self.clients, expected)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = await Store.open(load_settings(state_dir=tmp_path / "state"))
    try:
        lease = await store.acquire_lease(ENGINE, "test", 3_600)
        assert lease is not None
        yield House(tmp_path, store, lease)
    finally:
        await store.close()


def said(outcome: Outcome, what: str) -> bool:
    return any(what in violation for violation in outcome.violations)


# A graph of the kind `failing` makes no output, which keeps these stores small.


async def test_a_store_that_agrees_with_the_record_is_not_accused(house: House) -> None:
    await house.write(completed(await house.job(*RAN)))
    await house.write(failed(await house.job("accepted", "start", "error")))
    outcome = await house.verdict()
    assert outcome.violations == []
    assert outcome.states == {"completed": 1, "failed": 1}


async def test_completed_needs_a_success_in_the_record(house: House) -> None:
    await house.write(completed(await house.job("accepted", "start", "interrupted")))
    assert said(await house.verdict(LOSSY), "the engine's record says interrupted")


async def test_completed_needs_its_outputs(house: House) -> None:
    await house.write(completed(await house.job(*RAN, kind="picture")))
    assert said(await house.verdict(), "0 outputs instead of 1")


async def test_cancelled_is_a_lie_when_the_engine_completed_it(house: House) -> None:
    await house.write(cancelled(await house.job(*RAN)))
    assert said(await house.verdict(LOSSY), "the engine completed it")


async def test_cancelled_needs_somebody_who_asked(house: House) -> None:
    await house.write(cancelled(await house.job("accepted", "start", "interrupted")))
    assert said(await house.verdict(), "nobody asked for that")


async def test_what_an_engine_took_to_its_grave_is_counted_and_not_accused(house: House) -> None:
    job = await house.job(*RAN, pid=1)
    house.clients.submitted[0].cancelled = True
    await house.write(cancelled(job))
    await house.write(completed(await house.job(*RAN, pid=2)))
    outcome = await house.verdict(LOSSY)
    assert outcome.violations == []
    assert outcome.unknowable == 1


async def test_a_job_that_is_not_final_is_a_violation(house: House) -> None:
    await house.job("accepted", "start")
    assert said(await house.verdict(LOSSY), "still running")


async def test_a_promised_job_that_is_not_in_the_store_is_a_violation(house: House) -> None:
    house.clients.submitted.append(Submitted(kind="picture", job_id="gone"))
    assert said(await house.verdict(), "the submit that returned gone is lost")


async def test_one_key_with_two_jobs_is_a_violation(house: House) -> None:
    house.clients.answers += [("key", "one"), ("key", "two")]
    assert said(await house.verdict(), "made 2 jobs")


async def test_a_prompt_that_ran_twice_is_a_violation(house: House) -> None:
    await house.write(completed(await house.job(*RAN, *RAN)))
    assert said(await house.verdict(), "sent 2 times and ran 2 times")


async def test_a_prompt_that_no_attempt_names_is_a_violation_unless_it_is_foreign(house: House) -> None:
    house.engine_says("stranger", *RAN)
    assert said(await house.verdict(), "prompt stranger, which no attempt names")
    assert (await house.verdict(replace(STRICT, foreign=frozenset({"stranger"})))).violations == []


async def test_a_foreign_prompt_must_not_be_interrupted(house: House) -> None:
    house.engine_says("stranger", "accepted", "start", "interrupted")
    assert said(await house.verdict(replace(STRICT, foreign=frozenset({"stranger"}))), "was interrupted")


async def test_to_send_again_what_the_engine_still_has_is_a_violation(house: House) -> None:
    await house.write(requeued(await house.job("accepted", "start")))
    await house.write(completed(await house.claim(*RAN)))
    assert said(await house.verdict(LOSSY), "sent again although the engine had it")


async def test_to_send_again_what_died_with_its_engine_is_right(house: House) -> None:
    await house.write(requeued(await house.job("accepted", "start", pid=1)))
    await house.write(completed(await house.claim(*RAN, pid=2)))
    outcome = await house.verdict(LOSSY)
    assert (outcome.violations, outcome.requeued) == ([], 1)


@pytest.mark.parametrize("kind", [FailureKind.ENGINE_LOST, FailureKind.CANCELLED_EXTERNALLY])
async def test_a_failure_that_blames_the_engine_must_not_hide_a_success(
    house: House, kind: FailureKind
) -> None:
    event = failed(await house.job(*RAN))
    await house.write(replace(event, failure=JobFailure(kind=kind, message="It was not me.")))
    assert said(await house.verdict(LOSSY), f"{kind} although the engine completed it")


async def test_a_failure_that_no_fault_explains_is_a_violation(house: House) -> None:
    event = failed(await house.job("accepted"))
    failure = JobFailure(kind=FailureKind.INTERNAL, message="Oops.")
    await house.write(replace(event, failure=failure))
    assert said(await house.verdict(LOSSY), "failed as internal: Oops.")


async def test_what_a_client_heard_must_be_what_the_store_says(house: House) -> None:
    job = await house.write(completed(await house.job(*RAN)))
    house.clients.heard.append((job.id, "failed"))
    assert said(await house.verdict(), f"a client was told that {job.id} is failed")


async def test_the_cause_that_a_client_heard_must_be_the_stores(house: House) -> None:
    await house.write(failed(await house.job("accepted", "start", "error")))
    house.clients.submitted[0].causes.append("timeout")
    assert said(await house.verdict(), "clients were told ['timeout']")


async def test_a_refusal_that_no_fault_explains_is_a_violation(house: House) -> None:
    house.clients.refusals.append(("submit_workflow", "store_unavailable"))
    assert said(await house.verdict(), "submit_workflow was refused with store_unavailable")
    explained = replace(STRICT, refusals=frozenset({"store_unavailable"}))
    assert (await house.verdict(explained)).violations == []


async def test_what_an_engine_lost_that_took_nothing_since_may_be_tried_again(house: House) -> None:
    await house.write(requeued(await house.job("accepted", "start", pid=1)))
    await house.write(cancelled(await house.claim()))
    house.clients.submitted[0].cancelled = True
    assert said(await house.verdict(LOSSY, pid=1), "the engine had it")
    assert (await house.verdict(LOSSY, pid=2)).violations == []


@pytest.mark.parametrize(
    ("record", "run_timeout_ms", "complaint"),
    [
        (("accepted", "start", "interrupted"), 100, ""),
        (("accepted", "start", "interrupted"), 60_000, "timeout at 3000"),
        (("accepted", "start", "interrupted"), None, "timeout at 3000, with the deadlines []"),
        (RAN, 100, "timeout although the engine completed it"),
    ],
)
async def test_a_timeout_needs_a_deadline_that_had_passed_and_a_run_that_did_not_end(
    house: House, record: tuple[str, ...], run_timeout_ms: int | None, complaint: str
) -> None:
    event = failed(await house.job(*record, run_timeout_ms=run_timeout_ms))
    await house.write(replace(event, failure=JobFailure(kind=FailureKind.TIMEOUT, message="Too long.")))
    outcome = await house.verdict()
    assert said(outcome, complaint) if complaint else outcome.violations == []


async def test_a_run_without_an_end_can_not_have_completed(house: House) -> None:
    await house.write(completed(await house.job(*RAN, kind="endless")))
    assert said(await house.verdict(), "0 outputs instead of None")


@pytest.mark.parametrize(
    ("kind", "class_type", "right"),
    [("slow", "BridgeSlowImage", True), ("slow", "SaveImage", False), ("picture", "BridgeSlowImage", False)],
)
async def test_only_an_engine_that_changed_explains_a_graph_that_it_refuses(
    house: House, kind: str, class_type: str, right: bool
) -> None:
    event = failed(await house.job(kind=kind))
    failure = JobFailure(kind=FailureKind.VALIDATION, message=f"node 1 ({class_type}): unknown")
    await house.write(replace(event, failure=failure))
    changed = replace(LOSSY, refusals=frozenset({"graph_invalid"}))
    assert said(await house.verdict(changed), "failed as validation") is not right
    assert said(await house.verdict(LOSSY), "no engine refused it")


async def test_a_store_that_began_anew_is_not_asked_for_what_it_never_had(house: House) -> None:
    house.clients.submitted.append(Submitted(kind="picture", job_id="gone", told=["completed"]))
    house.clients.heard.append(("gone", "completed"))
    house.engine_says("of the old store", *RAN)
    assert (await house.verdict()).violations != []
    assert (await house.verdict(replace(STRICT, store_lost=True))).violations == []


@pytest.mark.parametrize(
    ("child", "parent", "claimed_at", "said"),
    [
        ("completed", "completed", 5, []),
        ("failed", "failed", None, []),
        ("completed", "completed", 1, ["was claimed before"]),
        ("completed", "failed", 5, ["its parents are"]),
        ("failed", "completed", None, ["failed for its parents"]),
    ],
)
def test_a_chain_that_broke_its_rule_is_found(
    child: str, parent: str, claimed_at: int | None, said: list[str]
) -> None:
    failure, other = json.dumps({"kind": "parent_failed"}), json.dumps({"kind": "node_error"})
    jobs: dict[str, dict[str, Any]] = {
        "p": {"id": "p", "status": parent, "after": None, "failure": other},
        "c": {"id": "c", "status": child, "after": json.dumps([["p", False, 0]]), "failure": failure},
    }
    events = {"p": [{"type": parent, "seq": 3}], "c": []}
    if claimed_at is not None:
        events["c"] = [{"type": "claimed", "seq": claimed_at}]
    found: list[str] = []
    _check_chains(jobs, {}, events, found.append)
    assert [any(part in each for each in found) for part in said] == [True] * len(said)
    assert len(found) == len(said)
