"""Graphs with one thing wrong, and the error that ComfyUI 0.3.75 gives for it, texts for people left out."""

from __future__ import annotations

from typing import Any

from tests.contract.graphs import Graph, Json, empty_image, node

SCALE_METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]
WIDTH = ["INT", {"default": 512, "min": 1, "max": 16384, "step": 1}]
METHOD = [SCALE_METHODS, {}]
IMAGES = ["IMAGE", {}]


def save(source: str = "1") -> Json:
    return node("SaveImage", images=[source, 0], filename_prefix="contract/never")


def image_with(**inputs: Any) -> Graph:
    image = empty_image(color=0)
    image["inputs"].update(inputs)
    return {"1": image, "2": save()}


def scale_with(**inputs: Any) -> Graph:
    wanted: Json = {"image": ["1", 0], "upscale_method": "area", "scale_by": 2.0, **inputs}
    return {"1": empty_image(color=0), "3": node("ImageScaleBy", **wanted), "2": save("3")}


def error(kind: str, message: str, details: str, **extra: Any) -> Json:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


NODE_ERRORS: dict[str, tuple[Graph, str, list[Json]]] = {
    "too small": (
        image_with(width=0),
        "1",
        [
            error(
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
        image_with(width=99999),
        "1",
        [
            error(
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
        image_with(width="abc"),
        "1",
        [
            error(
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
        image_with(width=None),
        "1",
        [
            error(
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
        scale_with(upscale_method="no-such"),
        "3",
        [
            error(
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
        {"1": node("EmptyImage", height=8, batch_size=1, color=0), "2": save()},
        "1",
        [error("required_input_missing", "Required input is missing", "width", input_name="width")],
    ),
    "several in one node": (
        {"1": node("EmptyImage", height="abc", batch_size=0, color=0), "2": save()},
        "1",
        [
            error(
                "value_smaller_than_min",
                "Value 0 smaller than min of 1",
                "batch_size",
                input_name="batch_size",
                input_config=["INT", {"default": 1, "min": 1, "max": 4096}],
                received_value=0,
            ),
            error(
                "invalid_input_type",
                "Failed to convert an input value to a INT value",
                "height, abc, invalid literal for int() with base 10: 'abc'",
                input_name="height",
                input_config=WIDTH,
                received_value="abc",
                exception_message="invalid literal for int() with base 10: 'abc'",
            ),
            error("required_input_missing", "Required input is missing", "width", input_name="width"),
        ],
    ),
    "text for a choice by link": (
        {"9": node("PrimitiveString", value="area"), **scale_with(upscale_method=["9", 0])},
        "3",
        [
            error(
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
        {"1": node("LoadImage", image="nope.png"), "2": save()},
        "1",
        [
            error(
                "custom_validation_failed",
                "Custom validation failed for node",
                "image - Invalid image file: nope.png",
                input_name="image",
            )
        ],
    ),
    "no inputs at all, behind a link": (
        {"1": {"class_type": "EmptyImage"}, "2": save()},
        "1",
        [
            error(
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


OUTPUT_ERRORS: dict[str, tuple[Json, Json]] = {
    "link to a node that is not there": (
        node("SaveImage", images=["99", 0], filename_prefix="x"),
        error(
            "exception_during_validation",
            "Exception when validating node",
            "'99'",
            exception_type="KeyError",
        ),
    ),
    "link to a slot that is not there": (
        node("SaveImage", images=["1", 7], filename_prefix="x"),
        error(
            "exception_during_validation",
            "Exception when validating node",
            "tuple index out of range",
            exception_type="IndexError",
        ),
    ),
    "slot that is text": (
        node("SaveImage", images=["1", "0"], filename_prefix="x"),
        error(
            "exception_during_validation",
            "Exception when validating node",
            "tuple indices must be integers or slices, not str",
            exception_type="TypeError",
        ),
    ),
    "link of one part": (
        node("SaveImage", images=["1"], filename_prefix="x"),
        error(
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
        error(
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
        error(
            "required_input_missing",
            "Required input is missing",
            "filename_prefix",
            input_name="filename_prefix",
        ),
    ),
}
