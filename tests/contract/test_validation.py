"""Every error about a node that can be had without a model, in ComfyUI's own shape."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.graphs import Graph, Json, empty_image, node
from tests.contract.harness import Engine, bare
from tests.contract.node_errors import NODE_ERRORS, OUTPUT_ERRORS, error, image_with, save


async def _refused(engine: Engine, graph: Graph) -> Json:
    answer = await engine.submit(graph)
    assert answer.status == 400, answer.text
    body: Json = bare(answer.json)
    assert body["error"]["type"] == "prompt_outputs_failed_validation"
    assert body["error"]["message"] == "Prompt outputs failed validation"
    assert body["error"]["extra_info"] == {}
    return body


def _sorted(errors: list[Json]) -> list[Json]:
    """ComfyUI looks at the inputs of a node in an order that changes from start to start."""
    return sorted(errors, key=lambda error: (error["details"], error["type"]))


@pytest.mark.parametrize("case", NODE_ERRORS)
async def test_a_node_behind_the_output_is_blamed(engine: Engine, case: str) -> None:
    """The error is of the node itself; the output depends on it and has no error of its own."""
    graph, blamed, errors = NODE_ERRORS[case]
    body = await _refused(engine, graph)
    assert body["error"]["details"] == ""
    assert set(body["node_errors"]) == {blamed}
    found = body["node_errors"][blamed]
    assert found["dependent_outputs"] == ["2"]
    assert found["class_type"] == graph[blamed]["class_type"]
    assert _sorted(found["errors"]) == _sorted(errors)


@pytest.mark.parametrize("case", OUTPUT_ERRORS)
async def test_an_output_node_is_blamed_itself(engine: Engine, case: str) -> None:
    """Its error also stands in the details of the whole, since it is the output's own."""
    output, error = OUTPUT_ERRORS[case]
    graph = {
        "1": empty_image(color=0),
        "8": node("SolidMask", value=1.0, width=8, height=8),
        "2": output,
    }
    body = await _refused(engine, graph)
    assert body["error"]["details"] == f"{error['message']}: {error['details']}"
    assert body["node_errors"] == {
        "2": {"errors": [error], "dependent_outputs": ["2"], "class_type": "SaveImage"}
    }


async def test_one_bad_node_is_blamed_on_every_output_that_needs_it(engine: Engine) -> None:
    body = await _refused(engine, {**image_with(width=0), "3": save()})
    assert sorted(body["node_errors"]["1"]["dependent_outputs"]) == ["2", "3"]


async def test_a_circle_is_refused_without_naming_a_node(engine: Engine) -> None:
    """0.3.75 runs out of stack; later releases say `dependency_cycle`."""
    graph = {
        "1": node("ImageInvert", image=["2", 0]),
        "2": node("ImageInvert", image=["1", 0]),
        "3": save("2"),
    }
    body = await _refused(engine, graph)
    assert body["error"]["details"] == ""
    kinds = {error["type"] for each in body["node_errors"].values() for error in each["errors"]}
    assert kinds == set() or (kinds == {"dependency_cycle"} and not engine.is_0_3_75)


async def test_newer_kinds_of_choices_are_not_checked_before_the_run(engine: Engine) -> None:
    """A bad choice of ImageBlend is only found when the node runs, as a failure of the prompt."""
    graph = {
        "1": empty_image(),
        "3": node("ImageBlend", image1=["1", 0], image2=["1", 0], blend_factor=0.5, blend_mode="no-such"),
        "2": save("3"),
    }
    if not engine.is_0_3_75:  # 0.8.0 checks them
        answer = await engine.submit(graph)
        errors = answer.json["node_errors"].get("3", {"errors": [{"type": "value_not_in_list"}]})["errors"]
        assert [each["type"] for each in errors] == ["value_not_in_list"]
        return
    entry, _ = await engine.run(graph)
    (kind, failure) = entry["status"]["messages"][-1]
    assert kind == "execution_error"
    assert (failure["node_id"], failure["exception_type"]) == ("3", "ValueError")


async def test_bounds_of_newer_nodes_are_checked(engine: Engine) -> None:
    graph = {
        "1": empty_image(color=0),
        "3": node("ImageBlend", image1=["1", 0], image2=["1", 0], blend_factor=7, blend_mode="normal"),
        "2": save("3"),
    }
    body = await _refused(engine, graph)
    assert body["node_errors"]["3"]["errors"] == [
        error(
            "value_bigger_than_max",
            "Value 7.0 bigger than max of 1.0",
            "blend_factor",
            input_name="blend_factor",
            input_config=["FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01}],
            received_value=7.0,
        )
    ]


@pytest.mark.parametrize("slot", [0.0, False, -1])
async def test_odd_but_usable_slots(engine: Engine, slot: Any) -> None:
    """A float slot is an error, whereas False and -1 index a tuple as Python does."""
    answer = await engine.submit(
        {"1": empty_image(), "2": node("SaveImage", images=["1", slot], filename_prefix="contract/odd")}
    )
    assert answer.status == (400 if isinstance(slot, float) else 200)
