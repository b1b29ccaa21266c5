"""More small workflows, each for one rule: files that are older than their classes, that contradict
themselves, or whose values are of another kind than their controls.
"""

from typing import Any

from tests.editor.cases import CASES
from tests.editor.nodes import (
    BYPASSED,
    MUTED,
    Node,
    control,
    image,
    node,
    output,
    save,
    socket,
    subgraph,
    workflow,
)

ENDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
_BOTH = ([1, 1, 0, 3, 0, "IMAGE"], [2, 2, 0, 3, 1, "IMAGE"])
_CROSSED = ([1, 1, 0, 3, 1, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"])
_SECOND = ([2, 2, 0, 3, 0, "IMAGE"],)


def _two_pictures(user: Node, *links: list[Any], inside: Any = ()) -> dict[str, Any]:
    """Two pictures for node 3, which gives one on."""
    user |= {"id": 3, "outputs": [output("IMAGE", 3)]}
    nodes = [image(1, 1), image(2, 2, width=16), user, save(4, 3)]
    return workflow(nodes, [*links, [3, 3, 0, 4, 0, "IMAGE"]], inside)


def _bypassed(inputs: Any, *links: list[Any]) -> dict[str, Any]:
    return _two_pictures(node(3, "ImageBatch", inputs=inputs, mode=BYPASSED), *links)


def _host(inputs: Any, *links: list[Any]) -> dict[str, Any]:
    inside = node(7, "ImageBatch", inputs=[socket("image1", "IMAGE", 1), socket("image2", "IMAGE", 2)])
    batch = subgraph(
        "both",
        [inside | {"outputs": [output("IMAGE", 3)]}],
        [("a", "IMAGE", [1]), ("b", "IMAGE", [2])],
        [(1, -10, 0, 7, 0, "IMAGE"), (2, -10, 1, 7, 1, "IMAGE"), (3, 7, 0, -20, 0, "IMAGE")],
        (3, "IMAGE"),
    )
    return _two_pictures(node(3, "both", inputs=inputs), *links, inside=[batch])


def _batch(inputs: Any, *links: list[Any]) -> dict[str, Any]:
    return _two_pictures(node(3, "ImageBatch", inputs=inputs), *links)


def _primitive(value: Any, kind: str, mode: int = 0) -> Node:
    given = {"name": kind, "type": kind, "links": [5], "widget": {"name": "value"}}
    return node(1, "PrimitiveNode", value, "fixed", outputs=[given], mode=mode)


def _size_set(mode: int) -> dict[str, Any]:
    target = image(2, 6, inputs=[control("width", "INT", 5)])
    links = [[5, 1, 0, 2, 0, "INT"], [6, 2, 0, 3, 0, "IMAGE"]]
    return workflow([_primitive(33, "INT", mode), target, save(3, 6)], links)


def _text_set(value: Any) -> dict[str, Any]:
    target = node(2, "CLIPTextEncode", "own", inputs=[socket("clip", "CLIP"), control("text", "STRING", 5)])
    return workflow([_primitive(value, "STRING"), target], [[5, 1, 0, 2, 1, "STRING"]])


def _choice_set(value: Any) -> dict[str, Any]:
    sockets = [socket("image", "IMAGE", 8), control("upscale_method", "COMBO", 5)]
    target = node(2, "ImageScaleBy", "area", 1.0, inputs=sockets, outputs=[output("IMAGE", 6)])
    links = [[8, 9, 0, 2, 0, "IMAGE"], [5, 1, 0, 2, 1, "COMBO"], [6, 2, 0, 3, 0, "IMAGE"]]
    return workflow([image(9, 8), _primitive(value, "COMBO"), target, save(3, 6)], links)


def _through(kind: str, last: Node, mode: int = 0) -> dict[str, Any]:
    """A bypassed node that makes pictures of a mask, in front of a reroute."""
    nodes = [
        node(1, "SolidMask", 1.0, 8, 8, outputs=[output("MASK", 1)]),
        node(2, "MaskToImage", inputs=[socket("mask", "MASK", 1)], outputs=[output("IMAGE", 2)])
        | {"mode": BYPASSED},
        node(3, "Reroute", inputs=[socket("", kind, 2)], outputs=[output("IMAGE", 3)], mode=mode),
        last,
    ]
    return workflow(nodes, [[1, 1, 0, 2, 0, "MASK"], [2, 2, 0, 3, 0, "IMAGE"], [3, 3, 0, 4, 0, "IMAGE"]])


def _two_to_a_reroute() -> dict[str, Any]:
    reroute = node(3, "Reroute", inputs=[socket("", "*", 2)], outputs=[output("IMAGE", 3)])
    mask = node(2, "SolidMask", 1.0, 8, 8, outputs=[output("MASK", 2)])
    links = [[1, 1, 0, 3, 0, "IMAGE"], [2, 2, 0, 3, 0, "MASK"], [3, 3, 0, 4, 0, "IMAGE"]]
    return workflow([image(1, 1), mask, reroute, save(4, 3)], links)


def _written(as_objects: bool, version: float) -> dict[str, Any]:
    file = workflow([image(1, 1), save(2, 1)], [[1, 1, 0, 2, 0, "IMAGE"]])
    links = [dict(zip(ENDS, link, strict=True)) for link in file["links"]] if as_objects else file["links"]
    return file | {"links": links, "version": version}


def _doubled() -> dict[str, Any]:
    """The second node 1 comes before one with a higher id than any so far."""
    nodes = [image(1), image(1, width=16), image(150, width=24)]
    return workflow(nodes) | {"last_node_id": 3}


ODD_FILES: dict[str, dict[str, Any]] = {
    "bypass with inputs in another order": _bypassed(
        [socket("image2", "IMAGE", 2), socket("image1", "IMAGE", 1)], *_CROSSED
    ),
    "bypass of a class that has gained its first input": _bypassed([socket("image2", "IMAGE", 2)], *_SECOND),
    "bypass of a class that has lost its first input": _bypassed(
        [socket("gone", "IMAGE", 2), socket("image1", "IMAGE", 1), socket("image2", "IMAGE")], *_CROSSED
    ),
    "bypass with types of another version": _bypassed(
        [socket("image1", "MASK", 1), socket("image2", "IMAGE", 2)], *_BOTH
    ),
    "bypass before a reroute": _through("*", save(4, 3)),
    "bypass before a reroute for anything": _through(
        "IMAGE", node(4, "PreviewAny", inputs=[socket("source", "*", 3)])
    ),
    "bypass before an input of another type in the file": _through(
        "*", save(4, 3) | {"inputs": [socket("images", "MASK", 3)]}
    ),
    "bypass before a bypassed reroute": _through("*", save(4, 3), mode=BYPASSED),
    "a second link to a reroute": _two_to_a_reroute(),
    "host with inputs in another order": _host([socket("b", "IMAGE", 2), socket("a", "IMAGE", 1)], *_CROSSED),
    "host with other names": _host([socket("y", "IMAGE", 1), socket("z", "IMAGE", 2)], *_BOTH),
    "host with one other name": _host([socket("b", "IMAGE", 2), socket("z", "IMAGE", 1)], *_CROSSED),
    "host without its inputs": _host([], *_BOTH),
    "a link that no input names": _batch([socket("image1", "IMAGE"), socket("image2", "IMAGE")], *_BOTH),
    "a second link to an input": _batch([socket("image1", "IMAGE", 1)], _BOTH[0], [2, 2, 0, 3, 0, "IMAGE"]),
    "primitive muted": _size_set(MUTED),
    "primitive bypassed": _size_set(BYPASSED),
    "primitive with a flag for a long text": _text_set(True),
    "primitive with nothing for a long text": _text_set(None),
    "primitive with a list for a long text": _text_set([1, [], ["x", None]]),
    "primitive with nothing for a choice": _choice_set(None),
    "long texts that are none": workflow(
        [
            node(number, "CLIPTextEncode", value)
            for number, value in enumerate((1.5, [1, [2, None], "x"], [], {"a": 1}, [True]), start=1)
        ]
    ),
    "dynamic combos of nothing": workflow(
        [node(1, "SaveVideo", "x", None), node(2, "SaveVideo", "x", "mp4", None)]
    ),
    "links as objects in a file of lists": _written(True, 0.4),
    "links as objects in a file of objects": _written(True, 1),
    "links as lists in a file of objects": _written(False, 1),
    "a doubled id before a higher one": _doubled(),
}

ALL_CASES = CASES | ODD_FILES
