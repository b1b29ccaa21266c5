"""What becomes of jobs that wait for others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.chains import Parent, ParentNow, Verdict, decide, replaced
from comfy_mcp.domain.ids import JobId

A, B = JobId("a"), JobId("b")
STATUSES = ("blocked", "queued", "running", "completed", "failed", "cancelled")
ENDED = {"completed", "failed", "cancelled"}


def now(status: str, outputs: int = 0, name: str | None = None) -> ParentNow:
    return ParentNow(
        ended=status in ENDED, completed=status == "completed", status=status, outputs=outputs, name=name
    )


@pytest.mark.parametrize(
    ("parent", "state", "verdict", "said"),
    [
        (Parent(id=A), now("completed"), Verdict.RUNS, ""),
        (Parent(id=A), now("running"), Verdict.WAITS, ""),
        (Parent(id=A), now("failed", name="fox"), Verdict.FAILS, "a (fox), which this one waits for, f"),
        (Parent(id=A), now("cancelled"), Verdict.FAILS, "was cancelled"),
        (Parent(id=A, any_end=True), now("failed"), Verdict.RUNS, ""),
        (Parent(id=A, any_end=True), now("queued"), Verdict.WAITS, ""),
        (Parent(id=A, outputs=2), now("completed", 2), Verdict.RUNS, ""),
        (Parent(id=A, outputs=2), now("completed", 1), Verdict.FAILS, "made 1 output(s), and this one"),
        (Parent(id=A, any_end=True, outputs=1), now("failed"), Verdict.FAILS, "made 0 output(s)"),
        (Parent(id=A), None, Verdict.FAILS, "no longer exists"),
        (Parent(id=A, any_end=True), None, Verdict.RUNS, ""),
        (Parent(id=A, any_end=True, outputs=1), None, Verdict.FAILS, "no longer exists"),
    ],
)  # fmt: skip
def test_one_parent(parent: Parent, state: ParentNow | None, verdict: Verdict, said: str) -> None:
    found, cause = decide([parent], {} if state is None else {A: state})
    assert found is verdict
    assert said in cause
    assert bool(cause) == (verdict is Verdict.FAILS)


PARENTS = st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.sampled_from(STATUSES), st.integers(0, 3)))


@given(PARENTS)
def test_the_verdict_is_that_of_all(given: list[tuple[bool, int, str, int]]) -> None:
    after = [
        Parent(id=JobId(str(at)), any_end=any_end, outputs=takes)
        for at, (any_end, takes, _, _) in enumerate(given)
    ]
    states = {JobId(str(at)): now(status, made) for at, (_, _, status, made) in enumerate(given)}
    each = [decide([parent], states)[0] for parent in after]
    verdict, _ = decide(after, states)
    if Verdict.FAILS in each:
        assert verdict is Verdict.FAILS
    else:
        assert verdict is (Verdict.WAITS if Verdict.WAITS in each else Verdict.RUNS)


def test_retries_stand_in_the_place_of_what_they_retry_each_once() -> None:
    after = [Parent(id=A, any_end=True, outputs=2), Parent(id=B, outputs=1)]
    assert replaced(after, {}) == tuple(after)
    assert replaced(after, {A: B}) == (Parent(id=B, any_end=False, outputs=2),)
