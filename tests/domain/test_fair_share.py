from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.fair_share import COST, PASSES, age_tag, first_rank, next_tag, start_tag

TAGS = st.integers(0, 10**9)


def test_a_client_without_jobs_starts_at_the_virtual_time() -> None:
    assert start_tag(virtual_time=7, last=None) == 7
    assert age_tag(virtual_time=7, newest=None) == 7


@given(virtual_time=TAGS, last=TAGS)
def test_a_client_s_jobs_are_a_turn_apart_and_no_job_is_before_the_virtual_time(
    virtual_time: int, last: int
) -> None:
    tag = start_tag(virtual_time=virtual_time, last=last)
    assert tag in {virtual_time, last + COST}
    assert tag >= virtual_time
    assert tag >= last + COST


@given(virtual_time=TAGS, newest=TAGS)
def test_without_shares_a_new_job_is_behind_all_that_wait(virtual_time: int, newest: int) -> None:
    assert age_tag(virtual_time=virtual_time, newest=newest) == max(virtual_time, newest)


def test_a_turn_is_paid_for_by_a_claim_and_not_by_a_job_that_ends_without_one() -> None:
    assert next_tag(5, claimed=True) == 5 + COST
    assert next_tag(5, claimed=False) == 5


def test_a_claim_begins_with_the_highest_priority_until_a_lower_one_was_passed_often_enough() -> None:
    assert first_rank({}) == 0
    assert first_rank({1: PASSES - 1, 2: PASSES - 1}) == 0
    assert first_rank({1: PASSES, 2: PASSES - 1}) == 1
    assert first_rank({1: PASSES, 2: PASSES}) == 2
