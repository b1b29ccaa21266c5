"""Frames of /ws that are odd, broken or made up: each decodes, is lost, or is a wire fault."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from comfy_mcp.domain.events import (
    FrameLost,
    NodeProgressed,
    NodesCached,
    PreviewFrame,
    UnknownMessage,
)
from comfy_mcp.places import json_text
from comfy_mcp.places.comfyui.answers import WireFault
from comfy_mcp.places.comfyui.wire import (
    MAX_ENTRY_CHARS,
    MAX_RUNNING_NODES,
    Decoder,
)
from tests.places.comfyui.test_wire import P, decode, spaced, text


@pytest.mark.parametrize(
    "frame",
    [
        json.dumps({"type": "status"}),
        text("status", status={"exec_info": {}}),
        text("status", status=[]),
        text("progress", value="x", max=4, node="5", prompt_id=P),
        text("progress", value=1, max=float("inf"), node="5", prompt_id=P),
        text("progress", value=10**400, max=4, node="5", prompt_id=P),
        text("progress", value=1, max=4, prompt_id=P),
        text("progress", value=1, max=4, node="5"),
        text("executing", node=["5"], prompt_id=P),
        text("executed", output={}, prompt_id=P),
        text("execution_start"),
        text("execution_success", prompt_id=7),
    ],
)
def test_a_message_of_another_shape_is_lost_and_not_an_error(frame: str) -> None:
    assert decode(frame) == [FrameLost(type=json.loads(frame)["type"])]


def test_a_message_that_came_after_this_version_is_unknown() -> None:
    assert decode(text("something_new", a=1)) == [UnknownMessage(type="something_new")]


def test_odd_lists_of_nodes_are_read_as_far_as_they_go() -> None:
    assert decode(text("execution_cached", nodes=None, prompt_id=P)) == [NodesCached(prompt_id=P, nodes=())]
    assert decode(spaced({"type": "progress_state", "data": {"nodes": [1]}})) == []


@pytest.mark.parametrize(
    "frame",
    ["", "{", "[]", "3", '{"type": 3}', '{"data": {}}', "[" * 100_000, '{"type": "executing", "data'],
    ids=lambda frame: frame[:12],
)
def test_text_that_is_no_message_is_a_wire_fault(frame: str) -> None:
    with pytest.raises(WireFault):
        decode(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\1",
        b"\0\0\0\1\0\0",
        b"\0\0\0\4\0\0\0\x08{}",
        b"\0\0\0\4\0\0\0\2{]image",
        b"\0\0\0\4\0\0\0\2[]image",
        b"\0\0\0\4\0\0\0\2\xff\xfeimage",
    ],
)
def test_half_a_binary_frame_is_a_wire_fault(frame: bytes) -> None:
    with pytest.raises(WireFault):
        decode(frame)


def test_previews_without_their_metadata_are_still_previews() -> None:
    assert (
        decode(b"\0\0\0\4\0\0\0\2{}image", b"\0\0\0\1\0\0\0\x09image")
        == [PreviewFrame(prompt_id=None, node=None, media_type="application/octet-stream", data=b"image")] * 2
    )


def test_text_frames_in_binary_are_passed_over_and_new_kinds_are_unknown() -> None:
    assert decode(b"\0\0\0\3\0\0\0\0015hello") == []
    assert decode(b"\0\0\0\x63") == [UnknownMessage(type="binary 99")]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["prompt_id", "node", "nodes", "value", "max", "display_node", "output", "status", "exec_info",
         "queue_remaining", "sid", "state", "traceback", "current_inputs", "exception_message", "images"]
    ) | st.text(max_size=3), inner, max_size=6),
    max_leaves=20,
)  # fmt: skip
_KINDS = st.sampled_from([
    "status", "executing", "executed", "progress", "progress_state", "execution_start", "execution_cached",
    "execution_error", "execution_success", "execution_interrupted", "feature_flags", "other",
])  # fmt: skip


@given(st.lists(st.tuples(_KINDS, _JSON), max_size=5))
@example([("status", {"status": {"exec_info": {"queue_remaining": True}}})])
def test_any_json_under_any_type_decodes(messages: list[tuple[str, Any]]) -> None:
    decoder = Decoder()
    for kind, data in messages:
        for event in decoder.text(json.dumps({"type": kind, "data": data})):
            assert event == event  # an event is a value: it compares with itself, so no NaN is inside


@given(
    st.text()
    | st.builds(lambda rest: '{"type": "progress_state"' + rest, st.text(alphabet='{}":,runigstae '))
)
def test_any_text_decodes_or_is_a_wire_fault(frame: str) -> None:
    try:
        events = Decoder().text(frame)
    except WireFault:
        return
    assert all(isinstance(event, UnknownMessage | FrameLost | NodeProgressed) for event in events)


@given(
    st.binary()
    | st.builds(lambda kind, rest: b"\0\0\0" + bytes([kind]) + rest, st.integers(0, 5), st.binary())
)
def test_any_bytes_decode_or_are_a_wire_fault(frame: bytes) -> None:
    try:
        events = Decoder().binary(frame)
    except WireFault:
        return
    assert all(isinstance(event, UnknownMessage | PreviewFrame) for event in events)


_PIECES = st.sampled_from(
    [
        '"state": "running"',
        '"state":"running" ',
        "{",
        "}",
        '"value": 1, "max": 2',
        ",",
        " " * 500,
        "\\ud83d",
        '"a": "b"',
    ]
)


@given(st.lists(_PIECES, max_size=12), st.integers(1, 2_000))
def test_of_a_step_of_progress_a_bounded_part_is_parsed_whatever_it_holds(
    pieces: list[str], times: int
) -> None:
    """A frame of a run with many nodes is long, and comes with each step."""
    parsed: list[int] = []

    def counted(text: str | bytes) -> Any:
        parsed.append(len(text))
        return parse(text)

    parse, frame = json_text.parse, '{"type": "progress_state", ' + "".join(pieces) * times
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_text, "parse", counted)
        Decoder().text(frame)
    assert len(parsed) <= MAX_RUNNING_NODES
    assert max(parsed, default=0) <= 2 * MAX_ENTRY_CHARS + len('"state": "running"')
    assert sum(parsed) <= len(frame) + MAX_RUNNING_NODES, "no part is parsed twice"
