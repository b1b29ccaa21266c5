"""The place over one scripted engine: submit, lookup, sizes."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from comfy_mcp.domain.catalog import OutputFile, OutputKind
from comfy_mcp.domain.errors import EngineBadAnswer, EngineUnreachable
from comfy_mcp.domain.events import EngineConnected, EngineEvent, PromptStarted
from comfy_mcp.domain.extra_data import ExtraData
from comfy_mcp.domain.ids import ClientId, NodeId, PromptId
from comfy_mcp.domain.prompt import PromptEnding
from comfy_mcp.places.comfyui.place import REQUESTS_AT_ONCE, STATS_S, ComfyUIPlace
from comfy_mcp.places.protocol import Accepted, Place, PromptView, PromptWhere, Rejected
from comfy_mcp.settings import load_settings
from tests.support.fake_engine import Answer, FakeEngine, cut, half, html, in_turn, reply

A, B, C = PromptId("a"), PromptId("b"), PromptId("c")
DONE: dict[str, Any] = {"outputs": {}, "status": {"status_str": "success", "messages": []}}
GRAPH = {"1": {"class_type": "EmptyImage", "inputs": {}}}
DEADLINE_S = 30.0


def where(views: Any) -> dict[str, PromptWhere]:
    return {prompt_id: view.where for prompt_id, view in views.items()}


def test_it_is_a_place(place: ComfyUIPlace) -> None:
    as_place: Place = place
    assert as_place.engine == "fake"


# ---------------------------------------------------------------------------- submit


async def test_point_2_and_5_a_prompt_goes_out_under_our_id_and_the_streams_client_id(
    engine: FakeEngine, place: ComfyUIPlace
) -> None:
    assert await place.submit(A, GRAPH) == Accepted(dropped={})
    [request] = engine.requests_to("POST /prompt")
    assert request.json == {
        "prompt": GRAPH,
        "prompt_id": A,
        "client_id": place.listener.client_id,
    }


async def test_a_comfy_key_is_added_to_the_request_of_a_client_that_spends(engine: FakeEngine) -> None:
    settings = load_settings(engine_urls=(f"fake={engine.url}",), comfy_org_api_key="comfyui-0123456789")
    place = ComfyUIPlace(settings.engines[0], settings)
    try:
        beside = ExtraData(values={"preview_method": "none"}, spender=ClientId("anna"))
        await place.submit(A, GRAPH, beside)
        await place.submit(B, GRAPH, ExtraData(values={"preview_method": "none"}))
    finally:
        await place.close()
    sent = [request.json["extra_data"] for request in engine.requests_to("POST /prompt")]
    assert sent == [
        {"preview_method": "none", "api_key_comfy_org": "comfyui-0123456789"},
        {"preview_method": "none"},
    ]


async def test_point_2_events_may_come_before_the_posts_answer(
    engine: FakeEngine, place: ComfyUIPlace
) -> None:
    """The engine's first event is told while the POST still waits for its answer."""
    told: asyncio.Queue[EngineEvent] = asyncio.Queue()
    seen = asyncio.Event()

    def hear(event: EngineEvent) -> None:
        told.put_nowait(event)
        if isinstance(event, PromptStarted):
            seen.set()

    async def late(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        start = {"type": "execution_start", "data": {"prompt_id": body["prompt_id"]}}
        assert await engine.send(body["client_id"], start)
        await seen.wait()
        return web.json_response({"prompt_id": body["prompt_id"], "number": 1, "node_errors": {}})

    engine.answers["POST /prompt"] = late
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(DEADLINE_S):
        running = tasks.create_task(place.run(hear))
        while not isinstance(await told.get(), EngineConnected):
            pass
        assert await place.submit(A, GRAPH) == Accepted(dropped={})
        running.cancel()
    assert seen.is_set()


async def test_a_refused_graph_is_a_value_and_an_odd_answer_an_error(
    engine: FakeEngine, place: ComfyUIPlace
) -> None:
    engine.answers["POST /prompt"] = in_turn(
        reply({"error": {"message": "Prompt has no outputs"}, "node_errors": {}}, status=400), html(500), cut
    )
    answer = await place.submit(A, GRAPH)
    assert isinstance(answer, Rejected)
    assert answer.failure.message == "Prompt has no outputs"
    with pytest.raises(EngineBadAnswer):
        await place.submit(A, GRAPH)
    with pytest.raises(EngineUnreachable):
        await place.submit(A, GRAPH)
    assert len(engine.requests_to("POST /prompt")) == 3


async def test_a_dropped_branch_is_named(engine: FakeEngine, place: ComfyUIPlace) -> None:
    errors = {"3": {"errors": [{"message": "bad"}], "dependent_outputs": ["4"], "class_type": "X"}}
    engine.answers["POST /prompt"] = reply({"prompt_id": A, "number": 1, "node_errors": errors})
    assert await place.submit(A, GRAPH) == Accepted(dropped={NodeId("4"): "node 3 (X): bad"})


# ---------------------------------------------------------------------------- lookup


async def test_point_11_each_prompt_is_where_the_engine_has_it(
    engine: FakeEngine, place: ComfyUIPlace
) -> None:
    engine.running, engine.pending, engine.histories = [A], [B], {C: DONE}
    views = await place.lookup([A, B, C, PromptId("gone")])
    assert where(views) == {
        A: PromptWhere.RUNNING,
        B: PromptWhere.PENDING,
        C: PromptWhere.FINISHED,
        "gone": PromptWhere.ABSENT,
    }
    result = views[C].result
    assert result is not None
    assert result.ending is PromptEnding.SUCCESS
    assert len(engine.requests_to("GET /queue")) == 1


async def test_a_finished_prompt_costs_one_request(engine: FakeEngine, place: ComfyUIPlace) -> None:
    engine.histories[A] = DONE
    await place.lookup([A])
    assert [request.path for request in engine.requests] == ["/history/a"]
    assert await place.lookup([]) == {}
    assert len(engine.requests) == 1


async def test_point_10_a_prompt_that_ends_between_the_reads_is_not_taken_for_absent(
    engine: FakeEngine, place: ComfyUIPlace
) -> None:
    async def ends_now(_: web.Request) -> web.StreamResponse:
        engine.histories[A] = DONE
        return web.json_response({"queue_running": [], "queue_pending": []})

    engine.answers["GET /queue"] = ends_now
    views = await place.lookup([A, B])
    assert where(views) == {A: PromptWhere.FINISHED, B: PromptWhere.ABSENT}


async def test_point_11_a_prompt_is_absent_only_after_three_reads(
    engine: FakeEngine, place: ComfyUIPlace
) -> None:
    assert await place.lookup([A]) == {A: PromptView(where=PromptWhere.ABSENT)}
    assert [request.path for request in engine.requests] == ["/history/a", "/queue", "/history/a"]


async def test_many_prompts_are_asked_for_a_few_at_a_time(engine: FakeEngine, place: ComfyUIPlace) -> None:
    ids = [PromptId(f"p{number}") for number in range(50)]
    engine.pending = list(ids)
    asked, at_once, most = 0, 0, 0
    full = asyncio.Event()

    async def count(_: web.Request) -> web.StreamResponse:
        nonlocal asked, at_once, most
        asked, at_once = asked + 1, at_once + 1
        most = max(most, at_once)
        if at_once == REQUESTS_AT_ONCE:
            full.set()
        await full.wait()
        at_once -= 1
        return web.json_response({})

    for prompt_id in ids:
        engine.answers[f"GET /history/{prompt_id}"] = count
    async with asyncio.timeout(DEADLINE_S):
        views = await place.lookup(ids)
    assert (asked, most) == (50, REQUESTS_AT_ONCE)
    assert set(where(views).values()) == {PromptWhere.PENDING}


@pytest.mark.parametrize("ids", [[A], [A, B, C]])
async def test_a_bad_answer_to_everything_is_raised_as_itself(
    engine: FakeEngine, place: ComfyUIPlace, ids: list[PromptId]
) -> None:
    engine.answers["GET /history/a"] = engine.answers["GET /queue"] = html(200)
    with pytest.raises(EngineBadAnswer):
        await place.lookup(ids)


@pytest.mark.parametrize("answer", [html(200), html(500), half(), reply({"a": ["no", "entry"]})])
async def test_a_history_that_cant_be_read_is_said_of_its_prompt_and_the_others_are_found(
    engine: FakeEngine, place: ComfyUIPlace, answer: Answer
) -> None:
    engine.answers["GET /history/a"] = answer
    engine.running = [B]
    views = await place.lookup([A, B, C])
    assert where(views) == {A: PromptWhere.UNREADABLE, B: PromptWhere.RUNNING, C: PromptWhere.ABSENT}
    assert "Engine fake, GET /history" in (views[A].fault or "")


async def test_a_prompt_in_the_queue_is_there_whatever_its_history_says(
    engine: FakeEngine, place: ComfyUIPlace
) -> None:
    engine.answers["GET /history/a"] = html(500)
    engine.pending = [A]
    assert where(await place.lookup([A])) == {A: PromptWhere.PENDING}


# ---------------------------------------------------------------------------- sizes


def file(name: str) -> OutputFile:
    return OutputFile(kind=OutputKind.IMAGE, filename=name)


async def test_sizes_are_best_effort(engine: FakeEngine, place: ComfyUIPlace) -> None:
    async def head(request: web.Request) -> web.StreamResponse:
        name = request.query["filename"]
        if name == "gone":
            return web.Response(status=404)
        if name == "broken":
            return await cut(request)
        return web.Response(body=b"x" * len(name))

    engine.answers["HEAD /view"] = head
    text = OutputFile(kind=OutputKind.TEXT, filename="", text="t")
    sizes = await place.sizes(
        [file("four"), file("gone"), file("broken"), text, file("four"), file("eleven")]
    )
    assert sizes == {file("four"): 4, file("eleven"): 6}
    assert await place.sizes([]) == {}


# ---------------------------------------------------------------------------- health


async def test_the_version_comes_from_what_was_just_read_for_the_gpus(engine: FakeEngine) -> None:
    settings, now = load_settings(engine_urls=(f"fake={engine.url}",)), [0.0]
    place = ComfyUIPlace(settings.engines[0], settings, clock=lambda: now[-1])
    engine.answers["GET /prompt"] = reply({"exec_info": {"queue_remaining": 3}})
    engine.answers["GET /system_stats"] = reply({"system": {"comfyui_version": "9.9"}, "devices": []})
    try:
        await place.system_stats()
        for at, asked in ((STATS_S, 1), (STATS_S + 0.1, 2)):
            now.append(at)
            health = await place.health()
            assert (health.version, health.prompts) == ("9.9", 3)
            assert len(engine.requests_to("GET /system_stats")) == asked
    finally:
        await place.close()
