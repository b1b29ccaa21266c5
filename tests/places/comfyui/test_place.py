"""The place over one scripted engine: submit, lookup, cancel, sizes, object_info."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from comfy_mcp.domain.catalog import OutputFile, OutputKind
from comfy_mcp.domain.errors import EngineBadAnswer, EngineUnreachable
from comfy_mcp.domain.events import EngineConnected, EngineEvent, PromptStarted
from comfy_mcp.domain.extra_data import ExtraData
from comfy_mcp.domain.ids import ClientId, NodeId, PromptId
from comfy_mcp.domain.prompt import PromptEnding
from comfy_mcp.places.comfyui.place import REQUESTS_AT_ONCE, ComfyUIPlace
from comfy_mcp.places.protocol import Accepted, Picture, Place, PromptView, PromptWhere, Rejected
from comfy_mcp.settings import load_settings
from tests.support.fake_engine import Answer, FakeEngine, cut, half, html, in_turn, reply

A, B, C = PromptId("a"), PromptId("b"), PromptId("c")
DONE: dict[str, Any] = {"outputs": {}, "status": {"status_str": "success", "messages": []}}
GRAPH = {"1": {"class_type": "EmptyImage", "inputs": {}}}
DEADLINE_S = 30.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine() as engine:
        yield engine


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def place(engine: FakeEngine, clock: Clock) -> AsyncIterator[ComfyUIPlace]:
    settings = load_settings(
        engine_urls=(f"fake={engine.url}",), object_info_ttl_s=60.0, reconnect_max_s=0.02
    )
    place = ComfyUIPlace(settings.engines[0], settings, clock=clock)
    yield place
    await place.close()


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


# ---------------------------------------------------------------------------- cancel


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
    """What the dispatcher needs to verify: cancel says nothing, lookup does, and a repetition is harmless."""
    engine.running = [A]
    engine.answers["POST /interrupt"] = reply("")
    await place.cancel(A)
    assert where(await place.lookup([A])) == {A: PromptWhere.RUNNING}
    del engine.answers["POST /interrupt"]
    await place.cancel(A)
    await place.cancel(A)
    assert where(await place.lookup([A])) == {A: PromptWhere.ABSENT}
    assert len(engine.requests_to("POST /interrupt")) == 2


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


# ---------------------------------------------------------------------------- object_info


async def test_object_info_is_kept_for_its_time(
    engine: FakeEngine, place: ComfyUIPlace, clock: Clock
) -> None:
    engine.answers["GET /object_info"] = in_turn(reply({"A": 1}), reply({"B": 2}))
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(place.object_info()) for _ in range(5)]
    assert [task.result() for task in asked] == [{"A": 1}] * 5
    clock.now = 59.9
    assert await place.object_info() == {"A": 1}
    assert len(engine.requests) == 1
    clock.now = 60.0
    assert await place.object_info() == {"B": 2}


async def test_a_fresher_object_info_can_be_asked_for(
    engine: FakeEngine, place: ComfyUIPlace, clock: Clock
) -> None:
    engine.answers["GET /object_info"] = in_turn(reply({"A": 1}), reply({"B": 2}))
    assert await place.object_info() == {"A": 1}
    clock.now = 4.9
    assert await place.object_info(max_age_s=5.0) == {"A": 1}
    clock.now = 5.0
    assert await place.object_info(max_age_s=5.0) == {"B": 2}
    assert await place.object_info() == {"B": 2}


async def test_object_info_is_asked_again_after_a_reconnect(engine: FakeEngine, place: ComfyUIPlace) -> None:
    engine.answers["GET /object_info"] = in_turn(reply({"A": 1}), reply({"B": 2}))
    assert await place.object_info() == {"A": 1}
    connected = asyncio.Event()

    def hear(event: EngineEvent) -> None:
        if isinstance(event, EngineConnected):
            connected.set()

    async with asyncio.TaskGroup() as tasks, asyncio.timeout(DEADLINE_S):
        running = tasks.create_task(place.run(hear))
        await connected.wait()
        running.cancel()
    assert await place.object_info() == {"B": 2}


async def test_a_failed_object_info_is_not_kept(engine: FakeEngine, place: ComfyUIPlace) -> None:
    engine.answers["GET /object_info"] = in_turn(html(500), reply({"A": 1}))
    with pytest.raises(EngineBadAnswer):
        await place.object_info()
    assert await place.object_info() == {"A": 1}


async def test_what_an_engine_said_before_a_reconnect_is_not_kept(
    engine: FakeEngine, place: ComfyUIPlace
) -> None:
    """The answer of the old server comes when the new one has greeted already."""
    asked, connected = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        asked.set()
        await connected.wait()
        return web.json_response({"A": 1})

    def hear(event: EngineEvent) -> None:
        if isinstance(event, EngineConnected):
            connected.set()

    engine.answers["GET /object_info"] = in_turn(slow, reply({"B": 2}))
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(DEADLINE_S):
        old = tasks.create_task(place.object_info())
        await asked.wait()
        running = tasks.create_task(place.run(hear))
        assert await old == {"A": 1}
        assert await place.object_info() == {"B": 2}
        running.cancel()


async def test_classes_that_the_engine_replaces_are_known(
    engine: FakeEngine, place: ComfyUIPlace, clock: Clock
) -> None:
    """As long as it says which; an engine before 0.33 has no such answer."""
    engine.answers["GET /object_info"] = in_turn(reply({"A": {}}), reply({"B": {}}), reply({"C": {}}))
    engine.answers["GET /node_replacements"] = in_turn(reply({"Old": []}), html(404), html(200))
    info = await place.nodes()
    assert (set(info.classes), info.replaced) == ({"A", "Old"}, frozenset({"Old"}))
    for name in ("B", "C"):
        clock.now += 60
        info = await place.nodes()
        assert (set(info.classes), info.replaced) == ({name}, frozenset())
