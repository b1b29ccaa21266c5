"""Progress on recordings of a real ComfyUI, and whatever comes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_mcp.domain.events import (
    EngineConnected,
    EngineEvent,
    NodesCached,
    PromptEnded,
    PromptStarted,
    PromptSucceeded,
    QueueRemaining,
)
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.progress import CEILING, Progress
from tests.domain.progress_events import P, cached, chain, executed, of, recorded, start, step

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
    assert {key for key in observed if "|" not in key} == {"KSampler", "VAEDecode", "SaveImage"}
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
def test_without_history_and_steps_there_is_no_time_left_unless_nothing_is_left(
    events: list[tuple[EngineEvent, int]],
) -> None:
    progress = of(chain(*"ABCDE"))
    for event, at in events:
        progress.apply(event, at)
        assert progress.eta_ms(at) is None


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
