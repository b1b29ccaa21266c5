"""Cancels of the place over one scripted engine, and pictures without a file."""

from typing import Any

import pytest
from aiohttp import web

from comfy_mcp.domain.catalog import OutputFile, OutputKind
from comfy_mcp.domain.ids import NodeId, PromptId
from comfy_mcp.places.comfyui.place import ComfyUIPlace
from comfy_mcp.places.protocol import Picture, PromptWhere
from tests.support.fake_engine import FakeEngine, in_turn, reply

A, B, C = PromptId("a"), PromptId("b"), PromptId("c")
DONE: dict[str, Any] = {"outputs": {}, "status": {"status_str": "success", "messages": []}}
GRAPH = {"1": {"class_type": "EmptyImage", "inputs": {}}}
DEADLINE_S = 30.0


def where(views: Any) -> dict[str, PromptWhere]:
    return {prompt_id: view.where for prompt_id, view in views.items()}


async def test_point_10_a_pending_prompt_is_deleted_and_nothing_interrupted(
    engine: FakeEngine, place: ComfyUIPlace
) -> None:
    engine.running, engine.pending = ["other"], [A, B]
    await place.cancel(A)
    assert (engine.running, engine.pending) == (["other"], [B])
    assert engine.requests_to("POST /interrupt") == []


async def test_point_10_a_running_prompt_is_interrupted_by_its_id(
    engine: FakeEngine, place: ComfyUIPlace
) -> None:
    engine.running, engine.pending = [A], [B]
    await place.cancel(A)
    assert (engine.running, engine.pending) == ([], [B])
    [request] = engine.requests_to("POST /interrupt")
    assert request.json == {"prompt_id": A}


async def test_point_10_a_prompt_that_starts_between_delete_and_interrupt_is_interrupted(
    engine: FakeEngine, place: ComfyUIPlace
) -> None:
    engine.pending = [A]

    async def starts_just_before(_: web.Request) -> web.StreamResponse:
        engine.pending, engine.running = [], [A]
        return web.Response()

    engine.answers["POST /queue"] = starts_just_before
    await place.cancel(A)
    assert engine.running == []


@pytest.mark.parametrize(
    ("answer", "asked"), [({"cancelled": True}, False), ({"cancelled": False}, True), ([], True)]
)
async def test_an_engine_that_has_jobs_cancels_by_them_and_otherwise_as_before(
    engine: FakeEngine, place: ComfyUIPlace, answer: Any, asked: bool
) -> None:
    engine.pending = [A]
    engine.answers[f"POST /api/jobs/{A}/cancel"] = reply(answer)
    await place.cancel(A)
    assert bool(engine.requests_to("POST /queue")) is asked


async def test_pictures_without_a_file_get_one_in_the_engines_output_folder(
    engine: FakeEngine, place: ComfyUIPlace
) -> None:
    kept = [{"name": f"{n}.png", "subfolder": "websocket", "type": "output"} for n in (1, 2)]
    engine.answers["POST /upload/image"] = in_turn(*(reply(each) for each in kept))
    pictures = [Picture(node=NodeId("3"), data=b"one"), Picture(node=NodeId("4"), data=b"two")]
    files = await place.keep(A, pictures)
    assert files == [
        OutputFile(kind=OutputKind.IMAGE, filename="1.png", subfolder="websocket", node=NodeId("3")),
        OutputFile(kind=OutputKind.IMAGE, filename="2.png", subfolder="websocket", node=NodeId("4")),
    ]
    first, second = (request.body for request in engine.requests_to("POST /upload/image"))
    assert b'filename="a_00001.png"' in first
    assert b"one" in first
    assert b"output" in first
    assert b'filename="a_00002.png"' in second


@pytest.mark.parametrize(
    ("answer", "limit"),
    [
        (reply({"max_upload_size": 1000}), 1000),
        (reply({"max_upload_size": "many"}), None),
        (reply({}), None),
        (reply([]), None),
        (reply("", status=404), None),
    ],
)
async def test_an_engine_may_say_how_much_it_takes(
    engine: FakeEngine, place: ComfyUIPlace, answer: Any, limit: int | None
) -> None:
    engine.answers["GET /features"] = answer
    assert await place.upload_limit() == limit


async def test_point_9_a_lost_cancel_can_be_seen_and_repeated(
    engine: FakeEngine, place: ComfyUIPlace
) -> None:
    """What a driver needs to verify: cancel says nothing, lookup does, and a repetition is harmless."""
    engine.running = [A]
    engine.answers["POST /interrupt"] = reply("")
    await place.cancel(A)
    assert where(await place.lookup([A])) == {A: PromptWhere.RUNNING}
    del engine.answers["POST /interrupt"]
    await place.cancel(A)
    await place.cancel(A)
    assert where(await place.lookup([A])) == {A: PromptWhere.ABSENT}
    assert len(engine.requests_to("POST /interrupt")) == 2
