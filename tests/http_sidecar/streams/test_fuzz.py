"""What strangers send to the streams: event ids, and messages that are nearly right."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import example, given
from hypothesis import strategies as st

from comfy_mcp.domain.errors import InvalidInput
from http_sidecar.streams.messages import MAX_SEQ, Ping, Subscribe, Unsubscribe, parse_command
from http_sidecar.streams.sse import parse_event_id

T = TypeVar("T")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["ping", "subscribe", "unsubscribe", "Ping", "subscribe "]) | ANYTHING,
        "workflowId": st.sampled_from(["*", "w", "", "x" * 64, "x" * 65]) | ANYTHING,
        "workflow_id": ANYTHING,
        "since": st.sampled_from([0, MAX_SEQ, MAX_SEQ + 1, -1, 1.0, True, "7", None]) | ANYTHING,
        "more": ANYTHING,
    },
)


def taken(parse: Callable[[str], T], text: str) -> T | None:
    """None: it was refused, in few words."""
    refusal = None
    try:
        return parse(text)
    except InvalidInput as error:
        refusal = error
    assert 0 < len(refusal.message) < 300
    assert refusal.next_step
    return None


@given(st.integers(0, MAX_SEQ))
def test_an_event_id_that_was_sent_out_is_taken_back(seq: int) -> None:
    assert parse_event_id(str(seq)) == seq


@given(st.text(max_size=40) | st.integers().map(str) | st.floats().map(str))
@example(str(MAX_SEQ + 1))
@example("٣")
@example("1_000")
@example(" 1")
@example("+1")
@example("")
@example("9" * 5000)
def test_any_other_event_id_is_refused_and_never_another_place(text: str) -> None:
    seq = taken(parse_event_id, text)
    if seq is not None:
        assert 0 <= seq <= MAX_SEQ
        assert text.isascii()
        assert text.lstrip("0") == (str(seq) if seq else "")


@given(NEARLY)
def test_a_message_that_is_nearly_right_is_understood_as_it_stands_or_refused(
    message: dict[str, Any],
) -> None:
    command = taken(parse_command, json.dumps(message))
    if command is None:
        return
    assert command.type == message["type"]
    match command:
        case Ping():
            pass
        case Subscribe(workflow_id=workflow_id, since=since):
            assert workflow_id == message["workflowId"]
            assert since == message.get("since")
            assert since is None or type(message["since"]) is int
            assert 1 <= len(workflow_id) <= 64
        case Unsubscribe(workflow_id=workflow_id):
            assert workflow_id == message["workflowId"]
