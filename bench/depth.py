"""What a submit and a claim take in an empty store, and with many jobs queued, on both databases."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench.processes import Run
from bench.stats import TIMES, Aim, Sample, Section, ratio, row
from bench.storing import CLIENTS, MANY, lease_of, now, queued
from comfy_mcp.domain.ids import EngineId, PromptId
from comfy_mcp.domain.needs import Equipment, Needs
from comfy_mcp.driving.fleet import Fleet
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Lease, Store, Submission
from tests.support.graphs import picture
from tests.support.postgres import server

STEP = 500
"""Jobs that are queued in one transaction, to fill the store."""

NEEDS = Needs(node_classes=("EmptyImage", "SaveImage"), models=(), shape="s")
LIMIT = 1.5


async def measure_depth(run: Run) -> list[Section]:
    return [await _measure(run, "SQLite"), await _measure(run, "PostgreSQL")]


async def _measure(run: Run, database: str) -> Section:
    depth, times = run.times(MANY, 50), run.times(300, 5)
    with _settings(run, database) as settings:
        store = await Store.open(load_settings(**settings))
        try:
            lease = await lease_of(store, "bench")
            empty = await _times(store, lease, times, "empty")
            for _ in range(0, depth, STEP):
                await store.add_jobs([_submission(number) for number in range(min(STEP, depth))])
            full = await _times(store, lease, times, f"{depth} queued of {CLIENTS} clients")
        finally:
            await store.close()
    rows = [row(sample, base) for pair in zip(empty, full, strict=True) for sample, base in _compared(*pair)]
    return Section(
        title=f"A submit and a claim by depth of the queue, {database}",
        note="add_job and claim_next in turn, one at a time; the claims are those of one of two engines.",
        columns=TIMES,
        rows=tuple(rows),
        aims=tuple(
            Aim(
                what=f"{now_full.name} ÷ empty, {database}",
                value=ratio(now_full, base),
                limit=LIMIT,
                unit="times",
            )
            for base, now_full in zip(empty, full, strict=True)
        ),
    )


def _compared(base: Sample, sample: Sample) -> tuple[tuple[Sample, Sample | None], ...]:
    return (base, None), (sample, base)


async def _times(store: Store, lease: Lease, times: int, how: str) -> tuple[Sample, Sample]:
    adding, claiming = Sample(name=f"add_job, {how}"), Sample(name=f"claim_next, {how}")
    fleet = Fleet()
    for name in ("bench", "other"):
        fleet.enter(
            EngineId(name),
            equipment=partial(Equipment, engine=EngineId(name)),
            is_there=lambda: True,
            driven_here=lambda: True,
        )
    for number in range(times):
        submission = _submission(number)
        await adding.time(
            partial(store.add_job, submission.event, submission.graph, max_queued=2 * MANY, needs=NEEDS)
        )
        claim = partial(
            store.claim_next,
            lease,
            prompt_id=PromptId(str(uuid.uuid4())),
            now=now(),
            chooser=fleet.chooser(EngineId("bench")),
        )
        await claiming.time(claim)
    return adding, claiming


def _submission(number: int) -> Submission:
    event = queued(f"client {number % CLIENTS}")
    return Submission(event=event, graph=picture(), max_queued=2 * MANY, needs=NEEDS)


@contextmanager
def _settings(run: Run, database: str) -> Iterator[dict[str, object]]:
    folder = run.fresh("depth") / "state"
    if database == "SQLite":
        yield {"state_dir": folder}
        return
    with server(fsync="on") as started:
        yield {"state_dir": folder, "store": started.database()}
