"""What a run teaches of durations, and the time that is left."""

from comfy_mcp.domain.events import (
    PromptInterrupted,
    PromptStarted,
)
from comfy_mcp.domain.progress import PACE_FROM
from tests.domain.progress_events import P, cached, chain, executed, of, start, step

# ---------------------------------------------------------------------- what is learnt


def test_durations_are_observed_per_class_for_nodes_that_ran_to_their_end() -> None:
    progress = of(chain("A", "B", "B", "C"))
    progress.apply(cached("1"), 0)
    progress.apply(start("2"), 100)
    progress.apply(start("3"), 150)
    progress.apply(start("4"), 350)
    assert progress.observed() == {"B": [50, 200]}


def test_a_node_that_runs_in_two_parts_is_observed_as_one() -> None:
    progress = of(chain("A", "B"))
    progress.apply(start("2"), 0)
    progress.apply(start("1"), 10)
    progress.apply(start("2"), 30)
    progress.apply(executed("2"), 35)
    assert progress.observed() == {"B": [15], "A": [20]}


def test_a_clock_that_goes_back_gives_no_negative_duration() -> None:
    progress = of(chain("A", "B"))
    progress.apply(start("1"), 100)
    progress.apply(start("2"), 50)
    assert progress.observed() == {"A": [0]}


def test_a_node_that_was_interrupted_is_not_observed() -> None:
    progress = of(chain("A", "B"))
    progress.apply(start("1"), 0)
    progress.apply(PromptInterrupted(prompt_id=P), 70)
    assert progress.observed() == {}


# ---------------------------------------------------------------------- ETA


def test_with_the_durations_of_all_that_is_left_there_is_an_eta_at_once() -> None:
    progress = of(chain("A", "B"), {"A": 300, "B": 700})
    assert progress.eta_ms(0) == 1000
    progress.apply(start("1"), 0)
    assert progress.eta_ms(100) == 900
    assert progress.eta_ms(5000) == 700


def test_one_unknown_class_among_what_is_left_is_no_evidence() -> None:
    progress = of(chain("New", "B"), {"B": 700})
    assert progress.eta_ms(0) is None
    progress.apply(cached("1"), 0)
    assert progress.eta_ms(0) == 700


def test_without_history_the_pace_of_this_run_counts_once_enough_is_done() -> None:
    progress = of(chain(*"ABCDEFGHIJKLMNOPQRST"), started_at=1000)
    progress.apply(PromptStarted(prompt_id=P), 2000)
    progress.apply(start("1"), 2000)
    progress.apply(start("2"), 2100)
    assert progress.eta_ms(2100) is None
    progress.apply(start("3"), 2200)
    assert progress.fraction == PACE_FROM
    assert progress.eta_ms(2200) == 1800


def test_what_was_cached_says_nothing_about_the_pace() -> None:
    progress = of(chain("A", "B", "C", "D"))
    progress.apply(cached("1", "2"), 0)
    assert progress.eta_ms(100) is None
    progress.apply(executed("3"), 100)
    assert progress.eta_ms(100) == 100


def test_no_time_gone_by_is_no_pace() -> None:
    progress = of(chain("A", "B"), started_at=100)
    progress.apply(executed("1"), 100)
    assert progress.eta_ms(100) is None
    assert progress.eta_ms(50) is None


def test_history_and_pace_are_blended_by_what_is_done() -> None:
    progress = of(chain("A", "B"), {"A": 100, "B": 300})
    progress.apply(start("1"), 0)
    progress.apply(start("2"), 200)  # twice as slow as in the past: 600 ms by pace, 300 by history
    assert progress.eta_ms(200) == round(0.75 * 300 + 0.25 * 600)


def test_steps_shorten_what_is_left_by_history() -> None:
    progress = of(chain("A"), {"A": 1000})
    progress.apply(start("1"), 0)
    progress.apply(step("1", 1, 100), 10)
    assert progress.eta_ms(10) == 990
