"""The queue: order, listing, deletion, and the interrupt."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.contract.graphs import new_id, new_prefix, quick
from tests.contract.harness import Engine, Listener, story


@dataclass(frozen=True, slots=True)
class Busy:
    """An engine that runs a long prompt, so that whatever is submitted has to wait."""

    listener: Listener
    running: str


@asynccontextmanager
async def busy(engine: Engine) -> AsyncIterator[Busy]:
    async with engine.listen() as listener:
        prompt_id = await engine.queued(engine.slow(), listener)
        await listener.until_step(prompt_id)
        yield Busy(listener, prompt_id)


async def _pending(engine: Engine) -> list[str]:
    return [item[1] for item in (await engine.get("/queue"))["queue_pending"]]


async def _finish_all(engine: Engine, busy: Busy, last: str) -> list[str]:
    """Let the waiting prompts run. The ids in the order in which they started."""
    await engine.post("/interrupt", {"prompt_id": busy.running})
    await busy.listener.until_done(last)
    return [e.data["prompt_id"] for e in busy.listener.seen if e.type == "execution_start"][1:]


async def test_the_queue_lists_what_runs_and_what_waits(engine: Engine) -> None:
    async with busy(engine) as b:
        graph = quick()
        waiting = await engine.queued(graph, b.listener, extra_data={"tag": "mine"})
        body = await engine.get("/queue")
        remaining = await engine.get("/prompt")
    ((_, running_id, *_),) = body["queue_running"]
    assert running_id == b.running
    ((number, prompt_id, prompt, extra, outputs),) = body["queue_pending"]
    assert (prompt_id, prompt, outputs) == (waiting, graph, ["2"])
    assert isinstance(number, int)
    assert extra.pop("create_time") > 1_600_000_000_000
    assert extra == {"tag": "mine", "client_id": b.listener.client_id}
    assert remaining == {"exec_info": {"queue_remaining": 2}}


async def test_prompts_run_by_number_and_front_ones_first_and_last_in_first_out(engine: Engine) -> None:
    async with busy(engine) as b:
        plain_1 = await engine.queued(quick(), b.listener)
        plain_2 = await engine.queued(quick(), b.listener)
        front_1 = await engine.queued(quick(), b.listener, front=True)
        front_2 = await engine.queued(quick(), b.listener, front=True)
        first = await engine.queued(quick(), b.listener, number=-1e9)
        last = await engine.queued(quick(), b.listener, number=1e9, front=True)
        order = await _finish_all(engine, b, last)
    assert order == [first, front_2, front_1, plain_1, plain_2, last]


async def test_pending_prompts_are_listed_in_heap_order(engine: Engine) -> None:
    """Not in the order of the runs: readers have to sort by (number, id)."""
    async with busy(engine) as b:
        ids = [await engine.queued(quick(), b.listener, number=number) for number in (30, 10, 20, 5)]
        assert await _pending(engine) == [ids[3], ids[1], ids[2], ids[0]]


async def test_numbers_in_the_answer(engine: Engine) -> None:
    async with engine.listen() as listener:
        first = (await engine.submit(quick(), listener)).json["number"]
        front = (await engine.submit(quick(), listener, front=True)).json["number"]
        given = (await engine.submit(quick(), listener, number="7")).json["number"]
        refused = await engine.submit({}, listener)
        after = (await engine.submit(quick(), listener)).json["number"]
    assert front == -(first + 1)
    assert given == 7.0
    assert isinstance(given, float)
    assert refused.status == 400
    assert after == first + 3  # The counter grows for front and for refused prompts, not for given numbers.


async def test_a_deleted_prompt_leaves_no_trace(engine: Engine) -> None:
    async with busy(engine) as b:
        doomed = await engine.queued(quick(), b.listener)
        kept = await engine.queued(quick(), b.listener)
        answer = await engine.post("/queue", {"delete": [doomed]})
        assert (answer.status, answer.content) == (200, b"")
        assert await _pending(engine) == [kept]
        assert await _finish_all(engine, b, kept) == [kept]
    assert await engine.get(f"/history/{doomed}") == {}


async def test_deleting_tells_everybody_the_new_count_only_if_something_went(engine: Engine) -> None:
    async with busy(engine) as b, engine.listen() as witness:
        doomed = await engine.queued(quick(), b.listener)
        await engine.post("/queue", {"delete": [new_id()]})
        await engine.post("/queue", {"delete": [doomed]})
        counts = [
            e.data["status"]["exec_info"]["queue_remaining"]
            for e in await witness.drained()
            if e.type == "status"
        ]
    # ComfyUI may repeat itself, and readers do not mind.
    assert [count for count, _ in itertools.groupby(counts)] == [1, 2, 1]


async def test_deleting_does_not_touch_what_runs(engine: Engine) -> None:
    async with busy(engine) as b:
        assert (await engine.post("/queue", {"delete": [b.running]})).status == 200
        assert (await engine.get("/queue"))["queue_running"][0][1] == b.running
        await b.listener.until_step(b.running)


async def test_clearing_drops_what_waits_and_not_what_runs(engine: Engine) -> None:
    async with busy(engine) as b:
        dropped = [await engine.queued(quick(), b.listener) for _ in range(3)]
        assert (await engine.post("/queue", {"clear": True})).status == 200
        assert await _pending(engine) == []
        assert (await engine.get("/queue"))["queue_running"][0][1] == b.running
    for prompt_id in dropped:
        assert await engine.get(f"/history/{prompt_id}") == {}


async def test_an_interrupt_ends_the_named_prompt(engine: Engine) -> None:
    async with busy(engine) as b:
        answer = await engine.post("/interrupt", {"prompt_id": b.running})
        assert (answer.status, answer.content) == (200, b"")
        events = await b.listener.until_done(b.running)
    told = next(e for e in events if e.type == "execution_interrupted")
    assert set(told.data) == {"prompt_id", "node_id", "node_type", "executed", "timestamp"}
    assert told.data["node_id"] == "5"
    assert story(events)[-2:] == [("execution_interrupted",), ("executing", None)]
    entry = await engine.entry(b.running)
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["completed"] is False
    assert entry["status"]["messages"][-1] == ["execution_interrupted", told.data]
    assert entry["outputs"] == {}


async def test_an_interrupt_of_another_prompt_does_nothing(engine: Engine) -> None:
    async with busy(engine) as b:
        waiting = await engine.queued(quick(), b.listener)
        for prompt_id in (new_id(), waiting):
            assert (await engine.post("/interrupt", {"prompt_id": prompt_id})).status == 200
        await b.listener.until_step(b.running)
        assert await _pending(engine) == [waiting]


@pytest.mark.parametrize("body", [b"", b"{}", b"{not json", b'{"prompt_id": null}'])
async def test_an_interrupt_without_an_id_hits_whoever_runs(engine: Engine, body: bytes) -> None:
    async with busy(engine) as b, engine.listen() as other:
        waiting = await engine.queued(quick(), other)
        answer = await engine.request(
            "POST", "/interrupt", data=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status == 200
        events = await b.listener.until_done(b.running)
        assert "execution_interrupted" in [e.type for e in events]
        assert story(await other.until_done(waiting))[-2] == ("execution_success",)


async def test_an_interrupt_while_nothing_runs_does_not_hit_the_next_prompt(engine: Engine) -> None:
    assert (await engine.post("/interrupt", {})).status == 200
    entry, _ = await engine.run(quick())
    assert entry["status"]["status_str"] == "success"


@pytest.mark.parametrize(("path", "body"), [
    ("/interrupt", b"[]"), ("/interrupt", b'"x"'), ("/queue", b""), ("/queue", b"5"),
    ("/queue", b'{"delete": 5}'), ("/history", b""), ("/free", b""), ("/free", b"[]"),
])  # fmt: skip
async def test_bodies_of_the_wrong_shape_are_plain_text_500s(engine: Engine, path: str, body: bytes) -> None:
    answer = await engine.request("POST", path, data=body, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.content_type) == (500, "text/plain; charset=utf-8")
    assert answer.text == "500 Internal Server Error\n\nServer got itself in trouble"


@pytest.mark.parametrize(
    "body", [{}, [], {"delete": "abc"}, {"delete": []}, {"clear": False}, {"delete": [5]}]
)
async def test_queue_bodies_that_name_nothing_are_fine(engine: Engine, body: Any) -> None:
    assert (await engine.post("/queue", body)).status == 200


async def test_the_same_id_twice_is_queued_twice_and_deleted_once(engine: Engine) -> None:
    async with busy(engine) as b:
        prompt_id = new_id()
        for _ in range(2):
            assert (await engine.submit(quick(), b.listener, prompt_id=prompt_id)).status == 200
        assert await _pending(engine) == [prompt_id, prompt_id]
        await engine.post("/queue", {"delete": [prompt_id]})
        assert await _pending(engine) == [prompt_id]


async def test_the_same_id_and_number_is_a_500_and_queued_all_the_same(engine: Engine) -> None:
    async with busy(engine) as b:
        prompt_id = new_id()
        first = await engine.submit(quick(), b.listener, prompt_id=prompt_id, number=5)
        second = await engine.submit(quick(), b.listener, prompt_id=prompt_id, number=5)
        assert (first.status, second.status) == (200, 500)
        assert await _pending(engine) == [prompt_id, prompt_id]
        await engine.post("/queue", {"clear": True})


async def test_a_resubmitted_id_replaces_its_entry_in_the_history(engine: Engine) -> None:
    prompt_id = new_id()
    await engine.run(quick(new_prefix()), prompt_id=prompt_id)
    entry, events = await engine.run(quick(prefix := new_prefix()), prompt_id=prompt_id)
    assert story(events)[-2:] == [("execution_success",), ("executing", None)]
    assert entry["outputs"]["2"]["images"][0]["filename"].startswith(prefix.split("/")[1])
    assert list(await engine.get("/history")) == [prompt_id]
