"""Small workflows in UI format, and their conversion."""

from typing import Any

from comfy_mcp.domain.api_format import api_format
from comfy_mcp.domain.object_info import ObjectInfo

IMAGE = {
    "input": {"required": {"width": ["INT", {"default": 512}], "height": ["INT", {"default": 512}]}},
    "output": ["IMAGE"],
}
SAVE = {
    "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {"default": "x"}]}},
    "output": [],
}
CLASSES = {"EmptyImage": IMAGE, "SaveImage": SAVE}


def converted(file: dict[str, Any], **classes: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    graph, warnings = api_format(file, ObjectInfo.parse({**CLASSES, **classes}))
    assert isinstance(graph, dict)
    return graph, warnings


def one(
    required: dict[str, Any], *values: Any, beside: Any = (), links: Any = (), **saved: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The inputs of one node of a class with inputs `required`, `beside` others."""
    node = {"id": 1, "type": "X", "widgets_values": list(values), **saved}
    file = {"nodes": [node, *beside], "links": list(links)}
    graph, warnings = converted(file, X={"input": {"required": required}, "output": []})
    inputs: dict[str, Any] = graph["1"]["inputs"]
    return inputs, warnings


def image(number: int, *values: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "type": "EmptyImage", "widgets_values": list(values), **more}


def save(number: int, link: int) -> dict[str, Any]:
    inputs = [{"name": "images", "type": "IMAGE", "link": link}]
    return {"id": number, "type": "SaveImage", "widgets_values": ["x"], "inputs": inputs}


def handing(number: int, kind: str, link: int | None = None, *values: Any) -> dict[str, Any]:
    """A node of the editor's own with one socket and one output."""
    inputs = [{"name": "IMAGE", "type": "IMAGE", "link": link}] if link is not None else []
    outputs = [{"name": "*", "type": "*"}]
    return {"id": number, "type": kind, "widgets_values": list(values), "inputs": inputs, "outputs": outputs}
