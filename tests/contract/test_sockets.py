"""Who hears what: several clients, prompts of nobody, and reconnects."""

from __future__ import annotations

from contextlib import AsyncExitStack

from tests.contract.graphs import new_id, quick
from tests.contract.harness import Engine, Event, is_last, story


def _types(events: list[Event]) -> set[str]:
    return {event.type for event in events}


async def test_only_the_submitter_hears_of_its_prompt(engine: Engine) -> None:
    async with engine.listen() as owner, engine.listen() as other:
        prompt_id = await engine.queued(quick(), owner)
        await owner.until_done(prompt_id)
        heard = await other.drained()
    assert _types(heard) == {"status"}
    assert len(heard) == 4


async def test_a_prompt_of_nobody_shows_its_progress_to_all_and_its_end_to_none(engine: Engine) -> None:
    async with engine.listen() as one, engine.listen(features={"supports_preview_metadata": True}) as two:
        prompt_id = await engine.queued(engine.slow(steps=2))
        await engine.eventually(lambda: engine.get(f"/history/{prompt_id}"), bool)
        heard = [await one.drained(), await two.drained()]
    for events in heard:
        assert _types(events) - {"feature_flags"} == {"status", "progress_state", "progress", "preview"}
        # Whatever flags the readers have sent, a preview for everybody carries no metadata.
        assert [e.data["event"] for e in events if e.type == "preview"] == [1, 1]


async def test_an_interrupt_of_a_prompt_of_nobody_is_told_to_all(engine: Engine) -> None:
    async with engine.listen() as listener:
        prompt_id = await engine.queued(engine.slow())
        await listener.until_step(prompt_id)
        await engine.post("/interrupt", {"prompt_id": prompt_id})
        told = await listener.until(lambda e: e.type == "execution_interrupted")
    assert told.data["prompt_id"] == prompt_id


async def test_a_client_that_is_not_connected_costs_nothing(engine: Engine) -> None:
    answer = await engine.post(
        "/prompt", {"prompt": quick(), "prompt_id": (prompt_id := new_id()), "client_id": "nobody-there"}
    )
    assert answer.status == 200
    entry = await engine.eventually(lambda: engine.get(f"/history/{prompt_id}"), bool)
    assert entry[prompt_id]["status"]["completed"] is True


async def test_after_a_reconnect_the_owner_is_told_which_node_runs(engine: Engine) -> None:
    async with engine.listen() as first:
        prompt_id = await engine.queued(engine.slow(), first)
        await first.until_step(prompt_id)
    async with engine.listen(first.client_id) as second:
        told = await second.next()
        assert told == Event("executing", {"node": "5"})
        # Nothing is repeated, but what comes from now on is for the new socket.
        await second.until_step(prompt_id)
        await engine.post("/interrupt", {"prompt_id": prompt_id})
        await second.until_done(prompt_id)
    assert "execution_start" not in _types(second.seen)


async def test_a_reconnect_between_prompts_is_told_of_no_node(engine: Engine) -> None:
    async with engine.listen() as first:
        prompt_id = await engine.queued(quick(), first)
        await first.until_done(prompt_id)
    async with engine.listen(first.client_id) as second:
        assert _types(await second.drained()) == {"status"}


async def test_a_second_socket_of_the_same_client_takes_over(engine: Engine) -> None:
    async with engine.listen() as first, engine.listen(first.client_id) as second:
        prompt_id = await engine.queued(quick(), second)
        await second.until_done(prompt_id)
        heard = await first.drained()
    assert [e.type for e in heard] == ["status"]


async def test_when_the_first_of_two_sockets_closes_the_second_hears_nothing_more(engine: Engine) -> None:
    """ComfyUI unregisters by client id: a client must not reconnect before its old socket is closed."""
    async with engine.listen() as witness, AsyncExitStack() as second_socket:
        async with engine.listen() as first:
            second = await second_socket.enter_async_context(engine.listen(first.client_id))
        prompt_id = await engine.queued(quick(), second)
        await engine.eventually(lambda: engine.get(f"/history/{prompt_id}"), bool)
        # The witness hears of this prompt's end, so all that was to be sent to the second has been sent.
        await witness.until_remaining(0)
        assert story(await second.drained()) == [("status",)]


async def test_flags_are_taken_from_the_first_message_only(engine: Engine) -> None:
    async with engine.listen() as listener:
        await listener.ws.send_json({"type": "something else"})
        await listener.ws.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        prompt_id = await engine.queued(engine.slow(steps=1), listener)
        await listener.until_done(prompt_id)
    assert "feature_flags" not in _types(listener.seen)
    assert ("preview", 1) in story(listener.seen)


async def test_what_is_not_a_json_object_is_not_a_first_message(engine: Engine) -> None:
    async with engine.listen() as listener:
        await listener.ws.send_str("this is not JSON")
        await listener.ws.send_str("[1, 2]")
        await listener.ws.send_bytes(b"{}")
        await listener.ws.send_json({"type": "feature_flags"})
        await listener.until(lambda event: event.type == "feature_flags")


async def test_flags_end_with_their_connection(engine: Engine) -> None:
    async with engine.listen(features={"supports_preview_metadata": True}) as first:
        pass
    async with engine.listen(first.client_id) as second:
        prompt_id = await engine.queued(engine.slow(steps=1), second)
        await second.until_done(prompt_id)
    assert ("preview", 1) in story(second.seen)


async def test_two_owners_hear_their_own_prompts_only(engine: Engine) -> None:
    async with engine.listen() as one, engine.listen() as two:
        first = await engine.queued(quick(), one)
        second = await engine.queued(quick(), two)
        await one.until(lambda e: is_last(e, first))
        await two.until(lambda e: is_last(e, second))
        heard_by_one = await one.drained()
    assert one.of(second) == []
    assert two.of(first) == []
    assert heard_by_one.count(heard_by_one[0]) == 1
