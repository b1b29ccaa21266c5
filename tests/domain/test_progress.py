"""One fraction over the whole graph, on recordings of a real ComfyUI and on everything else."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_mcp.domain.events import (
    EngineConnected,
    EngineDisconnected,
    EngineEvent,
    NodeExecuted,
    NodeProgressed,
    NodesCached,
    NodeStarted,
    PromptEnded,
    PromptInterrupted,
    PromptStarted,
    PromptSucceeded,
    QueueRemaining,
)
from comfy_mcp.domain.graph import Graph, parse_graph
from comfy_mcp.domain.graph_checks import check_graph
from comfy_mcp.domain.ids import NodeId, PromptId
from comfy_mcp.domain.progress import CEILING, PACE_FROM, Progress
from comfy_mcp.places.comfyui.wire import Decoder

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"
P = PromptId("p")


def start(node: str) -> NodeStarted:
    return NodeStarted(prompt_id=P, node=NodeId(node))


def step(node: str, value: float, maximum: float = 4) -> NodeProgressed:
    return NodeProgressed(prompt_id=P, node=NodeId(node), value=value, maximum=maximum)


def executed(node: str) -> NodeExecuted:
    return NodeExecuted(prompt_id=P, node=NodeId(node))


def cached(*nodes: str) -> NodesCached:
    return NodesCached(prompt_id=P, nodes=tuple(NodeId(node) for node in nodes))


def chain(*classes: str) -> Graph:
    """Nodes "1", "2", … where each needs the one before."""
    return parse_graph(
        {
            str(number): {
                "class_type": name,
                "inputs": {"x": [str(number - 1), 0]} if number > 1 else {},
                "_meta": {"title": f"the {name}"},
            }
            for number, name in enumerate(classes, start=1)
        }
    )


def of(graph: Graph, durations: dict[str, float] | None = None, started_at: int = 0) -> Progress:
    return Progress(graph, check_graph(graph, None).needed, durations or {}, started_at=started_at)


def recorded(name: str) -> Iterator[tuple[Graph, list[tuple[int, EngineEvent]]]]:
    """Each run of a recording: the graph that was sent and what /ws said of it, with milliseconds."""
    lines = (RECORDINGS / name).read_text(encoding="utf-8").splitlines()
    messages: list[dict[str, Any]] = [json.loads(line) for line in lines]
    graphs = [
        parse_graph(message["json"]["prompt"])
        for message in messages
        if message["ch"] == "http" and message["dir"] == "send" and "json" in message
    ]
    decoder = Decoder()
    events: list[tuple[int, EngineEvent]] = []
    for message in messages:
        if message["ch"].startswith("ws") and message["dir"] == "recv" and "msg" in message:
            at = round(message["t"] * 1000)
            events.extend((at, event) for event in decoder.text(json.dumps(message["msg"])))
            if events and isinstance(events[-1][1], PromptEnded):
                yield graphs.pop(0), events
                events = []


# ---------------------------------------------------------------------- recordings


def test_a_recorded_txt2img_run_grows_step_by_step_to_exactly_one() -> None:
    ((graph, events),) = recorded("01_success_txt2img_previews_type4_metadata.jsonl")
    progress = of(graph, started_at=events[0][0])
    seen: list[tuple[float, str | None]] = []
    for at, event in events:
        if progress.apply(event, at):
            current = progress.current
            seen.append((progress.fraction, current.title if current else None))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] == pytest.approx(4 / 16)  # four cached nodes of seven, the sampler weighs ten
    assert fractions[-1] == CEILING
    sampling = [fraction for fraction, title in seen if title == "KSampler"]
    assert sampling == pytest.approx([4 / 16, 6.5 / 16, 9 / 16, 11.5 / 16, 14 / 16])


def test_a_recorded_run_teaches_what_ran_and_not_what_was_cached() -> None:
    ((graph, events),) = recorded("01_success_txt2img_previews_type4_metadata.jsonl")
    progress = of(graph, started_at=events[0][0])
    for at, event in events:
        progress.apply(event, at)
    observed = progress.observed()
    assert set(observed) == {"KSampler", "VAEDecode", "SaveImage"}
    assert observed["KSampler"] == [pytest.approx(389, abs=2)]
    assert observed["VAEDecode"] == [pytest.approx(28, abs=2)]


def test_a_recorded_rerun_that_is_all_cached_is_done_at_once() -> None:
    runs = list(recorded("03_success_then_fully_cached_rerun.jsonl"))
    graph, events = runs[1]
    progress = of(graph)
    for at, event in events:
        if isinstance(event, NodesCached):
            assert progress.apply(event, at)
            assert progress.fraction == CEILING
        else:
            assert not progress.apply(event, at)
    assert progress.observed() == {}


def test_a_recorded_run_that_is_partly_cached_has_only_the_rest_to_do() -> None:
    graph, events = list(recorded("03_success_then_fully_cached_rerun.jsonl"))[2]
    progress = of(graph)
    before = [progress.fraction]
    for at, event in events:
        progress.apply(event, at)
        before.append(progress.fraction)
    assert sorted(before) == before
    assert pytest.approx(8 / 9) in before
    assert list(progress.observed()) == ["SaveImage"]


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


# ---------------------------------------------------------------------- any order, any garbage

NODE = st.sampled_from(["1", "2", "3", "4", "5", "2.0", "2.0.0.1", "3.x", "", "9", "9.1", "."])
NUMBER = st.floats() | st.integers(-5, 50)
EVENT: st.SearchStrategy[EngineEvent] = st.one_of(
    st.builds(start, NODE),
    st.builds(step, NODE, NUMBER, NUMBER),
    st.builds(executed, NODE),
    st.lists(NODE, max_size=4).map(lambda nodes: cached(*nodes)),
    st.just(PromptStarted(prompt_id=P)),
    st.just(PromptSucceeded(prompt_id=P)),
    st.just(PromptEnded(prompt_id=P)),
    st.just(EngineConnected(sid=None)),
    st.just(QueueRemaining(count=1)),
)
DURATIONS = st.dictionaries(st.sampled_from("ABCDE"), st.floats(0, 1e6), max_size=5)


@settings(max_examples=300)
@given(
    events=st.lists(st.tuples(EVENT, st.integers(0, 10_000)), max_size=40),
    needed=st.sets(st.sampled_from(["1", "2", "3", "4", "5", "nowhere"])),
    durations=DURATIONS,
)
def test_whatever_comes_the_fraction_only_grows_and_is_one_at_the_end_only(
    events: list[tuple[EngineEvent, int]], needed: set[str], durations: dict[str, float]
) -> None:
    progress = Progress(chain(*"ABCDE"), [NodeId(node) for node in needed], durations, started_at=500)
    fraction, current = progress.fraction, progress.current
    assert fraction == 0.0
    for event, at in events:
        moved = progress.apply(event, at)
        assert fraction <= progress.fraction <= CEILING
        assert moved == ((fraction, current) != (progress.fraction, progress.current))
        fraction, current = progress.fraction, progress.current
        eta = progress.eta_ms(at)
        assert eta is None or eta >= 0
    assert all(spent >= 0 for times in progress.observed().values() for spent in times)


@given(st.lists(st.tuples(st.builds(start, NODE), st.integers(0, 10_000)), max_size=20))
def test_without_history_and_before_the_pace_counts_there_is_no_eta(
    events: list[tuple[EngineEvent, int]],
) -> None:
    progress, ran, again = of(chain(*"ABCDE")), set[NodeId](), False
    for event, at in events:
        before = progress.current
        progress.apply(event, at)
        if (now := progress.current) is not None:  # a node that nobody knows starts nothing
            again |= now.id in ran and now != before
            ran.add(now.id)
        if progress.fraction < PACE_FROM or again:
            assert progress.eta_ms(at) is None
        else:
            assert (progress.eta_ms(at) is None) == (at <= 0)


@given(st.permutations(["1", "2", "3", "4", "5"]), DURATIONS)
def test_when_every_node_has_run_in_any_order_all_is_done(
    order: list[str], durations: dict[str, float]
) -> None:
    progress = of(chain(*"ABCDE"), durations)
    for at, node in enumerate(order):
        progress.apply(start(node), at)
    progress.apply(PromptEnded(prompt_id=P), 9)
    assert progress.fraction == CEILING
    assert set(progress.observed()) == set("ABCDE")
