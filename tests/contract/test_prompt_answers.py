"""POST /prompt: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.graphs import empty_image, new_id, new_prefix, node, quick
from tests.contract.harness import Answer, Engine, story


async def _post_raw(engine: Engine, body: bytes, **headers: str) -> Answer:
    return await engine.request(
        "POST", "/prompt", data=body, headers={"Content-Type": "application/json", **headers}
    )


async def test_an_accepted_prompt_is_answered_with_its_id_number_and_no_errors(engine: Engine) -> None:
    prompt_id = new_id()
    answer = await engine.submit(quick(), prompt_id=prompt_id)
    assert answer.status == 200
    assert answer.content_type == "application/json; charset=utf-8"
    assert set(answer.json) == {"prompt_id", "number", "node_errors"}
    assert answer.json["prompt_id"] == prompt_id
    assert answer.json["node_errors"] == {}


async def test_without_an_id_the_engine_chooses_a_uuid(engine: Engine) -> None:
    answer = await engine.post("/prompt", {"prompt": quick()})
    assert len(answer.json["prompt_id"]) == 36


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("my-id-1", "my-id-1"),
        ("13F32E620B8B4E9B97B6B04D2461A74D", "13F32E620B8B4E9B97B6B04D2461A74D"),
        (None, "None"),
        (5, "5"),
    ],
)
async def test_any_id_is_taken_as_text(engine: Engine, given: object, told: str) -> None:
    """0.3.75 does not ask for UUIDs; later releases do, and make one where there is null."""
    if not engine.is_0_3_75:
        answer = await engine.submit(quick(), prompt_id=given)
        assert answer.status == 200 or answer.json["error"]["type"] == "invalid_prompt_id"
        return
    entry, _ = await engine.run(quick(), prompt_id=given)
    assert entry["prompt"][1] == told


@pytest.mark.parametrize("path", ["/api/prompt", "/prompt"])
async def test_every_route_is_also_under_api(engine: Engine, path: str) -> None:
    assert (await engine.post(path, {"prompt": quick()})).status == 200


@pytest.mark.parametrize("body", [
    b"{not json", b"", b'{"prompt": null}', b'{"prompt": 5}', b'{"prompt": "abc"}', b"5", b"null",
    b'{"prompt": {"1": 5}}', b'{"prompt": {"1": ["class_type"]}}', b'{"prompt": {}, "number": "abc"}',
    b'{"prompt": {}, "number": null}', b'{"prompt": {"1": {"class_type": "EmptyImage"}}, "number": [1]}',
])  # fmt: skip
async def test_what_is_not_a_prompt_at_all_is_a_plain_text_500(engine: Engine, body: bytes) -> None:
    answer = await _post_raw(engine, body)
    assert (answer.status, answer.content_type) == (500, "text/plain; charset=utf-8")
    assert answer.text == "500 Internal Server Error\n\nServer got itself in trouble"


@pytest.mark.parametrize("extra_data", [None, [], "text", 5])
async def test_extra_data_of_the_wrong_shape_is_a_500(engine: Engine, extra_data: object) -> None:
    answer = await engine.submit(quick(), extra_data=extra_data, client_id="somebody")
    assert answer.status == 500


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"client_id": "x"}', b'"text"'])
async def test_a_body_without_a_prompt_is_refused(engine: Engine, body: bytes) -> None:
    answer = await _post_raw(engine, body)
    assert answer.status == 400
    assert answer.json == {
        "error": {
            "type": "no_prompt",
            "message": "No prompt provided",
            "details": "No prompt provided",
            "extra_info": {},
        },
        "node_errors": {},
    }


@pytest.mark.parametrize("prompt", [
    {}, [], {"1": empty_image()}, {"1": empty_image(), "2": node("ImageInvert", image=["1", 0])},
])  # fmt: skip
async def test_a_graph_without_an_output_is_refused(engine: Engine, prompt: Any) -> None:
    answer = await engine.submit(prompt)
    if prompt == [] and not engine.is_0_3_75:  # a 500 since 0.28
        assert answer.status in {400, 500}
        return
    assert answer.status == 400
    assert answer.json == {
        "error": {
            "type": "prompt_no_outputs",
            "message": "Prompt has no outputs",
            "details": "",
            "extra_info": {},
        },
        "node_errors": {},
    }


@pytest.mark.parametrize(
    ("prompt", "message", "node_id"),
    [
        (
            {"1": node("NoSuchNodeType"), "2": node("SaveImage", images=["1", 0])},
            "Cannot execute because node NoSuchNodeType does not exist.",
            "1",
        ),
        (
            {"1": {"inputs": {}}, "2": node("SaveImage", images=["1", 0])},
            "Cannot execute because a node is missing the class_type property.",
            "1",
        ),
        (
            {"a": "x"},
            "Cannot execute because a node is missing the class_type property.",
            "a",
        ),
        (
            {"nodes": [], "links": [], "version": 0.4},
            "Cannot execute because a node is missing the class_type property.",
            "nodes",
        ),
        (
            {"7": {"class_type": None, "inputs": {}}},
            "Cannot execute because node None does not exist.",
            "7",
        ),
    ],
)
async def test_a_node_of_no_known_class_refuses_the_whole_prompt(
    engine: Engine, prompt: Any, message: str, node_id: str
) -> None:
    """Later releases say `missing_node_type`, and fail with a 500 where a node is no object."""
    answer = await engine.submit(prompt)
    if not engine.is_0_3_75:
        known = {"invalid_prompt", "missing_node_type"}
        assert answer.status == 500 or answer.json["error"]["type"] in known
        return
    assert answer.status == 400
    assert answer.json == {
        "error": {
            "type": "invalid_prompt",
            "message": message,
            "details": f"Node ID '#{node_id}'",
            "extra_info": {},
        },
        "node_errors": {},
    }


async def test_a_refused_prompt_leaves_no_trace(engine: Engine) -> None:
    async with engine.listen() as listener:
        await engine.submit({}, listener, prompt_id=(prompt_id := new_id()))
        assert {event.type for event in await listener.drained()} == {"status"}
    assert await engine.get(f"/history/{prompt_id}") == {}


async def test_one_good_output_is_enough_and_the_bad_branch_is_named(engine: Engine) -> None:
    graph = {
        **quick(new_prefix()),
        "3": node("ImageScaleBy", image=["1", 0], upscale_method="no-such", scale_by=2.0),
        "4": node("SaveImage", images=["3", 0], filename_prefix=new_prefix()),
    }
    async with engine.listen() as listener:
        answer = await engine.submit(graph, listener)
        events = await listener.until_done(answer.json["prompt_id"])
    assert answer.status == 200
    assert set(answer.json["node_errors"]) == {"3"}
    assert answer.json["node_errors"]["3"]["dependent_outputs"] == ["4"]
    assert [e.data["node"] for e in events if e.type == "executing"] == ["1", "2", None]
    entry = await engine.entry(answer.json["prompt_id"])
    assert entry["prompt"][4] == ["2"]
    assert set(entry["outputs"]) == {"2"}


async def test_only_the_targets_run(engine: Engine) -> None:
    graph = {**quick(), "3": node("SaveImage", images=["1", 0], filename_prefix=new_prefix())}
    entry, _ = await engine.run(graph, partial_execution_targets=["3"])
    assert set(entry["outputs"]) == {"3"}
    assert entry["prompt"][4] == ["3"]


@pytest.mark.parametrize("targets", [["99"], [], ["1"]])
async def test_targets_that_are_no_outputs_leave_nothing_to_run(engine: Engine, targets: list[str]) -> None:
    answer = await engine.submit(quick(), partial_execution_targets=targets)
    assert answer.status == 400
    assert answer.json["error"]["type"] == "prompt_no_outputs"


async def test_a_page_of_another_origin_is_refused_without_a_word(engine: Engine) -> None:
    answer = await _post_raw(engine, json.dumps({"prompt": quick()}).encode(), Origin="http://evil.example")
    assert (answer.status, answer.content) == (403, b"")


async def test_a_page_of_the_same_origin_is_served(engine: Engine) -> None:
    answer = await _post_raw(engine, json.dumps({"prompt": quick()}).encode(), Origin=engine.url)
    assert answer.status == 200


async def test_literals_are_converted_to_their_types_and_kept_so(engine: Engine) -> None:
    graph = quick()
    graph["1"]["inputs"].update(width="16", height=8.9, batch_size=True)
    entry, events = await engine.run(graph)
    assert story(events)[-2] == ("execution_success",)
    stored = entry["prompt"][2]["1"]["inputs"]
    assert (stored["width"], stored["height"], stored["batch_size"]) == (16, 8, 1)


async def test_a_wrapped_value_is_unwrapped(engine: Engine) -> None:
    """`__value__` lets a literal be what would otherwise be read as a link."""
    graph = quick()
    graph["1"]["inputs"]["width"] = {"__value__": 24}
    entry, _ = await engine.run(graph)
    assert entry["prompt"][2]["1"]["inputs"]["width"] == 24


async def test_inputs_that_the_class_does_not_have_are_ignored(engine: Engine) -> None:
    graph = quick()
    graph["1"]["inputs"]["no_such_input"] = 5
    entry, _ = await engine.run(graph)
    assert entry["status"]["completed"] is True


@pytest.mark.parametrize(
    "stray",
    [
        empty_image(width=0),
        node("ImageInvert", image=["99", 0]),
        node("ImageInvert"),
        node("LoadImage", image="../../not-there.png"),
    ],
)
async def test_nodes_that_no_output_needs_are_neither_checked_nor_run(engine: Engine, stray: Any) -> None:
    entry, events = await engine.run({**quick(), "9": stray})
    assert entry["status"]["completed"] is True
    assert "9" not in [event.data["node"] for event in events if event.type == "executing"]
