"""Two stores on one file, as two processes would have, against a model made of the pure state machine."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from comfy_mcp.domain import fair_share
from comfy_mcp.domain.deadlines import Deadline, timed_out
from comfy_mcp.domain.errors import Fenced
from comfy_mcp.domain.events import (
    CancelRequested,
    JobCancelled,
    JobClaimed,
    JobEvent,
    JobQueued,
    Priority,
    PriorityChanged,
)
from comfy_mcp.domain.ids import EngineId, PromptId
from comfy_mcp.domain.job import CancelAnswer, IllegalTransition, Job, JobStatus, decide_cancel
from comfy_mcp.domain.transitions import queued
from comfy_mcp.store import Claim, ClaimOffer, Lease
from tests.store.two_stores import TwoStores
from tests.support import postgres
from tests.support.jobs import (
    GRAPH,
    cancelled,
    completed,
    failed,
    output_of_job,
    progressed,
    queued_event,
    requeued,
    started,
    submission,
)
from tests.support.raw_sql import run

ENGINES = (EngineId("a"), EngineId("b"))
STORES = st.integers(0, 1)
ANY = st.integers(0, 10_000)
KINDS: dict[str, Callable[[Job, int], list[JobEvent]]] = {
    "started": lambda job, at: [started(job, at)],
    "progress": lambda job, at: [progressed(job, at % 100 / 100, at)],
    "requeued": lambda job, at: [requeued(job, at)],
    "completed": lambda job, at: [progressed(job, 1.0, at), completed(job, at, 1)],
    "failed": lambda job, at: [failed(job, at)],
    "cancelled": lambda job, at: [cancelled(job, at)],
}


class StoreMachine(TwoStores):
    @initialize()
    def open_both(self) -> None:
        self.open_stores()
        for which, engine in enumerate(ENGINES):
            self.acquire(which, engine)
        for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH):
            self.submit(0, priority, None, "a", fair=True)

    # ------------------------------------------------------------------ clients

    @rule(
        which=STORES,
        priority=st.sampled_from([*Priority, None]),
        number=ANY,
        timeout_ms=st.none() | st.integers(1, 30),
        client=st.sampled_from("aab"),
        fair=st.sampled_from([True, True, True, False]),
    )
    def submit_or_end(
        self,
        which: int,
        priority: Priority | None,
        number: int,
        timeout_ms: int | None,
        client: str,
        fair: bool,
    ) -> None:
        if priority is not None:
            self.submit(which, priority, timeout_ms, client, fair=fair)
        elif timeout_ms is not None:
            self.expire(which)
        else:
            self.cancel(which, number)

    def submit(
        self, which: int, priority: Priority, timeout_ms: int | None, client: str, *, fair: bool
    ) -> None:
        event = queued_event(at=self.now(), priority=priority, client=client)
        event = replace(event, queue_timeout_ms=timeout_ms)
        tag = self.model.tag(event, fair=fair)
        job, position = self.run(self.stores[which].add_job(event, GRAPH, max_queued=1_000, fair=fair))
        self.added(event, job, position, tag)

    def added(self, event: JobQueued, job: Job, position: int, tag: int) -> None:
        assert job == queued(event)
        self.model.jobs[job.id] = job
        self.model.tags[job.id] = tag
        self.model.logs[job.id] = [event]
        claimed = sum(
            each.is_claimed and each.status is JobStatus.QUEUED for each in self.model.jobs.values()
        )
        assert position == claimed + self.model.waiting().index(job) + 1

    def expire(self, which: int) -> None:
        at = self.now()
        late = self.model.overdue(at)
        ended = self.run(self.stores[which].expire_overdue(now=at))
        assert {job.id for job in ended} == {job.id for job in late}
        for job in late:
            assert self.happened(job, [timed_out(job, Deadline.QUEUE, at=at)]) in ended

    def cancel(self, which: int, number: int) -> None:
        job, at = self.pick(number), self.now()
        expected = decide_cancel(job)
        events: list[JobEvent] = []
        if expected in {CancelAnswer.CANCEL_NOW, CancelAnswer.ASK_ENGINE} and not job.cancel_requested:
            events.append(CancelRequested(job_id=job.id, at=at, reason="no more"))
        if expected is CancelAnswer.CANCEL_NOW:
            events.append(JobCancelled(job_id=job.id, at=at, attempt=job.attempt))
        answered = self.run(self.stores[which].request_cancel(job.id, at=at, reason="no more"))
        assert answered == (self.happened(job, events), expected)

    @rule(
        which=STORES,
        number=ANY,
        priority=st.sampled_from(Priority),
        fair=st.sampled_from([True, True, False]),
    )
    def prioritize(self, which: int, number: int, priority: Priority, fair: bool) -> None:
        job, at = self.pick(number, lambda job: job.waits_unclaimed), self.now()
        changed = self.run(self.stores[which].set_priorities([job.id], priority, at=at, by=None, fair=fair))
        if job.priority is priority or not job.waits_unclaimed:
            assert changed == []
            return
        tag = self.model.tag(replace(job, priority=priority), fair=fair)
        event = PriorityChanged(job_id=job.id, at=at, priority=priority)
        assert changed == [self.happened(job, [event])]
        if job.attempt == 0:
            self.model.moves_up(job, claimed=False)
        self.model.tags[job.id] = tag

    # ------------------------------------------------------------------ drivers

    @rule(
        change=st.sampled_from(["take over", "take over", "acquire", "release", "renew", "start again"]),
        which=STORES,
        engine=st.sampled_from(ENGINES),
        number=ANY,
    )
    def change_hands(self, change: str, which: int, engine: EngineId, number: int) -> None:
        match change:
            case "take over":
                self.time_passes(engine)
                self.acquire(which, engine)
            case "acquire":
                self.acquire(which, engine)
            case "release":
                self.release(number)
                if number % 2:
                    self.acquire(which, engine)
            case "renew":
                if number % 2:
                    self.time_passes(engine)
                self.renew(number)
            case _:
                self.start_again(which)

    def acquire(self, which: int, engine: EngineId) -> None:
        holder = f"process {which}"
        lease = self.run(self.stores[which].acquire_lease(engine, holder, 3_600))
        current = self.model.current.get(engine)
        if current is not None and self.model.live[engine] and current.holder != holder:
            assert lease is None
            return
        fence = self.model.fences.get(engine, 0) + 1
        assert lease == Lease(engine=engine, holder=holder, fence=fence)
        self.model.fences[engine] = fence
        self.model.current[engine] = lease
        self.model.live[engine] = True
        self.model.leases.append((which, lease))

    def time_passes(self, engine: EngineId) -> None:
        def age(connection: Any) -> None:
            run(connection, "UPDATE engine_leases SET expires_at = 1 WHERE engine = ?", (engine,))

        self.run(self.stores[0]._writer.do(age))
        self.model.live[engine] = False

    def release(self, number: int) -> None:
        store, lease = self.lease(number)
        self.run(store.release_lease(lease))
        if self.model.is_current(lease):
            self.model.current[lease.engine] = None

    def renew(self, number: int) -> None:
        """One renewal is for all engines of its process."""
        store, lease = self.lease(number)
        if self.model.is_current(lease):
            self.run(store.renew_lease(lease, 3_600))
        else:
            with pytest.raises(Fenced):
                self.run(store.renew_lease(lease, 3_600))
        for engine, current in self.model.current.items():
            if current is not None and current.holder == lease.holder:
                self.model.live[engine] = True

    @rule(
        action=st.sampled_from(["claim", "claim", "claim", "adopt", *KINDS]),
        number=ANY,
        which_job=ANY,
        late=st.booleans(),
    )
    def drive(self, action: str, number: int, which_job: int, late: bool) -> None:
        if action == "adopt":
            self.adopt(number)
        elif action == "claim" or (
            number % 7 and not any(job.is_claimed for job in self.model.jobs.values())
        ):
            self.claim(number)
        else:
            self.record(number, which_job, action, late)

    def claim(self, number: int) -> None:
        store, lease = self.lease(number)
        self.model.prompts += 1
        prompt_id, at = PromptId(f"prompt {self.model.prompts}"), self.now()
        expected = self.model.next_job(at)
        if not self.model.is_current(lease):
            with pytest.raises(Fenced):
                self.run(store.claim_next(lease, prompt_id=prompt_id, now=at))
            return
        claim = self.run(store.claim_next(lease, prompt_id=prompt_id, now=at))
        if expected is None:
            assert claim is None
            return
        event = JobClaimed(
            job_id=expected.id, at=at, attempt=expected.attempt + 1, engine=lease.engine, prompt_id=prompt_id
        )
        assert (claim.job, json.loads(claim.text)) == (self.happened(expected, [event]), GRAPH)
        self.claimed(expected, claim, lease)
        self.model.passes(expected.priority, self.model.below(expected.priority, self.model.claimable(at)))

    def claimed(self, before: Job, claim: Claim, lease: Lease) -> None:
        if before.attempt == 0:
            share = (before.priority.rank, str(before.client))
            tag = self.model.tags[before.id]
            self.model.shares[share] = max(tag, self.model.shares.get(share, 0))
            if claim.more:
                self.model.moves_up(before, claimed=True)
        self.model.owners[before.id] = (lease.engine, lease.fence)

    @rule(priority=st.sampled_from(Priority), number=ANY, client=st.sampled_from("aab"), fair=st.booleans())
    def submit_to_an_engine_with_room(self, priority: Priority, number: int, client: str, fair: bool) -> None:
        store, lease = self.lease(number)
        self.model.prompts += 1
        prompt_id = PromptId(f"prompt {self.model.prompts}")
        event = queued_event(at=self.now(), priority=priority, client=client)
        tag = self.model.tag(event, fair=fair)
        offer = ClaimOffer(lease=lease, prompt_id=prompt_id)
        job, position, claim = self.run(
            store.add_and_claim(submission(event, max_queued=1_000, fair=fair), offer)
        )
        self.added(event, queued(event), position, tag)
        waiting = [each.id for each in self.model.waiting()]
        lower = self.model.below(priority, self.model.waiting())
        due = bool(lower) and fair_share.first_rank(self.model.passed) > 0
        if waiting[0] != event.job_id or due or not self.model.is_current(lease):
            assert (job, claim) == (queued(event), None)
            return
        assert claim is not None
        assert (claim.job, claim.more) == (job, len(waiting) > 1)
        before = self.model.jobs[event.job_id]
        happened = JobClaimed(job_id=job.id, at=event.at, attempt=1, engine=lease.engine, prompt_id=prompt_id)
        assert job == self.happened(before, [happened])
        self.claimed(before, claim, lease)
        if lower:
            self.model.passes(priority, lower)

    def adopt(self, number: int) -> None:
        store, lease = self.lease(number)
        if not self.model.is_current(lease):
            with pytest.raises(Fenced):
                self.run(store.adopt(lease))
            return
        adopted = {claim.job.id: claim.job for claim in self.run(store.adopt(lease))}
        in_flight = {
            job.id: job for job in self.model.jobs.values() if job.is_claimed and job.engine == lease.engine
        }
        assert adopted == in_flight
        for job_id in adopted:
            self.model.owners[job_id] = (lease.engine, lease.fence)

    def record(self, number: int, which_job: int, kind: str, late: bool) -> None:
        job, at = self.pick(which_job, lambda job: job.is_claimed), self.now()
        if number % 5 == 0:
            job = self.pick(which_job)
        store, lease = self.lease(
            number, lambda lease: self.model.is_current(lease) and self.model.owns(lease, job)
        )
        seen = job
        if late and job.attempt > 1:  # a word from the attempt before
            seen = Job(**{name: getattr(job, name) for name in Job.__dataclass_fields__} | {"attempt": 1})
        events = KINDS[kind](seen, at)
        outputs = [output_of_job(job)] if kind == "completed" else []
        if not (self.model.is_current(lease) and self.model.owns(lease, job)):
            with pytest.raises(Fenced):
                self.run(store.record(lease, job.id, events, outputs=outputs))
            return
        try:
            expected = self.happened(job, events)
        except IllegalTransition:
            with pytest.raises(IllegalTransition):
                self.run(store.record(lease, job.id, events, outputs=outputs))
            return
        assert self.run(store.record(lease, job.id, events, outputs=outputs)) == expected

    def start_again(self, which: int) -> None:
        self.run(self.stores[which].close())
        self.stores[which] = self.open()


class OnPostgreSQL(StoreMachine):
    database = staticmethod(lambda: postgres.shared().database())


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = profile(
    max_examples=50,
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestOnPostgreSQL = OnPostgreSQL.TestCase
TestOnPostgreSQL.settings = profile(TestStoreMachine.settings, max_examples=8)
