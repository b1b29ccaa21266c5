"""The buffer between the socket and a busy consumer: bounded, and losing only what may be lost."""

from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.events import (
    EngineEvent,
    NodeProgressed,
    NodeStarted,
    PreviewFrame,
    PromptStarted,
    QueueRemaining,
)
from comfy_mcp.domain.ids import NodeId, PromptId
from comfy_mcp.places.comfyui.buffer import EventBuffer

P = PromptId("p")


def step(value: float, node: str = "1") -> NodeProgressed:
    return NodeProgressed(prompt_id=P, node=NodeId(node), value=value, maximum=9)


def started(node: str) -> NodeStarted:
    return NodeStarted(prompt_id=P, node=NodeId(node))


def preview(size: int, mark: bytes = b"x") -> PreviewFrame:
    return PreviewFrame(prompt_id=P, node=None, media_type="image/png", data=mark * size)


def drain(buffer: EventBuffer) -> list[EngineEvent]:
    events = []
    while (event := buffer.pop()) is not None:
        events.append(event)
    return events


def test_a_step_replaces_the_waiting_step_of_its_node_in_its_place() -> None:
    buffer = EventBuffer(limit=10, preview_bytes=10)
    events: list[EngineEvent] = [started("1"), step(1), step(2), started("2"), step(1, "2"), step(3)]
    for event in events:
        assert buffer.put(event)
    assert drain(buffer) == [started("1"), step(3), started("2"), step(1, "2")]


def test_a_step_after_the_waiting_one_was_taken_waits_anew() -> None:
    buffer = EventBuffer(limit=10, preview_bytes=10)
    assert buffer.put(step(1))
    assert buffer.pop() == step(1)
    assert buffer.put(step(2))
    assert drain(buffer) == [step(2)]


def test_of_queue_counts_the_newest_waits() -> None:
    buffer = EventBuffer(limit=10, preview_bytes=10)
    for count in (3, 2, 1):
        assert buffer.put(QueueRemaining(count=count))
    assert drain(buffer) == [QueueRemaining(count=1)]


def test_a_full_buffer_refuses_and_keeps_what_it_has() -> None:
    buffer = EventBuffer(limit=2, preview_bytes=10)
    assert buffer.put(started("1"))
    assert buffer.put(step(1))
    assert not buffer.put(started("2"))
    assert buffer.put(step(2))
    assert buffer.put(preview(5))
    assert drain(buffer) == [started("1"), step(2), preview(5)]
    assert buffer.put(started("2"))


def test_the_oldest_previews_make_room() -> None:
    buffer = EventBuffer(limit=2, preview_bytes=10)
    for mark in (b"a", b"b", b"c"):
        assert buffer.put(preview(4, mark))
    assert buffer.put(preview(11))
    assert buffer.put(started("1"))
    assert drain(buffer) == [started("1")]  # the large one had emptied it and did not fit itself
    for mark in (b"a", b"b", b"c"):
        assert buffer.put(preview(4, mark))
    assert drain(buffer) == [preview(4, b"b"), preview(4, b"c")]


def test_clear_forgets_everything() -> None:
    buffer = EventBuffer(limit=1, preview_bytes=4)
    assert buffer.put(started("1"))
    assert buffer.put(preview(4))
    buffer.clear()
    assert len(buffer) == 0
    assert buffer.pop() is None
    assert buffer.put(preview(4))
    assert len(buffer) == 1


_EVENTS = st.one_of(
    st.builds(step, st.integers(0, 9), st.sampled_from("12")),
    st.builds(started, st.sampled_from("12")),
    st.builds(preview, st.integers(0, 6)),
    st.builds(QueueRemaining, count=st.integers(0, 3)),
    st.just(PromptStarted(prompt_id=P)),
    st.none(),  # take one
)


@given(st.lists(_EVENTS, max_size=60))
def test_bounds_hold_and_what_was_taken_in_comes_out_in_order(script: list[EngineEvent | None]) -> None:
    buffer = EventBuffer(limit=4, preview_bytes=10)
    firm_in: list[EngineEvent] = []
    out: list[EngineEvent] = []
    for event in script:
        if event is None:
            if (taken := buffer.pop()) is not None:
                out.append(taken)
        elif buffer.put(event) and isinstance(event, NodeStarted | PromptStarted):
            firm_in.append(event)
    waiting = drain(buffer)
    assert len([event for event in waiting if not isinstance(event, PreviewFrame)]) <= 4
    assert sum(len(event.data) for event in waiting if isinstance(event, PreviewFrame)) <= 10
    out.extend(waiting)
    assert [event for event in out if isinstance(event, NodeStarted | PromptStarted)] == firm_in
