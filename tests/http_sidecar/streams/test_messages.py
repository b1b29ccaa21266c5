"""Every event has its message or none, and what a client sends is understood or refused."""

import json
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.catalog import OutputKind
from comfy_mcp.domain.chains import Parent
from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.domain.events import (
    CancelRequested,
    JobClaimed,
    JobEvent,
    JobProgressed,
    JobWaiting,
    Priority,
    PriorityChanged,
    StoredEvent,
)
from comfy_mcp.domain.ids import BatchId, EngineId, JobId, NodeId, PromptId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.transitions import queued
from comfy_mcp.domain.vram import EngineRoom, WaitingFor
from comfy_mcp.operations.feed import Described
from http_sidecar.streams.messages import (
    MAX_SEQ,
    WORKFLOW_MESSAGES,
    Ping,
    Subscribe,
    Unsubscribe,
    message_of,
    parse_command,
    wire_text,
)
from tests.support.jobs import (
    cancelled,
    completed,
    failed,
    output_of_job,
    progressed,
    queued_event,
    requeued,
    started,
)

ROOM = EngineRoom(engine=EngineId("e"), room_bytes=1, total_bytes=3)
WAIT = WaitingFor(since=5, need_bytes=2, engines=(ROOM,))
JOB: Job = queued(queued_event(JobId("j"), at=1))
EVENTS: dict[type[JobEvent], tuple[JobEvent, str | None]] = {
    type(event): (event, kind)
    for event, kind in (
        (queued_event(JobId("j")), "workflow:queued"),
        (requeued(JOB), "workflow:queued"),
        (JobWaiting(job_id=JobId("j"), at=1, waiting_for=WAIT), "workflow:queued"),
        (
            JobClaimed(job_id=JobId("j"), at=1, attempt=1, engine=EngineId("e"), prompt_id=PromptId("p")),
            None,
        ),
        (started(JOB), "workflow:started"),
        (progressed(JOB, 0.5), "workflow:progress"),
        (CancelRequested(job_id=JobId("j"), at=1), None),
        (PriorityChanged(job_id=JobId("j"), at=1, priority=Priority.LOW), "workflow:queued"),
        (completed(JOB), "workflow:completed"),
        (failed(JOB), "workflow:error"),
        (cancelled(JOB), "workflow:cancelled"),
    )
}


def said(event: JobEvent, seq: int = 7, **known: Any) -> dict[str, Any]:
    message = message_of(StoredEvent(seq=seq, event=event), Described(**known))
    assert message is not None
    parsed = json.loads(wire_text(message))
    assert isinstance(parsed, dict)
    return parsed


@pytest.mark.parametrize("kind", get_args(JobEvent))
def test_every_event_has_its_message_or_none(kind: type[JobEvent]) -> None:
    event, expected = EVENTS[kind]
    message = message_of(StoredEvent(seq=7, event=event))
    if expected is None:
        assert message is None
    else:
        assert next(iter(said(event))) == "type"
        assert (said(event)["type"], said(event)["seq"]) == (expected, 7)


def test_why_a_workflow_is_passed_over_is_said_and_that_it_is_no_more() -> None:
    held = said(JobWaiting(job_id=JobId("j"), at=9, waiting_for=WAIT), position=3)
    assert (held["queuePosition"], held["timestamp"]) == (3, 9)
    assert held["waitingFor"] == {
        "reason": "vram",
        "message": "Similar workflows needed 0.0 GiB of VRAM; e has 0.0 GiB of 0.0 GiB.",
        "since": 5,
        "needBytes": 2,
        "freeBytes": 1,
        "engines": [{"engine": "e", "freeBytes": 1, "totalBytes": 3}],
    }
    assert "waitingFor" not in said(JobWaiting(job_id=JobId("j"), at=9, waiting_for=None), position=3)


@pytest.mark.parametrize("after", [(), (Parent(id=JobId("p")),)])
def test_the_first_message_of_a_workflow_names_its_batch(after: tuple[Parent, ...]) -> None:
    event = replace(queued_event(JobId("j")), batch=BatchId("b"), after=after)
    assert said(event)["batch"] == "b"
    assert [said(each).get("batch", "-") for each in (replace(event, batch=None), requeued(JOB))] == [
        "-",
        "-",
    ]


def test_every_message_of_the_contract_is_said_of_some_event() -> None:
    kinds = {get_args(model.model_fields["type"].annotation)[0] for model in WORKFLOW_MESSAGES}
    assert kinds == {kind for _, kind in EVENTS.values() if kind is not None}


def test_what_is_not_known_is_null_and_never_a_made_up_number() -> None:
    assert said(queued_event())["queuePosition"] is None
    assert said(completed(JOB))["duration"] is None
    bare = JobProgressed(job_id=JobId("j"), at=1, attempt=1, progress=0)
    assert said(bare)["currentNode"] is None


def test_the_duration_is_from_the_start_to_the_end_and_never_negative() -> None:
    assert said(completed(JOB, at=3_000), started_at=1_200)["duration"] == 1_800
    assert said(completed(JOB, at=3_000), started_at=3_001)["duration"] == 0


def test_the_current_node_is_its_title_or_its_id() -> None:
    assert said(progressed(JOB, 0.1))["currentNode"] == "Empty"
    assert said(replace(progressed(JOB, 0.1), node_title=None))["currentNode"] == "1"
    assert said(replace(progressed(JOB, 0.1), node_title="", node_id=NodeId("9")))["currentNode"] == "9"


def test_an_output_has_the_contracts_three_members() -> None:
    outputs = [output_of_job(JOB, "a.png"), output_of_job(JOB, "b.webm", kind=OutputKind.VIDEO)]
    assert said(completed(JOB), outputs=outputs)["outputs"] == [
        {"filename": "a.png", "type": "image", "url": f"/v1/comfyui/output/{outputs[0].id}"},
        {"filename": "b.webm", "type": "video", "url": f"/v1/comfyui/output/{outputs[1].id}"},
    ]


@given(progress=st.floats(0, 1), seq=st.integers(0, MAX_SEQ), title=st.text())
def test_any_progress_is_one_line_of_ascii_within_the_bounds(progress: float, seq: int, title: str) -> None:
    event = replace(progressed(JOB, progress), node_title=title)
    message = message_of(StoredEvent(seq=seq, event=event))
    assert message is not None
    text = wire_text(message)
    assert text.isascii()
    assert "\n" not in text
    assert "\r" not in text
    parsed = json.loads(text)
    assert (parsed["seq"], parsed["currentNode"]) == (seq, title or "1")
    assert 0 <= parsed["progress"] <= 100


def test_the_commands_of_the_contract_are_understood() -> None:
    assert isinstance(parse_command('{"type":"ping"}'), Ping)
    subscribe = parse_command('{"type":"subscribe","workflowId":"*"}')
    assert isinstance(subscribe, Subscribe)
    assert (subscribe.workflow_id, subscribe.since) == ("*", None)
    resumed = parse_command(f'{{"type":"subscribe","workflowId":"w","since":{MAX_SEQ}}}')
    assert isinstance(resumed, Subscribe)
    assert (resumed.workflow_id, resumed.since) == ("w", MAX_SEQ)
    left = parse_command('{"workflowId":"w","type":"unsubscribe","more":[1]}')
    assert isinstance(left, Unsubscribe)
    assert left.workflow_id == "w"


@pytest.mark.parametrize(
    "command",
    [
        {"type": "pong"},
        {"type": "subscribe", "workflow_id": "*"},
        {"type": "subscribe", "workflowId": "*", "since": -3},
        {"type": "unsubscribe"},
    ],
)
def test_a_command_that_is_nearly_right_is_refused(command: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        parse_command(json.dumps(command))


@given(
    st.one_of(st.text(), st.recursive(st.none() | st.text(), lambda inner: st.lists(inner)).map(json.dumps))
)
def test_whatever_else_is_refused_in_a_few_words(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_command(text)
    assert 0 < len(refused.value.message) < 300
    assert '{"type": "subscribe"' in refused.value.next_step
