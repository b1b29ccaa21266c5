"""Two stores on one file and the model of what they hold, with what is always true of both."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant

from comfy_mcp.domain import fair_share
from comfy_mcp.domain.events import (
    JobEvent,
    JobProgressed,
    StoredEvent,
)
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.transitions import evolve, is_step
from comfy_mcp.settings import load_settings
from comfy_mcp.store import JobQuery, Lease, Store, driven
from tests.store.store_model import Model
from tests.support.invariants import check_store


class TwoStores(RuleBasedStateMachine):
    """On SQLite."""

    database: Callable[[], str | None] = staticmethod(lambda: None)

    def open_stores(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(driven, "WRITE_S", 0.0)  # each store shows what the other has recorded
        self.patch.setattr(fair_share, "PASSES", 2)  # so that it comes to that
        self.settings = load_settings(state_dir=Path(self.folder.name) / "state", store=self.database())
        self.told: list[StoredEvent] = []
        self.stores = [self.open() for _ in range(2)]
        self.model = Model()
        self.clock = 1_000

    def open(self) -> Store:
        store: Store = self.run(Store.open(self.settings))
        store.on_commit(self.told.extend)
        return store

    def run(self, awaitable: Any) -> Any:
        return self.runner.run(awaitable)

    def now(self) -> int:
        self.clock += 1
        return self.clock

    def pick(self, number: int, among: Callable[[Job], bool] = lambda _job: True) -> Job:
        """One of those that fit if any does, else any."""
        jobs = list(self.model.jobs.values())
        chosen = [job for job in jobs if among(job)] or jobs
        return chosen[number % len(chosen)]

    def lease(self, number: int, among: Callable[[Lease], bool] | None = None) -> tuple[Store, Lease]:
        """One of those that fit (by itself: the current ones) if any does; each fourth time, any."""
        leases = self.model.leases
        fitting = [pair for pair in leases if (among or self.model.is_current)(pair[1])]
        chosen = leases if number % 4 == 0 or not fitting else fitting
        index, lease = chosen[number // 4 % len(chosen)]
        return self.stores[index], lease

    def happened(self, before: Job, events: list[JobEvent]) -> Job:
        after = before
        log = list(self.model.logs[before.id])
        for event in events:
            if not is_step(after, event):
                log.append(event)
            after = evolve(after, event)
        if after.is_final:
            log = [event for event in log if not isinstance(event, JobProgressed)]
        self.model.logs[before.id] = log
        self.model.jobs[before.id] = after
        if after.is_final and not before.is_final and before.attempt == 0:
            self.model.moves_up(before, claimed=False)
        return after

    # ------------------------------------------------------------------ always

    @invariant()
    def both_see_what_the_model_holds(self) -> None:
        if not hasattr(self, "model"):
            return
        unclaimed = [job.id for job in self.model.waiting()]
        run_order = self.run(self.stores[1].queue(1_000)).queued
        assert [job.id for job in run_order if not job.is_claimed] == unclaimed
        newest_first = tuple(reversed(self.model.jobs.values()))
        for store in self.stores:
            assert self.run(store.list_jobs(JobQuery(limit=1_000))).items == newest_first
        log: list[StoredEvent] = self.run(self.stores[0].events_after(0, limit=10_000))
        assert [stored.seq for stored in log] == sorted({stored.seq for stored in log})
        logged = {stored.seq for stored in log}
        assert [stored for stored in self.told if stored.seq in logged] == log
        assert all(
            isinstance(stored.event, JobProgressed) for stored in self.told if stored.seq not in logged
        )
        for job_id, expected in self.model.logs.items():
            assert [stored.event for stored in log if stored.event.job_id == job_id] == expected

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        try:
            self.run(check_store(self.stores[0]))
        finally:
            for store in self.stores:
                self.run(store.close())
            self.runner.close()
            self.patch.undo()
            self.folder.cleanup()
