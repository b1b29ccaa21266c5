"""One fraction over the whole graph: each node's share of it, and events that are missed."""

import math
import time

import pytest

from comfy_mcp.domain.events import (
    EngineConnected,
    EngineDisconnected,
    PromptSucceeded,
)
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.progress import CEILING, Progress
from tests.domain.progress_events import P, cached, chain, executed, of, start, step

# ---------------------------------------------------------------------- shares


def test_nothing_is_done_at_the_start() -> None:
    progress = of(chain("A", "B"))
    assert (progress.fraction, progress.current, progress.eta_ms(10)) == (0.0, None, None)


def test_a_node_is_done_when_the_next_one_starts() -> None:
    progress = of(chain("A", "B", "C", "D"))
    assert progress.apply(start("1"), 0)
    assert (progress.fraction, progress.current and progress.current.title) == (0.0, "the A")
    assert progress.apply(start("2"), 10)
    assert (progress.fraction, progress.current and progress.current.title) == (0.25, "the B")
    assert not progress.apply(start("2"), 11)


def test_a_node_moves_inside_its_share_by_its_steps() -> None:
    progress = of(chain("A", "B"))
    progress.apply(start("1"), 0)
    assert progress.apply(step("1", 1), 1)
    assert progress.fraction == pytest.approx(0.125)
    assert progress.apply(step("1", 4), 2)
    assert progress.fraction == pytest.approx(0.5)


def test_steps_that_begin_again_hold_the_fraction_where_it_is() -> None:
    progress = of(chain("A", "B"))
    progress.apply(start("1"), 0)
    progress.apply(step("1", 3), 1)
    assert not progress.apply(step("1", 1), 2)
    assert progress.fraction == pytest.approx(0.375)


@pytest.mark.parametrize(
    ("value", "maximum"),
    [
        (1, 0),
        (1, -4),
        (-1, 4),
        (5, 4),
        (math.nan, 4),
        (1, math.nan),
        (math.inf, 4),
        (math.inf, math.inf),
        (0, 4),
    ],
)
def test_steps_that_make_no_sense_move_nothing(value: float, maximum: float) -> None:
    progress = of(chain("A", "B"))
    progress.apply(start("1"), 0)
    assert not progress.apply(step("1", value, maximum), 1)
    assert progress.fraction == 0.0


def test_past_durations_are_the_weights_and_the_unknown_weigh_like_the_median() -> None:
    progress = of(chain("Load", "KSampler", "New", "Save"), {"Load": 300, "KSampler": 600, "Save": 100})
    progress.apply(cached("1"), 0)
    assert progress.fraction == pytest.approx(300 / 1300)
    progress.apply(start("2"), 0)
    progress.apply(start("3"), 0)
    assert progress.fraction == pytest.approx(900 / 1300)


def test_a_class_that_took_no_time_still_has_a_share() -> None:
    progress = of(chain("A", "B"), {"A": 0.0, "B": -5.0})
    progress.apply(executed("1"), 0)
    assert progress.fraction == pytest.approx(0.5)


def test_without_history_a_sampler_weighs_more() -> None:
    progress = of(chain("A", "SamplerCustomAdvanced"))
    progress.apply(executed("1"), 0)
    assert progress.fraction == pytest.approx(1 / 11)


def test_only_what_the_outputs_need_counts() -> None:
    graph = chain("A", "B", "C")
    progress = Progress(graph, [NodeId("1"), NodeId("2"), NodeId("gone")], {}, started_at=0)
    progress.apply(executed("1"), 0)
    assert progress.fraction == 0.5
    progress.apply(cached("3"), 0)
    assert not progress.apply(step("gone", 1), 0)
    assert progress.fraction == 0.5


def test_a_node_that_does_not_count_is_still_shown_while_it_runs() -> None:
    progress = Progress(chain("A", "B"), [NodeId("2")], {}, started_at=0)
    assert progress.apply(start("1"), 0)
    assert progress.current is not None
    assert progress.current.id == "1"
    assert not progress.apply(step("1", 2), 1)
    assert progress.fraction == 0.0


def test_a_graph_of_which_nothing_counts_goes_from_nothing_to_one() -> None:
    progress = Progress(chain("A"), [], {}, started_at=0)
    progress.apply(start("1"), 0)
    assert (progress.fraction, progress.eta_ms(5)) == (0.0, None)


def test_a_cached_node_told_twice_counts_once() -> None:
    progress = of(chain("A", "B"))
    progress.apply(cached("1"), 0)
    assert not progress.apply(cached("1", "1"), 0)
    assert not progress.apply(executed("1"), 0)
    assert progress.fraction == 0.5


def test_children_of_an_expanded_node_move_inside_its_share_and_never_fill_it() -> None:
    progress = of(chain("A", "B"))
    progress.apply(start("1"), 0)
    progress.apply(step("1.0.0.7", 2), 1)
    assert progress.fraction == pytest.approx(0.125)
    progress.apply(step("1.0.0.7", 4), 1)
    assert progress.fraction == pytest.approx(0.25)
    progress.apply(step("1.0.0.8", 2), 2)
    assert progress.fraction == pytest.approx((0.5 + 0.25 * 0.5) / 2)
    assert not progress.apply(start("1.0.0.9"), 3)
    assert not progress.apply(executed("1.0.0.9"), 4)
    for child in range(100):
        progress.apply(step(f"1.0.1.{child}", 4), 5)
    assert progress.fraction <= 0.5
    assert progress.current is not None
    assert progress.current.id == "1"


def test_the_name_of_a_child_has_a_bound() -> None:
    progress = of(chain("A", "B"))
    assert progress.apply(start(f"1{'.x' * 100}"), 0)
    before = time.process_time()
    assert not progress.apply(start(f"2{'.' * 2_000_000}"), 1)
    assert time.process_time() - before < 0.5, "with each dot for itself it takes minutes"


def test_a_node_that_nobody_knows_is_ignored() -> None:
    progress = of(chain("A", "B"))
    for event in (start("9"), step("9.1", 1), executed("x"), cached("9"), step("", 1)):
        assert not progress.apply(event, 1)
    assert progress.current is None


def test_an_output_node_that_was_executed_is_done_and_no_longer_shown() -> None:
    progress = of(chain("A", "B"))
    progress.apply(start("1"), 0)
    assert progress.apply(executed("1"), 10)
    assert (progress.fraction, progress.current) == (0.5, None)


def test_another_node_that_was_executed_meanwhile_leaves_the_current_one_shown() -> None:
    progress = of(chain("A", "B", "C"))
    progress.apply(start("2"), 0)
    progress.apply(executed("1"), 5)
    assert progress.fraction == pytest.approx(1 / 3)
    assert progress.current is not None
    assert progress.current.id == "2"


def test_before_the_end_the_fraction_stays_below_one() -> None:
    progress = of(chain("A", "B"))
    progress.apply(start("2"), 0)
    progress.apply(executed("1"), 0)
    progress.apply(PromptSucceeded(prompt_id=P), 5)
    assert progress.current is None
    assert progress.fraction == CEILING < 1.0


# ---------------------------------------------------------------------- missed events


def test_nodes_that_run_again_hold_the_fraction_and_nobody_says_how_long_it_takes() -> None:
    """A loop of ComfyUI's own runs its body once for each round."""
    progress = of(chain("A", "Body", "End"), {"A": 100.0, "Body": 100.0, "End": 100.0})
    seen: list[float] = []
    for now, node in enumerate(("1", "2", "3", "2", "3", "2", "3"), start=1):
        if now == 4:
            assert progress.eta_ms(now) is not None
        progress.apply(start(node), now * 100)
        progress.apply(step(node, 2), now * 100)
        seen.append(progress.fraction)
    assert seen == sorted(seen)
    assert seen[-1] == CEILING
    assert progress.eta_ms(800) is None
    assert progress.current is not None
    assert progress.current.id == "3"
    progress.apply(PromptSucceeded(prompt_id=P), 800)
    assert progress.observed() == {"A": [100], "Body": [300], "End": [300]}


def test_a_step_whose_start_was_missed_shows_its_node() -> None:
    progress = of(chain("A", "B"))
    assert progress.apply(step("2", 2), 0)
    assert progress.current is not None
    assert progress.current.id == "2"
    assert progress.fraction == pytest.approx(0.25)


def test_a_step_of_a_node_that_is_done_does_not_bring_it_back() -> None:
    progress = of(chain("A", "B"))
    progress.apply(start("1"), 0)
    progress.apply(start("2"), 1)
    assert not progress.apply(step("1", 2), 2)
    assert progress.current is not None
    assert progress.current.id == "2"


def test_after_a_reconnect_what_the_running_node_needs_counts_as_done() -> None:
    progress = of(chain("A", "B", "C", "D"))
    progress.apply(start("1"), 0)
    progress.apply(EngineDisconnected(reason="gone"), 10)
    progress.apply(EngineConnected(sid="s"), 5000)
    progress.apply(step("4", 0), 5010)
    assert progress.fraction == pytest.approx(3 / 4)
    assert progress.current is not None
    assert progress.current.id == "4"


def test_a_node_that_ran_through_a_reconnect_teaches_no_duration() -> None:
    progress = of(chain("A", "B"))
    progress.apply(start("1"), 0)
    progress.apply(EngineConnected(sid="s"), 5000)
    progress.apply(start("2"), 9000)
    progress.apply(executed("2"), 9100)
    assert progress.observed() == {"B": [100]}
