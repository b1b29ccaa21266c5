"""Texts that the editor draws or fills in when it sends, and the workflows that ask it."""

import json
from typing import Any

from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.widgets import widgets_of
from tests.editor.nodes import control, image, node, output, socket, subgraph, workflow

AT = {"year": 2026, "month": 1, "day": 2, "hour": 15, "minute": 4, "second": 5}
"""The date of the recordings."""

PROMPTS = (
    *("{a|b}", "{a|b} {c|d|e}", "{one}", "{a|{b|c}}", "{{a|b}|c}", "x {a|b", "a|b}", "{a|b}}", "{}", "{|}"),
    *("{a||b}", "\\{a|b\\}", "{a\\|b|c}", "{\\{a\\}|b}", "// c\n{a|b}", "{a|b // c\n}", "{a|/* x */b}"),
    *(
        "\\\\{a|b}",
        "\\\\|{a|b}",
        "a\\b{c|d}",
        "{ a | b }",
        "{a|b}{",
        "{a{b|c}d|e}",
        "{a\\}|b}",
        "{{{{a|b}}}}",
    ),
    *("{a|{}}", "{//a|b}", "http://x {a|b}", "{a|b}\n{c|d}", "plain", "{/{/|a}b|c}", "{a\n|b\\\n}"),
)
NAMES = (
    *("%date:yyyy-MM-dd%", "%date:yy%", "%date:y%", "%date:yyy%", "%date:yyyyy%", "%date:hh:mm:ss%"),
    *(
        "%date:h-m-s%",
        "%date:d.M%",
        "%date:MMM%",
        "%date:ddd%",
        "%date:%",
        "%date%",
        "%date:day%",
        "%date: dd%",
    ),
    *("%date:yyyyMMdd_hhmmss%/x", "a%date:yyyy%b%date:MM%", "%date:YYYY%", "%date:DD%", "%date:yyyy.MM.dd%"),
    *("%width%x%height%", "%year%-%month%", "%Empty.width%", "%Empty.nothing%", "%Nobody.x%", "%a.b.c%"),
    *(
        "%date:yyyy%%Empty.width%",
        "100% %date:dd%",
        "%date:hhh%",
        "%Date:yyyy%",
        "%date:dd/MM%",
        "%date.yyyy%",
    ),
    *("%date:yyyy-%width%", "%%date:yyyy%%", "%"),
)


def prompts() -> dict[str, Any]:
    return workflow([node(at, "CLIPTextEncode", text) for at, text in enumerate(PROMPTS)])


def names() -> dict[str, Any]:
    named = image(99, title="Empty", properties={"Node name for S&R": "Empty"})
    sockets = [socket("images", "IMAGE")]
    return workflow([named, *(node(at, "SaveImage", text, inputs=sockets) for at, text in enumerate(NAMES))])


def savers(info: ObjectInfo) -> dict[str, Any]:
    """A node of each class that names a file, with a date in the name."""
    nodes: list[dict[str, Any]] = []
    for name, known in info.classes.items():
        values: dict[str, Any] = {}
        saved = []
        for widget in widgets_of(known, values) if "filename_prefix" in known.inputs else ():
            values[widget.name] = "%date:yyyy%" if widget.name == "filename_prefix" else widget.default
            saved += [values[widget.name]] if widget.saved else []
        if saved:
            nodes.append(node(len(nodes), name, *saved))
    return workflow(nodes)


def _primitive(target: str, name: str, *, fills: bool) -> dict[str, Any]:
    """A primitive for the text `name` of a `target`."""
    given = {"name": "STRING", "type": "STRING", "links": [1], "widget": {"name": name}}
    properties = {"Run widget replace on values": True} if fills else {}
    source = node(1, "PrimitiveNode", "%date:yyyy% {a|b}", outputs=[given], properties=properties)
    taker = node(
        2, target, "x", inputs=[control(name, "STRING", 1)], properties={"Node name for S&R": "Taker"}
    )
    return workflow([source, taker], [[1, 1, 0, 2, 0, "STRING"]])


def _shown(target: str, name: str) -> dict[str, Any]:
    """A subgraph that shows the text `name` of a `target`."""
    inside = subgraph(
        "texts",
        [image(8, 2), node(7, target, "x", inputs=[control(name, "STRING", 1)])],
        [(name, "STRING", [1])],
        [(1, -10, 0, 7, 0, "STRING"), (2, 8, 0, -20, 0, "IMAGE")],
        (2, "IMAGE"),
    )
    host = node(3, "texts", "%date:yyyy% {a|b}", inputs=[control(name, "STRING")], outputs=[output("IMAGE")])
    return workflow([host], (), [inside])


WAYS = {
    "primitive to a prompt": _primitive("CLIPTextEncode", "text", fills=False),
    "primitive to a prompt, filled in": _primitive("CLIPTextEncode", "text", fills=True),
    "primitive to a name": _primitive("SaveImage", "filename_prefix", fills=False),
    "prompt that a subgraph shows": _shown("CLIPTextEncode", "text"),
    "name that a subgraph shows": _shown("SaveImage", "filename_prefix"),
}


def asked(info: ObjectInfo) -> dict[str, dict[str, Any]]:
    """All of them, by name."""
    files = {"prompts": prompts(), "names": names(), "savers": savers(info), **WAYS}
    return {name: json.loads(json.dumps(file)) for name, file in files.items()}
