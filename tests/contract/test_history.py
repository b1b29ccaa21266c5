"""What is known of a prompt when it has ended."""

from __future__ import annotations

import pytest

from tests.contract.graphs import empty_image, new_id, new_prefix, node, quick
from tests.contract.harness import Engine


async def test_an_entry_has_the_prompt_the_outputs_the_status_and_the_nodes(engine: Engine) -> None:
    graph = quick(prefix := new_prefix())
    async with engine.listen() as listener:
        prompt_id = await engine.queued(graph, listener, extra_data={"tag": 1})
        await listener.until_done(prompt_id)
    entry = await engine.entry(prompt_id)
    assert set(entry) == {"prompt", "outputs", "status", "meta"}
    number, told_id, told_graph, extra, outputs = entry["prompt"]
    assert isinstance(number, int)
    assert (told_id, told_graph, outputs) == (prompt_id, graph, ["2"])
    assert extra.pop("create_time") > 1_600_000_000_000
    assert extra == {"tag": 1, "client_id": listener.client_id}
    saved = {"filename": f"{prefix.split('/')[1]}_00001_.png", "subfolder": "contract", "type": "output"}
    assert entry["outputs"] == {"2": {"images": [saved]}}
    assert entry["meta"] == {
        "2": {"node_id": "2", "display_node": "2", "parent_node": None, "real_node_id": "2"}
    }
    status = entry["status"]
    assert (status["status_str"], status["completed"]) == ("success", True)
    names = [name for name, _ in status["messages"]]
    assert names == ["execution_start", "execution_cached", "execution_success"]
    heard = [event.data for event in listener.of(prompt_id) if event.type in names]
    assert [data for _, data in status["messages"]] == heard


async def test_the_history_is_written_before_the_last_event(engine: Engine) -> None:
    for _ in range(10):
        async with engine.listen() as listener:
            prompt_id = await engine.queued(quick(), listener)
            await listener.until_done(prompt_id)
            assert await engine.get(f"/history/{prompt_id}") != {}


async def test_what_waits_runs_or_is_unknown_has_no_entry(engine: Engine) -> None:
    async with engine.listen() as listener:
        running = await engine.queued(engine.slow(), listener)
        waiting = await engine.queued(quick(), listener)
        await listener.until_step(running)
        for prompt_id in (running, waiting, new_id(), "nosuch"):
            assert await engine.get(f"/history/{prompt_id}") == {}


@pytest.mark.parametrize(
    ("query", "picked"),
    [
        ("", [0, 1, 2, 3]),
        ("?max_items=2", [2, 3]),
        ("?max_items=2&offset=0", [0, 1]),
        ("?max_items=2&offset=3", [3]),
        ("?offset=1", [1, 2, 3]),
        ("?max_items=99", [0, 1, 2, 3]),
        ("?max_items=1&offset=-1", [3]),
        ("?max_items=0", []),
        ("?offset=99", []),
    ],
)
async def test_the_history_is_read_in_parts_oldest_first(
    engine: Engine, query: str, picked: list[int]
) -> None:
    ids = []
    async with engine.listen() as listener:
        for _ in range(4):
            ids.append(await engine.queued(quick(), listener))
            await listener.until_done(ids[-1])
    assert list(await engine.get(f"/history{query}")) == [ids[index] for index in picked]


@pytest.mark.parametrize("query", ["max_items=abc", "max_items=", "offset=abc", "offset="])
async def test_parts_that_are_no_numbers_are_500s(engine: Engine, query: str) -> None:
    assert (await engine.request("GET", f"/history?{query}")).status == 500


async def test_entries_are_deleted_by_id(engine: Engine) -> None:
    ids = [(await engine.run(quick()))[0]["prompt"][1] for _ in range(2)]
    answer = await engine.post("/history", {"delete": [ids[0], "unknown"]})
    assert (answer.status, answer.content) == (200, b"")
    assert list(await engine.get("/history")) == [ids[1]]


async def test_the_history_is_cleared(engine: Engine) -> None:
    await engine.run(quick())
    assert (await engine.post("/history", {"clear": True})).status == 200
    assert await engine.get("/history") == {}


async def test_a_failure_names_the_node_and_the_cause(engine: Engine) -> None:
    graph = {
        "1": empty_image(),
        "2": node("SaveImage", images=["1", 0], filename_prefix="../../escape/x"),
    }
    entry, events = await engine.run(graph)
    told = next(event for event in events if event.type == "execution_error")
    assert set(told.data) == {
        "prompt_id", "node_id", "node_type", "executed", "exception_message", "exception_type",
        "traceback", "current_inputs", "current_outputs", "timestamp",
    }  # fmt: skip
    assert told.data["node_id"] == "2"
    assert told.data["node_type"] == "SaveImage"
    assert told.data["executed"] == ["1"]
    assert told.data["exception_type"] == "Exception"
    assert told.data["exception_message"].endswith("\n")
    assert all(isinstance(line, str) for line in told.data["traceback"])
    assert set(told.data["current_inputs"]) == {"images", "filename_prefix", "prompt", "extra_pnginfo"}
    assert told.data["current_inputs"]["filename_prefix"] == ["../../escape/x"]
    assert told.data["current_inputs"]["prompt"] == [str(graph)]
    assert told.data["current_inputs"]["extra_pnginfo"] == [None]
    assert sorted(told.data["current_outputs"]) == ["1", "2"]
    assert [event.type for event in events][-2:] == ["execution_error", "executing"]
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["completed"] is False
    assert entry["status"]["messages"][-1] == ["execution_error", told.data]


async def test_a_failed_prompt_keeps_what_it_wrote_before(engine: Engine) -> None:
    """The failing output needs one node more, so that the good one comes first on every engine."""
    graph = quick(new_prefix())
    graph["3"] = node("ImageInvert", image=["1", 0])
    graph["4"] = node("ImageInvert", image=["3", 0])
    graph["5"] = node("SaveImage", images=["4", 0], filename_prefix="../../escape/x")
    entry, events = await engine.run(graph)
    assert entry["status"]["status_str"] == "error"
    assert set(entry["outputs"]) == {"2"}
    assert [event.data["node"] for event in events if event.type == "executed"] == ["2"]


async def test_a_failed_prompt_leaves_its_good_nodes_in_the_cache(engine: Engine) -> None:
    graph = {
        "1": empty_image(),
        "2": node("SaveImage", images=["1", 0], filename_prefix="../../escape/x"),
    }
    await engine.run(graph)
    _, events = await engine.run(graph)
    assert [event.data["nodes"] for event in events if event.type == "execution_cached"] == [["1"]]


async def test_text_outputs(engine: Engine) -> None:
    graph = {
        "1": node("PrimitiveStringMultiline", value="two\nlines"),
        "2": node("PreviewAny", source=["1", 0]),
        "3": node("PreviewAny", source={"a": [1]}),
        "4": node("PreviewAny", source=2.5),
    }
    entry, _ = await engine.run(graph)
    assert entry["outputs"] == {
        "2": {"text": ["two\nlines"]},
        "3": {"text": ['{\n    "a": [\n        1\n    ]\n}']},
        "4": {"text": ["2.5"]},
    }
