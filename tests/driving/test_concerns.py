"""Whom the end of a job matters to."""

from comfy_mcp.domain.ids import EngineId, JobId
from comfy_mcp.driving.concerns import Concerns

A, B, C = EngineId("a"), EngineId("b"), EngineId("c")
ONE, OTHER = JobId("one"), JobId("other")


def test_an_end_matters_to_who_has_the_job_and_to_who_left_jobs_to_others() -> None:
    concerns = Concerns()
    concerns.follow(A, ONE)
    concerns.follow(B, ONE)  # it was given to another engine
    concerns.follow(C, OTHER)
    assert set(concerns.by_end_of(ONE)) == {A, B}
    concerns.left.add(C)
    assert set(concerns.by_end_of(ONE)) == {A, B, C}
    assert set(concerns.by_end_of(JobId("unknown"))) == {C}


def test_nothing_is_kept_of_what_is_over() -> None:
    concerns = Concerns()
    concerns.follow(A, ONE)
    concerns.follow(B, ONE)
    concerns.unfollow(A, ONE)
    assert set(concerns.by_end_of(ONE)) == {B}
    concerns.unfollow(B, ONE)
    concerns.unfollow(B, ONE)
    concerns.follow(A, OTHER)
    concerns.left.add(A)
    concerns.forget(A)
    assert not concerns.by_end_of(ONE)
    assert not concerns.by_end_of(OTHER)
    assert not concerns._followed
