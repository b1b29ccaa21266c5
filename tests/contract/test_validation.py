"""Every error about a node that can be had without a model, in ComfyUI's own shape."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.harness import Engine, Graph, Json, bare, empty_image, node

SCALE_METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]
WIDTH = ["INT", {"default": 512, "min": 1, "max": 16384, "step": 1}]
METHOD = [SCALE_METHODS, {}]
IMAGES = ["IMAGE", {}]


def _save(source: str = "1") -> Json:
    return node("SaveImage", images=[source, 0], filename_prefix="contract/never")


def _image_with(**inputs: Any) -> Graph:
    image = empty_image(color=0)
    image["inputs"].update(inputs)
    return {"1": image, "2": _save()}


def _scale_with(**inputs: Any) -> Graph:
    wanted: Json = {"image": ["1", 0], "upscale_method": "area", "scale_by": 2.0, **inputs}
    return {"1": empty_image(color=0), "3": node("ImageScaleBy", **wanted), "2": _save("3")}


def _error(kind: str, message: str, details: str, **extra: Any) -> Json:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


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


NODE_ERRORS: dict[str, tuple[Graph, str, list[Json]]] = {
    "too small": (
        _image_with(width=0),
        "1",
        [
            _error(
                "value_smaller_than_min",
                "Value 0 smaller than min of 1",
                "width",
                input_name="width",
                input_config=WIDTH,
                received_value=0,
            )
        ],
    ),
    "too big": (
        _image_with(width=99999),
        "1",
        [
            _error(
                "value_bigger_than_max",
                "Value 99999 bigger than max of 16384",
                "width",
                input_name="width",
                input_config=WIDTH,
                received_value=99999,
            )
        ],
    ),
    "not a number": (
        _image_with(width="abc"),
        "1",
        [
            _error(
                "invalid_input_type",
                "Failed to convert an input value to a INT value",
                "width, abc, invalid literal for int() with base 10: 'abc'",
                input_name="width",
                input_config=WIDTH,
                received_value="abc",
                exception_message="invalid literal for int() with base 10: 'abc'",
            )
        ],
    ),
    "null for a number": (
        _image_with(width=None),
        "1",
        [
            _error(
                "invalid_input_type",
                "Failed to convert an input value to a INT value",
                "width, None, int() argument must be a string, a bytes-like object or a real number, "
                "not 'NoneType'",
                input_name="width",
                input_config=WIDTH,
                received_value=None,
                exception_message="int() argument must be a string, a bytes-like object or a real number, "
                "not 'NoneType'",
            )
        ],
    ),
    "not among the choices": (
        _scale_with(upscale_method="no-such"),
        "3",
        [
            _error(
                "value_not_in_list",
                "Value not in list",
                f"upscale_method: 'no-such' not in {SCALE_METHODS}",
                input_name="upscale_method",
                input_config=METHOD,
                received_value="no-such",
            )
        ],
    ),
    "missing": (
        {"1": node("EmptyImage", height=8, batch_size=1, color=0), "2": _save()},
        "1",
        [_error("required_input_missing", "Required input is missing", "width", input_name="width")],
    ),
    "several in one node": (
        {"1": node("EmptyImage", height="abc", batch_size=0, color=0), "2": _save()},
        "1",
        [
            _error(
                "value_smaller_than_min",
                "Value 0 smaller than min of 1",
                "batch_size",
                input_name="batch_size",
                input_config=["INT", {"default": 1, "min": 1, "max": 4096}],
                received_value=0,
            ),
            _error(
                "invalid_input_type",
                "Failed to convert an input value to a INT value",
                "height, abc, invalid literal for int() with base 10: 'abc'",
                input_name="height",
                input_config=WIDTH,
                received_value="abc",
                exception_message="invalid literal for int() with base 10: 'abc'",
            ),
            _error("required_input_missing", "Required input is missing", "width", input_name="width"),
        ],
    ),
    "text for a choice by link": (
        {"9": node("PrimitiveString", value="area"), **_scale_with(upscale_method=["9", 0])},
        "3",
        [
            _error(
                "return_type_mismatch",
                "Return type mismatch between linked nodes",
                f"upscale_method, received_type(STRING) mismatch input_type({SCALE_METHODS})",
                input_name="upscale_method",
                input_config=METHOD,
                received_type="STRING",
                linked_node=["9", 0],
            )
        ],
    ),
    "a file that is not there": (
        {"1": node("LoadImage", image="nope.png"), "2": _save()},
        "1",
        [
            _error(
                "custom_validation_failed",
                "Custom validation failed for node",
                "image - Invalid image file: nope.png",
                input_name="image",
            )
        ],
    ),
    "no inputs at all, behind a link": (
        {"1": {"class_type": "EmptyImage"}, "2": _save()},
        "1",
        [
            _error(
                "exception_during_inner_validation",
                "Exception when validating inner node",
                "'inputs'",
                input_name="images",
                input_config=IMAGES,
                exception_message="'inputs'",
                exception_type="KeyError",
                linked_node=["1", 0],
            )
        ],
    ),
}


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


OUTPUT_ERRORS: dict[str, tuple[Json, Json]] = {
    "link to a node that is not there": (
        node("SaveImage", images=["99", 0], filename_prefix="x"),
        _error(
            "exception_during_validation",
            "Exception when validating node",
            "'99'",
            exception_type="KeyError",
        ),
    ),
    "link to a slot that is not there": (
        node("SaveImage", images=["1", 7], filename_prefix="x"),
        _error(
            "exception_during_validation",
            "Exception when validating node",
            "tuple index out of range",
            exception_type="IndexError",
        ),
    ),
    "slot that is text": (
        node("SaveImage", images=["1", "0"], filename_prefix="x"),
        _error(
            "exception_during_validation",
            "Exception when validating node",
            "tuple indices must be integers or slices, not str",
            exception_type="TypeError",
        ),
    ),
    "link of one part": (
        node("SaveImage", images=["1"], filename_prefix="x"),
        _error(
            "bad_linked_input",
            "Bad linked input, must be a length-2 list of [node_id, slot_index]",
            "images",
            input_name="images",
            input_config=IMAGES,
            received_value=["1"],
        ),
    ),
    "link of another type": (
        node("SaveImage", images=["8", 0], filename_prefix="x"),
        _error(
            "return_type_mismatch",
            "Return type mismatch between linked nodes",
            "images, received_type(MASK) mismatch input_type(IMAGE)",
            input_name="images",
            input_config=IMAGES,
            received_type="MASK",
            linked_node=["8", 0],
        ),
    ),
    "missing input": (
        node("SaveImage", images=["1", 0]),
        _error(
            "required_input_missing",
            "Required input is missing",
            "filename_prefix",
            input_name="filename_prefix",
        ),
    ),
}


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
    body = await _refused(engine, {**_image_with(width=0), "3": _save()})
    assert sorted(body["node_errors"]["1"]["dependent_outputs"]) == ["2", "3"]


async def test_a_circle_is_refused_without_naming_a_node(engine: Engine) -> None:
    """0.3.75 runs out of stack; later releases say `dependency_cycle`."""
    graph = {
        "1": node("ImageInvert", image=["2", 0]),
        "2": node("ImageInvert", image=["1", 0]),
        "3": _save("2"),
    }
    body = await _refused(engine, graph)
    assert body["error"]["details"] == ""
    assert body["node_errors"] == {}


async def test_newer_kinds_of_choices_are_not_checked_before_the_run(engine: Engine) -> None:
    """A bad choice of ImageBlend is only found when the node runs, as a failure of the prompt."""
    graph = {
        "1": empty_image(),
        "3": node("ImageBlend", image1=["1", 0], image2=["1", 0], blend_factor=0.5, blend_mode="no-such"),
        "2": _save("3"),
    }
    entry, _ = await engine.run(graph)
    (kind, failure) = entry["status"]["messages"][-1]
    assert kind == "execution_error"
    assert (failure["node_id"], failure["exception_type"]) == ("3", "ValueError")


async def test_bounds_of_newer_nodes_are_checked(engine: Engine) -> None:
    graph = {
        "1": empty_image(color=0),
        "3": node("ImageBlend", image1=["1", 0], image2=["1", 0], blend_factor=7, blend_mode="normal"),
        "2": _save("3"),
    }
    body = await _refused(engine, graph)
    assert body["node_errors"]["3"]["errors"] == [
        _error(
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
