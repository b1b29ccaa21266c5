"""What a job at a service may cost, and what its runs come to."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.days import DAY_MS, day_of
from comfy_mcp.domain.events import JobClaimed, JobEvent
from comfy_mcp.domain.ids import EngineId, PromptId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.spending import HOUR_MS, MILLION, Budget, Spend, millionths
from comfy_mcp.domain.transitions import evolve, queued
from tests.support import jobs

EURO = MILLION
AMOUNTS = st.integers(1, 10**12)


def job(spend: Spend | None, run_timeout_ms: int | None = None) -> Job:
    event = replace(jobs.queued_event(lane="salad"), spend=spend, run_timeout_ms=run_timeout_ms)
    return queued(event)


def claimed(at: Job) -> Job:
    return evolve(
        at,
        JobClaimed(
            job_id=at.id,
            at=2,
            attempt=at.attempt + 1,
            engine=EngineId("salad"),
            prompt_id=PromptId(f"p{at.attempt}"),
        ),
    )


def ran(at: Job, *, since: int, end: JobEvent) -> Job:
    return evolve(evolve(claimed(at), jobs.started(claimed(at), since)), end)


def spend_of(at: Job) -> Spend:
    assert at.spend is not None
    return at.spend


@given(st.builds(Budget, per_hour=AMOUNTS, day=AMOUNTS, job=st.none() | AMOUNTS), st.none() | AMOUNTS)
def test_a_job_reserves_no_more_than_it_may_cost_and_runs_no_longer_than_that_pays_for(
    budget: Budget, timeout_ms: int | None
) -> None:
    spend, run_ms = budget.spend(timeout_ms)
    assert budget.day is not None
    assert run_ms is not None
    assert 0 < spend.reserved <= min(budget.day, budget.job or budget.day)
    assert timeout_ms is None or run_ms <= timeout_ms
    if run_ms > 1:  # the shortest timeout there is may cost more than a tiny budget has
        assert spend.after_run(run_ms, over=True).counted <= spend.reserved
    assert spend.counted == spend.reserved


def test_without_a_budget_nothing_is_reserved_and_no_run_is_bounded() -> None:
    assert Budget(per_hour=EURO).spend(None) == (Spend(per_hour=EURO), None)
    assert Budget(per_hour=EURO).spend(7) == (Spend(per_hour=EURO), 7)


def test_a_short_timeout_reserves_what_it_can_cost() -> None:
    spend, run_ms = Budget(per_hour=3 * EURO, day=100 * EURO, job=EURO).spend(HOUR_MS // 6)
    assert (spend.reserved, run_ms) == (EURO // 2, HOUR_MS // 6)


@pytest.mark.parametrize(("said_ms", "cost"), [(None, EURO), (HOUR_MS // 2, EURO // 2)])
def test_an_end_settles_what_the_run_took_by_the_places_own_time_if_it_says_one(
    said_ms: int | None, cost: int
) -> None:
    first = job(Spend(per_hour=EURO, reserved=5 * EURO, budget=9 * EURO))
    end = replace(jobs.completed(claimed(first), 1_000 + HOUR_MS), ran_ms=said_ms)
    done = spend_of(ran(first, since=1_000, end=end))
    assert (done.counted, done.over) == (cost, True)


def test_what_never_ran_costs_nothing() -> None:
    ended = evolve(job(Spend(per_hour=EURO, reserved=EURO)), jobs.cancelled(job(None)))
    assert spend_of(replace(ended)).counted == 0


def test_runs_that_are_repeated_add_up_and_share_the_reservation_and_the_timeout() -> None:
    first = job(Spend(per_hour=EURO, reserved=2 * EURO, budget=9 * EURO), 2 * HOUR_MS)
    assert first.run_left_ms == 2 * HOUR_MS
    again = ran(first, since=1_000, end=jobs.requeued(claimed(first), 1_000 + HOUR_MS // 2))
    assert (spend_of(again).counted, again.run_left_ms) == (2 * EURO, 3 * HOUR_MS // 2)
    running = evolve(claimed(again), jobs.started(claimed(again), 5_000))
    assert running.run_deadline == 5_000 + 3 * HOUR_MS // 2
    done = evolve(running, jobs.completed(running, 5_000 + HOUR_MS))
    assert spend_of(done).counted == 3 * EURO // 2


def test_a_clock_that_went_back_earns_nothing_and_a_late_stop_counts_whole() -> None:
    spend = Spend(per_hour=EURO, reserved=EURO)
    assert spend.after_run(-5, over=True).counted == 0
    assert spend.after_run(2 * HOUR_MS, over=False).counted == 2 * EURO


def test_a_job_without_a_price_has_no_cost() -> None:
    first = job(None, 5)
    done = ran(first, since=1, end=jobs.completed(claimed(first)))
    assert (done.spend, first.run_left_ms) == (None, 5)


def test_amounts_and_days() -> None:
    assert millionths(0.25) == EURO // 4
    assert (day_of(DAY_MS - 1), day_of(DAY_MS)) == (0, 1)
