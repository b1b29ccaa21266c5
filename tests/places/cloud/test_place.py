"""A service as a place, with a service that is scripted."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.catalog import OutputKind
from comfy_mcp.domain.errors import EngineBadAnswer, EngineUnreachable, NotFound, StoreFault
from comfy_mcp.domain.events import (
    EngineConnected,
    EngineDisconnected,
    EngineEvent,
    FailureKind,
    JobFailure,
    NodeProgressed,
    PromptEnded,
    PromptStarted,
)
from comfy_mcp.domain.extra_data import ExtraData
from comfy_mcp.domain.ids import EngineId, NodeId, PromptId
from comfy_mcp.domain.prompt import PromptEnding, PromptResult
from comfy_mcp.library.input_files import InputSource as File
from comfy_mcp.places.cloud import place as module
from comfy_mcp.places.cloud.kept import KeptOutputs
from comfy_mcp.places.cloud.place import FETCH_TRIES, CloudPlace
from comfy_mcp.places.cloud.service import CloudJob, Made, NotNow
from comfy_mcp.places.protocol import Accepted, InputSource, PromptView, PromptWhere, Rejected, Trouble

A = PromptId("a")
GRAPH: Mapping[str, Any] = {"1": {"class_type": "SaveImage", "inputs": {}}}
QUEUED, RUNS = CloudJob(running=False), CloudJob(running=True, node=NodeId("1"))
REFUSED = Rejected(failure=JobFailure(kind=FailureKind.VALIDATION, message="no"))


def fault(what: str = "no answer") -> EngineUnreachable:
    return EngineUnreachable(what, next_step="Wait.")


def not_now(after_s: float = 7.0) -> NotNow:
    return NotNow("queue full", next_step="Wait.", after_s=after_s)


def made(name: str, *answers: bytes | Exception) -> Made:
    """Each opening takes the next of the answers; the last one repeats."""
    left = list(answers)

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer

        async def chunks() -> AsyncIterator[bytes]:
            yield answer

        yield chunks()

    return Made(name=name, open=opened, node=NodeId("1"))


class Service:
    """Answers of `jobs` in turn; the last one repeats. `creates`: what is raised or answered before that."""

    engine = EngineId("somewhere")
    largest_input = None

    def __init__(self) -> None:
        self.repeats = True
        self.created: list[tuple[PromptId, Mapping[str, Any], Mapping[str, Any]]] = []
        self.creates: list[Exception | Rejected] = []
        self.jobs: list[CloudJob | Exception | None] = [QUEUED]
        self.checks: list[Exception] = []
        self.found: str | None = None
        self.cancelled: list[str] = []
        self.closed = False

    async def check(self) -> None:
        if self.checks:
            raise self.checks.pop(0)

    async def create(
        self, prompt_id: PromptId, graph: Mapping[str, Any], extra: Mapping[str, Any]
    ) -> Accepted | Rejected:
        self.created.append((prompt_id, graph, extra))
        answer = self.creates.pop(0) if self.creates else None
        if isinstance(answer, Exception):
            raise answer
        return answer or Accepted(dropped={}, reference=f"job of {prompt_id}")

    async def find(self, prompt_id: PromptId) -> str | None:
        return self.found

    async def job(self, reference: str) -> CloudJob | None:
        answer = self.jobs.pop(0) if len(self.jobs) > 1 else self.jobs[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def cancel(self, reference: str) -> None:
        self.cancelled.append(reference)
        self.jobs = [CloudJob(running=False, ending=PromptEnding.INTERRUPTED)]

    async def put(self, source: InputSource) -> object:
        return {"asset": source.name}

    async def close(self) -> None:
        self.closed = True


class Run:
    """The place, while it is driven. `now` is its clock."""

    def __init__(self, folder: Path) -> None:
        self.service = Service()
        self.kept = KeptOutputs(folder)
        self.now = 100.0
        self.place = CloudPlace(self.service, self.kept, locate=_locate, clock=lambda: self.now)
        self.events: list[EngineEvent] = []
        self.heard = asyncio.Event()

    def hear(self, event: EngineEvent) -> None:
        self.events.append(event)
        self.heard.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.heard.clear()
                await self.heard.wait()

    @property
    def trouble(self) -> Trouble | None:
        return self.place.trouble

    async def view(self, prompt_id: PromptId = A) -> PromptView:
        return (await self.place.lookup([prompt_id]))[prompt_id]

    async def ended(self) -> PromptView:
        await self.until(lambda: PromptEnded(prompt_id=A) in self.events)
        return await self.view()

    async def result(self) -> PromptResult:
        result = (await self.ended()).result
        assert result is not None
        return result


async def _locate(name: str) -> InputSource:
    return File(name=name.upper(), size=None, open=made("", b"").open)


@pytest.fixture
async def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    monkeypatch.setattr(module, "FIRST_S", 0.0)
    run = Run(tmp_path / "kept")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run.place.run(run.hear))
        await run.until(lambda: bool(run.events))
        yield run
        task.cancel()
    await run.place.close()
    assert run.service.closed


async def test_a_job_is_followed_to_its_end_and_its_files_are_kept(run: Run) -> None:
    over = CloudJob(running=False, ending=PromptEnding.SUCCESS, made=(made("../a/x.png", b"bytes"),))
    run.service.jobs = [QUEUED, RUNS, RUNS, over]
    answer = await run.place.submit(A, GRAPH, ExtraData(values={"extra_pnginfo": {}}))
    assert answer == Accepted(dropped={}, reference="job of a")
    result = await run.result()
    assert result.ending is PromptEnding.SUCCESS
    (file,) = result.outputs
    assert (file.filename, file.subfolder, file.node, file.kind) == ("001_x.png", "a", "1", OutputKind.IMAGE)
    assert dict(await run.place.sizes([file])) == {file: 5}
    assert run.service.created == [(A, GRAPH, {"extra_pnginfo": {}})]
    assert run.events == [
        EngineConnected(sid=None),
        PromptStarted(prompt_id=A),
        NodeProgressed(prompt_id=A, node=NodeId("1"), value=0.0, maximum=1.0),
        PromptEnded(prompt_id=A),
    ]


async def test_a_job_that_waits_is_pending_and_one_that_runs_is_running(run: Run) -> None:
    await run.place.submit(A, GRAPH)
    assert (await run.view()).where is PromptWhere.PENDING
    run.service.jobs = [RUNS]
    await run.until(lambda: PromptStarted(prompt_id=A) in run.events)
    assert (await run.view()).where is PromptWhere.RUNNING


async def test_a_post_without_an_answer_is_repeated_under_its_own_id(run: Run) -> None:
    run.service.creates = [fault(), fault()]
    with pytest.raises(EngineUnreachable):
        await run.place.submit(A, GRAPH)
    assert await run.view() == PromptView(where=PromptWhere.PENDING)
    assert run.trouble == Trouble(cause="no answer.", fix="Wait.")
    assert await run.view() == PromptView(where=PromptWhere.PENDING, reference="job of a")
    assert run.place.trouble is None
    assert [each[0] for each in run.service.created] == [A, A, A]


async def test_a_service_that_takes_nothing_counts_as_away_until_it_answers_again(run: Run) -> None:
    """So no further job is claimed for it meanwhile."""
    run.service.creates, run.service.checks = [fault()], [fault("still down")]
    with pytest.raises(EngineUnreachable):
        await run.place.submit(A, GRAPH)
    await run.until(lambda: len(run.events) == 3)
    back = EngineConnected(sid=None)
    assert run.events == [back, EngineDisconnected(reason="it accepts no jobs now"), back]
    assert run.service.checks == []


async def test_a_refusal_that_comes_late_is_the_end(run: Run) -> None:
    run.service.creates = [fault(), REFUSED]
    with pytest.raises(EngineUnreachable):
        await run.place.submit(A, GRAPH)
    result = (await run.view()).result
    assert result is not None
    assert (result.ending, result.failure) == (PromptEnding.ERROR, REFUSED.failure)


async def test_nothing_is_sent_while_the_service_takes_nothing(run: Run) -> None:
    run.service.creates = [not_now(7.0)]
    with pytest.raises(NotNow):
        await run.place.submit(A, GRAPH)
    with pytest.raises(NotNow, match="takes no jobs for 7 s"):
        await run.place.submit(PromptId("b"), GRAPH)
    assert (await run.view()).where is PromptWhere.PENDING
    assert len(run.service.created) == 1
    run.now += 7.0
    assert (await run.view()).reference == "job of a"


async def test_what_the_service_never_took_is_cancelled_here(run: Run) -> None:
    run.service.creates = [not_now()]
    with pytest.raises(NotNow):
        await run.place.submit(A, GRAPH)
    await run.place.cancel(A)
    assert (await run.view()).where is PromptWhere.ABSENT
    assert run.service.cancelled == []


async def test_what_the_service_may_have_is_found_out_and_cancelled(run: Run) -> None:
    run.service.creates = [fault()]
    with pytest.raises(EngineUnreachable):
        await run.place.submit(A, GRAPH)
    await run.place.cancel(A)
    assert run.service.cancelled == ["job of a"]
    assert (await run.result()).ending is PromptEnding.INTERRUPTED


async def test_a_service_that_would_make_a_second_job_is_not_asked_again(run: Run) -> None:
    run.service.repeats = False
    run.service.creates = [fault()]
    with pytest.raises(EngineUnreachable):
        await run.place.submit(A, GRAPH)
    await run.place.cancel(A)
    assert (await run.view()).where is PromptWhere.ABSENT
    assert len(run.service.created) == 1


async def test_an_unknown_prompt_is_absent_and_its_cancel_asks_nothing(run: Run) -> None:
    await run.place.cancel(A)
    assert (await run.view()).where is PromptWhere.ABSENT


@pytest.mark.parametrize("found", ["job 7", None])
async def test_who_takes_over_without_a_reference_asks_for_it(run: Run, found: str | None) -> None:
    run.service.found = found
    run.place.recall(A, None)
    view = await run.view()
    assert view.reference == found
    assert view.where is (PromptWhere.ABSENT if found is None else PromptWhere.PENDING)


async def test_a_service_that_can_not_be_asked_says_nothing_of_a_prompt(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find(_prompt_id: PromptId) -> str | None:
        raise fault()

    monkeypatch.setattr(run.service, "find", find)
    run.place.recall(A, None)
    assert (await run.view()).where is PromptWhere.PENDING


async def test_who_takes_over_follows_what_was_written_down(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.service.jobs = [CloudJob(running=False, ending=PromptEnding.SUCCESS)]
    run.service.checks = [fault("down")]
    run.place.recall(A, "job 1")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run.place.run(run.hear))
        assert (await run.result()).ending is PromptEnding.SUCCESS
        task.cancel()
    assert (await run.view()).where is PromptWhere.ABSENT


async def test_a_job_that_is_gone_is_absent(run: Run) -> None:
    run.service.jobs = [None]
    await run.place.submit(A, GRAPH)
    assert (await run.ended()).where is PromptWhere.ABSENT


async def test_questions_that_are_not_answered_are_asked_again(run: Run) -> None:
    bad = EngineBadAnswer("HTML", next_step="Wait.")
    run.service.jobs = [fault(), bad, not_now(0.0), CloudJob(running=False, ending=PromptEnding.SUCCESS)]
    await run.place.submit(A, GRAPH)
    assert (await run.result()).ending is PromptEnding.SUCCESS
    assert run.place.trouble is None


async def test_a_file_that_breaks_off_is_fetched_again(run: Run) -> None:
    full = StoreFault("disk full", next_step="")
    over = CloudJob(
        running=False, ending=PromptEnding.SUCCESS, made=(made("a.png", fault(), full, b"whole"),)
    )
    run.service.jobs = [over]
    await run.place.submit(A, GRAPH)
    result = await run.result()
    assert [await run.place.sizes(result.outputs)] == [{result.outputs[0]: 5}]


async def test_a_file_that_can_not_be_had_is_said_and_the_others_are_kept(run: Run) -> None:
    gone = NotFound("HTTP 404", next_step="")
    lost = made("lost.png", *([gone] * FETCH_TRIES))
    run.service.jobs = [
        CloudJob(running=False, ending=PromptEnding.SUCCESS, made=(lost, made("a.png", b"1")))
    ]
    await run.place.submit(A, GRAPH)
    result = await run.result()
    assert [file.filename for file in result.outputs] == ["002_a.png"]
    assert result.ending is PromptEnding.ERROR
    assert result.failure is not None
    assert result.failure.kind is FailureKind.ENGINE_BAD_ANSWER
    assert "'lost.png' could not be fetched: HTTP 404" in result.failure.message


async def test_a_defect_is_that_prompts_alone(run: Run) -> None:
    run.service.jobs = [ZeroDivisionError("defect")]
    await run.place.submit(A, GRAPH)
    view = await run.ended()
    assert (view.where, view.fault) == (PromptWhere.UNREADABLE, "A defect: ZeroDivisionError.")
    run.service.jobs = [QUEUED]
    assert isinstance(await run.place.submit(PromptId("b"), GRAPH), Accepted)


async def test_files_are_sent_before_and_the_graph_says_what_the_service_calls_them(run: Run) -> None:
    graph = {"1": {"class_type": "LoadImage", "inputs": {"image": "bridge-files/x.png", "n": 1}}}
    sent = await run.place.prepare(graph)
    assert sent["1"]["inputs"] == {"image": {"asset": "BRIDGE-FILES/X.PNG"}, "n": 1}
    assert await run.place.prepare(GRAPH) is GRAPH


async def test_what_a_service_has_none_of_does_nothing(run: Run) -> None:
    place = run.place
    place.want(True)
    place.follow(["x"])
    await place.free()
    await place.reconnect()
    assert await place.keep(A, []) == ()
    assert (place.engine, place.stream_id, place.known_nodes, place.on_demand) == (
        "somewhere",
        "",
        None,
        False,
    )
