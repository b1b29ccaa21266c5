"""Frames of /ws as events: on the recordings of real servers, and on garbage."""

import json
from collections import Counter
from typing import Any

import pytest

from comfy_mcp.domain.catalog import OutputFile, OutputKind
from comfy_mcp.domain.events import (
    EngineEvent,
    FailureKind,
    NodeExecuted,
    NodeProgressed,
    NodesCached,
    NodeStarted,
    PreviewFrame,
    PromptEnded,
    PromptFailed,
    PromptInterrupted,
    PromptStarted,
    PromptSucceeded,
    QueueRemaining,
    UnknownMessage,
)
from comfy_mcp.domain.ids import NodeId, PromptId
from comfy_mcp.places.comfyui.wire import (
    FEATURE_FLAGS,
    MAX_DISPLAYED,
    Decoder,
)
from tests.support import recordings

P = PromptId("39e541e8-7269-4222-bb3e-27766ba9488b")


def decode(*frames: str | bytes) -> list[EngineEvent]:
    decoder = Decoder()
    events: list[EngineEvent] = []
    for frame in frames:
        events.extend(decoder.text(frame) if isinstance(frame, str) else decoder.binary(frame))
    return events


def text(kind: str, **data: Any) -> str:
    return json.dumps({"type": kind, "data": data})


def step(value: float, maximum: float, node: str = "5") -> NodeProgressed:
    return NodeProgressed(prompt_id=P, node=NodeId(node), value=value, maximum=maximum)


@pytest.mark.parametrize("name", recordings.ALL)
def test_every_recorded_frame_is_understood(name: str) -> None:
    frames = list(recordings.frames(name))
    assert frames
    assert not [event for event in decode(*frames) if isinstance(event, UnknownMessage)]


def test_a_run_with_previews_is_told_from_start_to_end() -> None:
    events = decode(*recordings.frames("01", "ws:a"))
    told = [event for event in events if not isinstance(event, QueueRemaining | PreviewFrame)]
    assert told == [
        PromptStarted(prompt_id=P),
        NodesCached(prompt_id=P, nodes=(NodeId("1"), NodeId("2"), NodeId("3"), NodeId("4"))),
        NodeStarted(prompt_id=P, node=NodeId("5")),
        step(1, 4),
        step(2, 4),
        step(3, 4),
        step(4, 4),
        NodeStarted(prompt_id=P, node=NodeId("6")),
        NodeStarted(prompt_id=P, node=NodeId("7")),
        NodeExecuted(
            prompt_id=P,
            node=NodeId("7"),
            outputs=(
                OutputFile(
                    kind=OutputKind.IMAGE, filename="txt2img_00006_.png", subfolder="h", node=NodeId("7")
                ),
            ),
        ),
        PromptSucceeded(prompt_id=P),
        PromptEnded(prompt_id=P),
    ]
    previews = [event for event in events if isinstance(event, PreviewFrame)]
    assert [(preview.prompt_id, preview.node, preview.media_type) for preview in previews] == [
        (P, NodeId("5"), "image/jpeg")
    ] * 4
    assert all(preview.data.startswith(b"\xff\xd8\xff\xe0") for preview in previews)


def test_point_1_the_end_of_a_run_is_another_event_than_its_success() -> None:
    for name in ("01", "v0.3.75/01", "04"):
        kinds = [type(event) for event in decode(*recordings.frames(name, "ws:a"))]
        assert kinds.index(PromptSucceeded) < kinds.index(PromptEnded)


def test_point_5_events_carry_the_prompt_they_belong_to() -> None:
    for name in recordings.ALL:
        for event in decode(*recordings.frames(name)):
            if not isinstance(event, QueueRemaining | PreviewFrame):
                assert event.prompt_id  # type: ignore[union-attr]


def test_point_7_an_image_that_exists_only_as_a_binary_frame_is_a_preview() -> None:
    previews = [event for event in decode(*recordings.frames("19")) if isinstance(event, PreviewFrame)]
    assert [(preview.media_type, preview.data[:4]) for preview in previews] == [("image/png", b"\x89PNG")]


@pytest.mark.parametrize("name", recordings.ALL)
def test_point_8_progress_state_says_nothing_of_our_prompts_that_progress_does_not(name: str) -> None:
    """Our prompts have a client id; recording 13 has one without, which gets progress_state only."""
    decoder, steps, seen = Decoder(), Counter[NodeProgressed](), set[NodeProgressed]()
    started = {
        event.prompt_id for event in decode(*recordings.frames(name)) if isinstance(event, PromptStarted)
    }
    for frame in recordings.frames(name):
        if not isinstance(frame, str):
            continue
        for event in decoder.text(frame):
            if isinstance(event, NodeProgressed) and event.prompt_id in started:
                steps[event] += 1
        message = json.loads(frame)
        if message["type"] == "progress":
            data = message["data"]
            node, value, maximum = NodeId(data["node"]), data["value"], data["max"]
            seen.add(NodeProgressed(prompt_id=data["prompt_id"], node=node, value=value, maximum=maximum))
    assert set(steps) <= seen
    if name.startswith(("01", "02", "10")):  # one socket each: no step is given twice
        assert set(steps.values()) == {1}


def test_point_8_progress_state_is_not_parsed_whole() -> None:
    """Everything but the running entries may be anything at all."""
    running = json.dumps(
        {"value": 3, "max": 9, "state": "running", "prompt_id": P, "node_id": "7", "display_node_id": "5"}
    )
    frame = '{"type": "progress_state", "data": {"nodes": {"1": {not json}, "7": ' + running + "}, garbage"
    assert decode(frame) == [step(3, 9)]


def test_point_8_a_node_that_reports_only_in_progress_state_is_seen() -> None:
    """The newer node API's set_progress sends no `progress`."""
    entry = {"value": 2, "max": 8, "state": "running", "node_id": "5", "display_node_id": "5", "prompt_id": P}
    done = entry | {"state": "finished", "node_id": "4"}
    for spelled in (json.dumps, lambda body: json.dumps(body, separators=(",", ":")), spaced):
        assert decode(spelled({"type": "progress_state", "data": {"nodes": {"4": done, "5": entry}}})) == [
            step(2, 8)
        ]


def test_the_steps_of_loading_a_model_are_not_those_of_the_node() -> None:
    entry = {"value": 9, "max": 9, "state": "running", "node_id": "5", "display_node_id": "5", "prompt_id": P}
    for activity, steps in (("loading", []), ("executing", [step(9, 9)]), (None, [step(9, 9)])):
        frame = json.dumps(
            {"type": "progress_state", "data": {"nodes": {"5": entry | {"activity": activity}}}}
        )
        assert decode(frame) == steps


def spaced(body: Any) -> str:
    return "\n" + json.dumps(body, indent=1)


def test_a_step_that_says_nothing_yet_is_not_told() -> None:
    assert decode(text("progress", value=0, max=4, node="5", prompt_id=P)) == []
    assert decode(text("progress", value=1, max=0, node="5", prompt_id=P)) == []


def test_nodes_made_by_an_expanding_node_are_named_by_the_node_in_the_graph() -> None:
    events = decode(
        text("execution_start", prompt_id=P),
        text("executing", node="5.0.1", display_node="5", prompt_id=P),
        text("progress", value=1, max=4, node="5.0.1", prompt_id=P),
        text("executed", node="5.0.1", display_node="5", prompt_id=P, output={"text": ["a"]}),
    )
    assert events == [
        PromptStarted(prompt_id=P),
        NodeStarted(prompt_id=P, node=NodeId("5")),
        step(1, 4),
        NodeExecuted(
            prompt_id=P,
            node=NodeId("5"),
            outputs=(OutputFile(kind=OutputKind.TEXT, filename="", node=NodeId("5"), text="a"),),
        ),
    ]


def test_the_nodes_whose_display_is_remembered_have_a_bound() -> None:
    decoder = Decoder()
    for number in range(MAX_DISPLAYED + 1):
        decoder.text(text("executing", node=f"5.{number}", display_node="5", prompt_id=P))
    decoder.text(text("executing", node="6" * 10_000, display_node="5", prompt_id=P))
    names = ["5.0", f"5.{MAX_DISPLAYED}", "6" * 10_000]
    steps = [decoder.text(text("progress", node=name, value=1, max=2, prompt_id=P)) for name in names]
    assert [each.node for (each,) in steps] == [names[0], "5", names[2]]  # type: ignore[union-attr]


def test_a_number_as_node_is_read_as_its_text() -> None:
    assert decode(text("executing", node=5, prompt_id=P)) == [NodeStarted(prompt_id=P, node=NodeId("5"))]


def test_point_4_the_running_node_that_greets_a_returning_socket_has_no_prompt_and_is_not_told() -> None:
    frames = [frame for frame in recordings.frames("10", "ws:second") if isinstance(frame, str)]
    assert json.loads(frames[1]) == {"type": "executing", "data": {"node": "5"}}
    assert decode(frames[1]) == []


def test_point_13_a_cached_run_tells_the_old_files_of_nodes_that_never_started() -> None:
    per_prompt: dict[PromptId, list[EngineEvent]] = {}
    for event in decode(*recordings.frames("03")):
        if isinstance(event, NodeStarted | NodeExecuted | NodesCached):
            per_prompt.setdefault(event.prompt_id, []).append(event)
    first, second, _ = per_prompt.values()
    ran = {event.node for event in first if isinstance(event, NodeStarted)}
    assert {event.node for event in first if isinstance(event, NodeExecuted)} <= ran
    assert not [event for event in second if isinstance(event, NodeStarted)]
    files = [
        [{file.filename for file in event.outputs} for event in events if isinstance(event, NodeExecuted)]
        for events in (first, second)
    ]
    assert sorted(map(sorted, files[0])) == sorted(map(sorted, files[1]))


def test_point_15_an_error_is_a_short_cause_with_the_rest_in_the_detail() -> None:
    [failed, _] = [event for event in decode(*recordings.frames("06")) if isinstance(event, PromptFailed)]
    assert failed.failure.kind is FailureKind.NODE_ERROR
    assert (failed.failure.node_id, failed.failure.node_type) == ("7", "SaveImage")
    assert "Saving image outside the output folder is not allowed" in failed.failure.message
    assert "/comfy" not in failed.failure.message
    assert len(failed.failure.message) <= 300
    assert failed.failure.detail is not None
    assert "/comfy/output" in failed.failure.detail
    assert len(failed.failure.detail) <= 16 * 1024


def test_an_interrupted_run_says_so_and_ends() -> None:
    kinds = [type(event) for event in decode(*recordings.frames("07", "ws:a"))]
    assert kinds.count(PromptInterrupted) == 1
    assert kinds.index(PromptInterrupted) < kinds.index(PromptEnded)
    assert PromptSucceeded not in kinds


def test_the_greeting_names_the_client_id() -> None:
    decoder = Decoder()
    for frame in recordings.frames("01"):
        if isinstance(frame, str):
            decoder.text(frame)
    assert decoder.sid == "c0073fc503564c358f78ccf2b10ab116"


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":"), (" , ", " : ")])
@pytest.mark.parametrize("count", [0, 7, 10**9, 10**12, -1])
@pytest.mark.parametrize("sid", [{}, {"sid": "c"}])
def test_the_length_of_the_queue_is_read_however_it_is_written(
    separators: tuple[str, str], count: int, sid: dict[str, str]
) -> None:
    """The usual frame is read without parsing it."""
    data = {"status": {"exec_info": {"queue_remaining": count}}, **sid}
    frame = json.dumps({"type": "status", "data": data}, separators=separators)
    assert decode(frame) == [QueueRemaining(count=count)]


def test_feature_flags_are_what_the_recorded_client_sent() -> None:
    sent = [line["msg"] for line in recordings.lines("01") if line.get("dir") == "send" and "msg" in line]
    assert [json.loads(FEATURE_FLAGS)] == sent
