"""Small workflows, each for one rule of the editor; recorded with what the editor sends for them."""

from typing import Any

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


def _host(*values: Any, **more: Any) -> dict[str, Any]:
    """A subgraph that shows width and height of an EmptyImage."""
    inside = subgraph(
        "sizes",
        [image(7, 2, inputs=[control("width", "INT", 1), control("height", "INT", 4)])],
        [("width", "INT", [1]), ("height", "INT", [4])],
        [(1, -10, 0, 7, 0, "INT"), (2, 7, 0, -20, 0, "IMAGE"), (4, -10, 1, 7, 1, "INT")],
        (2, "IMAGE"),
    )
    sockets = [control("width", "INT"), control("height", "INT")]
    user = node(3, "sizes", *values, outputs=[output("IMAGE", 2)], **{"inputs": sockets, **more})
    return workflow([user, save(4, 2)], [[2, 3, 0, 4, 0, "IMAGE"]], [inside])


def _proxies(*values: Any, shown: Any) -> dict[str, Any]:
    return _host(*values, properties={"proxyWidgets": shown})


def _shared(*values: Any) -> dict[str, Any]:
    """One input of a subgraph for two controls inside."""
    inside = subgraph(
        "square",
        [image(7, 2, inputs=[control("width", "INT", 1), control("height", "INT", 4)])],
        [("size", "INT", [1, 4])],
        [(1, -10, 0, 7, 0, "INT"), (2, 7, 0, -20, 0, "IMAGE"), (4, -10, 0, 7, 1, "INT")],
        (2, "IMAGE"),
    )
    user = node(3, "square", *values, outputs=[output("IMAGE", 2)], inputs=[control("size", "INT")])
    return workflow([user, save(4, 2)], [[2, 3, 0, 4, 0, "IMAGE"]], [inside])


def _nested(outer: Any, inner: Any) -> dict[str, Any]:
    deep = subgraph(
        "deep",
        [image(7, 2, inputs=[control("width", "INT", 1)])],
        [("w", "INT", [1])],
        [(1, -10, 0, 7, 0, "INT"), (2, 7, 0, -20, 0, "IMAGE")],
        (2, "IMAGE"),
    )
    user = node(5, "deep", *inner, inputs=[control("w", "INT", 1)], outputs=[output("IMAGE", 2)])
    around = subgraph(
        "around",
        [user],
        [("W", "INT", [1])],
        [(1, -10, 0, 5, 0, "INT"), (2, 5, 0, -20, 0, "IMAGE")],
        (2, "IMAGE"),
    )
    top = node(3, "around", *outer, outputs=[output("IMAGE", 2)], inputs=[control("W", "INT")])
    return workflow([top, save(4, 2)], [[2, 3, 0, 4, 0, "IMAGE"]], [deep, around])


def _switched_off(mode: int, *, nested: bool) -> dict[str, Any]:
    """A subgraph with an output node inside, switched off: at the top, or inside another one."""
    inside = subgraph(
        "inverted",
        [
            node(7, "ImageInvert", inputs=[socket("image", "IMAGE", 1)], outputs=[output("IMAGE", 2, 3)]),
            node(8, "PreviewImage", inputs=[socket("images", "IMAGE", 3)]),
        ],
        [("image", "IMAGE", [1])],
        [(1, -10, 0, 7, 0, "IMAGE"), (2, 7, 0, -20, 0, "IMAGE"), (3, 7, 0, 8, 0, "IMAGE")],
        (2, "IMAGE"),
    )
    kind, around = "inverted", []
    if nested:
        user = node(
            9, "inverted", inputs=[socket("image", "IMAGE", 1)], outputs=[output("IMAGE", 2)], mode=mode
        )
        around = [
            subgraph(
                "holder",
                [user],
                [("image", "IMAGE", [1])],
                [(1, -10, 0, 9, 0, "IMAGE"), (2, 9, 0, -20, 0, "IMAGE")],
                (2, "IMAGE"),
            )
        ]
        kind, mode = "holder", 0
    top = node(3, kind, inputs=[socket("image", "IMAGE", 1)], outputs=[output("IMAGE", 2)], mode=mode)
    links = [[1, 1, 0, 3, 0, "IMAGE"], [2, 3, 0, 4, 0, "IMAGE"]]
    return workflow([image(1, 1), top, save(4, 2)], links, [inside, *around])


def _bypass() -> dict[str, Any]:
    batch = [output("IMAGE", 4)]
    return workflow(
        [
            *(image(1, 1, 7, 9, 12), image(2, 3, 5, 13, width=16)),
            node(
                5,
                "ImageBatch",
                inputs=[socket("image1", "IMAGE", 1), socket("image2", "IMAGE", 3)],
                outputs=batch,
            )
            | {"mode": BYPASSED},
            save(6, 4),
            node(
                7,
                "ImageBatch",
                inputs=[socket("image1", "IMAGE"), socket("image2", "IMAGE", 5)],
                mode=BYPASSED,
            )
            | {"outputs": [output("IMAGE", 6)]},
            save(8, 6),
            node(9, "ResizeImageMaskNode", "scale width", 512, "area", mode=BYPASSED)
            | {
                "inputs": [socket("input", "IMAGE,MASK", 7), control("resize_type.width", "INT")],
                "outputs": [output("IMAGE", 8)],
            },
            save(10, 8),
            node(11, "ImageToMask", "red", inputs=[socket("image", "IMAGE", 9)], mode=BYPASSED)
            | {"outputs": [output("MASK", 10)]},
            node(12, "MaskToImage", inputs=[socket("mask", "MASK", 10)], outputs=[output("IMAGE", 11)]),
            save(13, 11),
            node(14, "ComfySwitchNode", True, mode=BYPASSED)
            | {
                "inputs": [
                    socket("on_false", "*", 12),
                    socket("on_true", "*", 13),
                    control("switch", "BOOLEAN"),
                ],
                "outputs": [output("*", 14)],
            },
            save(15, 14),
        ],
        [
            *([1, 1, 0, 5, 0, "IMAGE"], [3, 2, 0, 5, 1, "IMAGE"], [4, 5, 0, 6, 0, "IMAGE"]),
            *([5, 2, 0, 7, 1, "IMAGE"], [6, 7, 0, 8, 0, "IMAGE"]),
            *([7, 1, 0, 9, 0, "IMAGE"], [8, 9, 0, 10, 0, "IMAGE"]),
            *([9, 1, 0, 11, 0, "IMAGE"], [10, 11, 0, 12, 0, "MASK"], [11, 12, 0, 13, 0, "IMAGE"]),
            *([12, 1, 0, 14, 0, "IMAGE"], [13, 2, 0, 14, 1, "IMAGE"], [14, 14, 0, 15, 0, "IMAGE"]),
        ],
    )


def _primitives() -> dict[str, Any]:
    """One linked directly, one behind a reroute, one to a prompt."""

    def primitive(number: int, value: Any, kind: str, link: int) -> Node:
        given = {"name": kind, "type": kind, "links": [link], "widget": {"name": "value"}}
        return node(number, "PrimitiveNode", value, "fixed", outputs=[given])

    return workflow(
        [
            primitive(1, 33, "INT", 1),
            image(2, inputs=[control("width", "INT", 1), control("height", "INT", 3)]),
            node(3, "Reroute", inputs=[socket("", "*", 2)], outputs=[output("INT", 3)]),
            primitive(4, 44, "INT", 2),
            primitive(5, "p {q} // r", "STRING", 4),
            node(6, "CLIPTextEncode", "own", inputs=[socket("clip", "CLIP"), control("text", "STRING", 4)]),
        ],
        [[1, 1, 0, 2, 0, "INT"], [2, 4, 0, 3, 0, "*"], [3, 3, 0, 2, 1, "INT"], [4, 5, 0, 6, 1, "STRING"]],
    )


def _shown_text() -> dict[str, Any]:
    inside = subgraph(
        "prompt",
        [
            node(7, "CLIPTextEncode", "inner", outputs=[output("CONDITIONING", 2)])
            | {"inputs": [socket("clip", "CLIP"), control("text", "STRING", 1)]}
        ],
        [("text", "STRING", [1])],
        [(1, -10, 0, 7, 1, "STRING"), (2, 7, 0, -20, 0, "CONDITIONING")],
        (2, "CONDITIONING"),
    )
    user = node(3, "prompt", "a {b} // c", inputs=[control("text", "STRING")])
    user["outputs"] = [output("CONDITIONING", 2)]
    sink = node(4, "PreviewAny", inputs=[socket("source", "*", 2)])
    return workflow([user, sink], [[2, 3, 0, 4, 0, "CONDITIONING"]], [inside])


def _texts() -> dict[str, Any]:
    texts = (
        "a {b} c",
        "x // c\ny",
        "x /* c */ y",
        "http://x.y/z",
        "\\{a\\} {b}",
        '{"k": {"j": 1}}',
        "{a",
        "a}",
    )
    more = ("{}", "{a {b} c} d", "a /* x", "{a\\|b}", "x\\\\y", "a\\b", "/* b\nc */d", "{// x\na}", "{a}}{b")
    prompts = [node(number, "CLIPTextEncode", text) for number, text in enumerate((*texts, *more), start=1)]
    plain = [node(number + 50, "StringConcatenate", text, "", "") for number, text in enumerate(texts)]
    return workflow([*prompts, *plain])


def _autogrow() -> dict[str, Any]:
    links = [[1, 1, 0, 4, 0, "IMAGE"], [2, 1, 0, 4, 1, "IMAGE"], [3, 4, 0, 5, 0, "IMAGE"]]
    grown = [socket(f"images.image{at}", "IMAGE", link) for at, link in enumerate((1, 2, None))]
    return workflow(
        [image(1, 1, 2), node(4, "BatchImagesNode", inputs=grown, outputs=[output("IMAGE", 3)]), save(5, 3)],
        links,
    )


def _undeclared() -> dict[str, Any]:
    target = save(4, 1)
    target["inputs"].append(socket("zzz", "IMAGE", 2))
    return workflow([image(1, 1, 2), target], [[1, 1, 0, 4, 0, "IMAGE"], [2, 1, 0, 4, 1, "IMAGE"]])


def _group(name: str, first_two: list[dict[str, Any]], links: list[list[Any]]) -> dict[str, Any]:
    """The part of a file that declares a group node: `first_two` and a batch of pictures, its output."""
    batch = node(2, "ImageBatch", inputs=[socket("image1", "IMAGE"), socket("image2", "IMAGE")], index=2)
    inside = [*first_two, batch | {"outputs": [output("IMAGE")]}]
    for each in inside:
        del each["id"]
    group = {"nodes": inside, "links": links, "external": [[2, 0, "IMAGE"]]}
    return {"extra": {"groupNodes": {name: group}}}


def _grouped(*values: Any, link: bool = True, mode: int = 0) -> dict[str, Any]:
    """A group node: a picture, its inverse, and both in a batch with one from outside."""
    inside = [
        node(0, "EmptyImage", 8, 9, 1, 255, outputs=[output("IMAGE")], index=0),
        node(1, "ImageInvert", inputs=[socket("image", "IMAGE")], outputs=[output("IMAGE")], index=1),
    ]
    links = [[0, 0, 1, 0, 1, "IMAGE"], [1, 0, 2, 0, 2, "IMAGE"]]
    group = _group("Pic", inside, links)
    user = node(5, "workflow>Pic", *values, mode=mode)
    user |= {"inputs": [socket("image2", "IMAGE", 1 if link else None)], "outputs": [output("IMAGE", 2)]}
    links = [[2, 5, 0, 6, 0, "IMAGE"], *([[1, 1, 0, 5, 0, "IMAGE"]] if link else [])]
    file = workflow([image(1, 1), user, save(6, 2)], links)
    return file | group


def _grouped_primitive() -> dict[str, Any]:
    """A control of a group node that a primitive sets, and two nodes of one class inside."""
    inside = [
        node(0, "EmptyImage", 8, 9, 1, 255, outputs=[output("IMAGE")], index=0),
        node(1, "EmptyImage", 10, 11, 1, 0, outputs=[output("IMAGE")], index=1),
    ]
    group = _group("Two", inside, [[0, 0, 2, 0, 1, "IMAGE"], [1, 0, 2, 1, 2, "IMAGE"]])
    given = {"name": "INT", "type": "INT", "links": [1], "widget": {"name": "width"}}
    number = node(1, "PrimitiveNode", 33, "fixed", outputs=[given])
    user = node(5, "workflow>Two", 20, 21, 1, 3, 22, 23, 1, 4, outputs=[output("IMAGE", 2)])
    user["inputs"] = [control("EmptyImage width", "INT", 1)]
    file = workflow([number, user, save(6, 2)], [[1, 1, 0, 5, 0, "INT"], [2, 5, 0, 6, 0, "IMAGE"]])
    return file | group


def _linked_host(source: list[Node], *more: list[Any]) -> dict[str, Any]:
    """A subgraph whose control `width` has a value, and a link to node 20."""
    file = _host(18, 19)
    file["nodes"][0]["inputs"][0]["link"] = 9
    return file | {
        "nodes": file["nodes"] + source,
        "links": [*file["links"], [9, 20, 0, 3, 0, "INT"], *more],
    }


def _primitive(number: int, link: int) -> Node:
    given = {"name": "INT", "type": "INT", "links": [link], "widget": {"name": "width"}}
    return node(number, "PrimitiveNode", 33, "fixed", outputs=[given])


def _reroute(link: int | None) -> Node:
    return node(20, "Reroute", inputs=[socket("", "*", link)], outputs=[output("INT", 9)])


def _many_pictures(count: int) -> dict[str, Any]:
    """Pictures for the growing inputs behind a choice."""
    slots = [socket(f"model.images.image_{at + 1}", "IMAGE", at + 1) for at in range(count)]
    values = ("p", "Flux.2 [pro]", 1024, 768, 0, "fixed")
    target = node(50, "Flux2ImageNode", *values, inputs=slots, outputs=[output("IMAGE", 90)])
    links = [[at + 1, at + 1, 0, 50, at, "IMAGE"] for at in range(count)]
    pictures = [image(at + 1, at + 1) for at in range(count)]
    return workflow([*pictures, target, save(60, 90)], [*links, [90, 50, 0, 60, 0, "IMAGE"]])


_WRONG_NAMES = {"width": 16, "height": 17, "batch_size": 2, "color": 5}

CASES: dict[str, dict[str, Any]] = {
    "names that disagree": workflow([image(1, widgets_values_named=_WRONG_NAMES)]),
    "lists too short and too long": workflow(
        [
            *(node(1, "EmptyImage", 8), node(2, "EmptyImage", 8, 9, 1, 0, 77, 88)),
            node(3, "EmptyImage", None, "12", 1.5, None),
        ]
    ),
    "seeds of 2023": workflow(
        [
            node(1, "KSampler", 5, True, 20, 8, "euler", "normal", 1),
            node(2, "KSampler", 5, None, 20, 8, "euler", "normal", 1),
        ]
    ),
    "texts": _texts(),
    "text that a subgraph shows": _shown_text(),
    "primitives": _primitives(),
    "bypass": _bypass(),
    "subgraph muted": _switched_off(MUTED, nested=False),
    "subgraph bypassed": _switched_off(BYPASSED, nested=False),
    "subgraph muted inside a subgraph": _switched_off(MUTED, nested=True),
    "subgraph bypassed inside a subgraph": _switched_off(BYPASSED, nested=True),
    "host": _host(100, 101),
    "host with one value": _host(100),
    "host without values": _host(),
    "host without sockets": _host(100, 101, inputs=[]),
    "host with empty proxies": _proxies(100, 101, shown=[]),
    "host with proxies of its own": _proxies(100, 101, shown=[["-1", "height"], ["-1", "width"]]),
    "host with proxies inside": _proxies(100, 101, shown=[["7", "batch_size"], ["-1", "width"]]),
    "host with proxies inside only": _proxies(100, 101, shown=[["7", "batch_size"], ["7", "color"]]),
    "host with proxies and no values": _proxies(shown=[["7", "batch_size"], ["7", "width"]]),
    "host control for two": _shared(),
    "host control for two with a value": _shared(77),
    "nested with both": _nested([100], [50]),
    "nested with the inner": _nested([], [50]),
    "nested with the outer": _nested([100], []),
    "nested with none": _nested([], []),
    "dynamic combos": workflow(
        [
            node(1, "SaveVideo", "x", "mp4", "h264", "auto", "auto"),
            node(2, "SaveVideo", "x", "mp4", "h264", "re-encode", 20, "sRGB"),
            node(3, "SaveVideo", "x", "mp4", "h264"),
            node(4, "SaveVideo", "x", "mp4", "nope"),
            node(5, "SaveVideo", "x", "nope", "h264"),
        ]
    ),
    "autogrow": _autogrow(),
    "three growing links behind a choice": _many_pictures(3),
    "four growing links behind a choice": _many_pictures(4),
    "host linked to a primitive": _linked_host([_primitive(20, 9)]),
    "host linked to a primitive behind a reroute": _linked_host(
        [_reroute(10), _primitive(21, 10)], [10, 21, 0, 20, 0, "INT"]
    ),
    "host linked to a reroute of nothing": _linked_host([_reroute(None)]),
    "host linked to a muted node": _linked_host(
        [node(20, "PrimitiveInt", 33, "fixed", outputs=[output("INT", 9)], mode=MUTED)]
    ),
    "own options": workflow(
        [
            node(1, "CustomCombo", "b", 0, "a", "b", ""),
            node(2, "CustomCombo", "zz", 0, "a", "b", ""),
            node(3, "ImageCropV2", {"x": 1, "y": 2, "width": 3, "height": 4}, 1, 2, 3, 4),
            node(4, "CurveEditor", {"points": [[0, 0], [1, 1]], "interpolation": "linear"}),
            node(5, "LoadImage", "a.png", "image"),
            node(6, "LoadImage", ["a.png"], "image"),
        ]
    ),
    "an undeclared link": _undeclared(),
    "group node": _grouped(18, 19, 1, 65280),
    "group node with one value": _grouped(18),
    "group node without a link": _grouped(18, 19, 1, 65280, link=False),
    "group node muted": _grouped(18, 19, 1, 65280, mode=MUTED),
    "group node bypassed": _grouped(18, 19, 1, 65280, mode=BYPASSED),
    "group node with a primitive": _grouped_primitive(),
}
