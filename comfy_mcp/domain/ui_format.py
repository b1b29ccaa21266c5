"""A workflow as ComfyUI's editor saves it (nodes, links, subgraphs), read tolerantly.

The UI format is for people: it has positions, colours, notes. No engine takes it; `ui_conversion` makes the
API format of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MUTED, BYPASSED = 2, 4
"""Values of a node's `mode`: never run, and handed through. Every other mode runs."""

INPUTS_ID, OUTPUTS_ID = "-10", "-20"
"""Ids that the links inside a subgraph use for its own inputs and outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UiInput:
    """`link` is the id of a link, or None. Linked, it takes the place of the control of the same name."""

    name: str
    type: str
    link: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UiLink:
    """From output `origin_slot` of node `origin` to input `target_slot` of node `target`."""

    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UiNode:
    """`type` is a class, a kind of the editor's own ("Note"), or the id of a subgraph.

    `values` is `widgets_values` as saved: a list, or an object by name. `promoted` names, in the order of
    `values`, the controls that a subgraph shows: (node inside or "-1" for an input of its own, name).
    """

    id: str
    type: str
    title: str | None
    mode: int
    inputs: tuple[UiInput, ...]
    output_types: tuple[str, ...]
    values: object
    promoted: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UiGraph:
    """The top of a workflow or the inside of a subgraph.

    `input_names` are a subgraph's own inputs, `results` the links to its own outputs by slot, `linked` the
    nodes at either end of a link.
    """

    nodes: Mapping[str, UiNode]
    links: Mapping[str, UiLink]
    input_names: tuple[str, ...]
    results: Mapping[int, UiLink]
    linked: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class UiWorkflow:
    top: UiGraph
    subgraphs: Mapping[str, UiGraph]


def is_ui_format(raw: Mapping[str, Any]) -> bool:
    return isinstance(raw.get("nodes"), list)


def read_workflow(raw: Mapping[str, Any]) -> UiWorkflow:
    """Never raises: an item without the shape of a node or a link is left out."""
    definitions = raw.get("definitions")
    listed = definitions.get("subgraphs") if isinstance(definitions, Mapping) else None
    found = [each for each in _list(listed) if isinstance(each, Mapping) and each.get("id")]
    return UiWorkflow(top=_graph(raw), subgraphs={str(each["id"]): _graph(each) for each in found})


def _graph(raw: Mapping[str, Any]) -> UiGraph:
    nodes = [_node(each) for each in _list(raw.get("nodes")) if isinstance(each, Mapping)]
    links = dict(link for each in _list(raw.get("links")) if (link := _link(each)))
    names = [each.get("name") for each in _list(raw.get("inputs")) if isinstance(each, Mapping)]
    return UiGraph(
        nodes={node.id: node for node in nodes if node.type},
        links=links,
        input_names=tuple(_text(name) for name in names),
        results={link.target_slot: link for link in links.values() if link.target == OUTPUTS_ID},
        linked=frozenset(end for link in links.values() for end in (link.origin, link.target)),
    )


def _node(raw: Mapping[str, Any]) -> UiNode:
    properties = raw.get("properties")
    proxies = properties.get("proxyWidgets") if isinstance(properties, Mapping) else None
    title, mode = raw.get("title"), raw.get("mode")
    return UiNode(
        id=_text(raw.get("id")),
        type=_text(raw.get("type")),
        title=title if isinstance(title, str) and title.strip() else None,
        mode=mode if isinstance(mode, int) else 0,
        inputs=tuple(_input(each) for each in _list(raw.get("inputs")) if isinstance(each, Mapping)),
        output_types=tuple(
            _text(each.get("type")) for each in _list(raw.get("outputs")) if isinstance(each, Mapping)
        ),
        values=raw.get("widgets_values"),
        promoted=tuple(
            (_text(each[0]), _text(each[1]))
            for each in _list(proxies)
            if isinstance(each, list) and len(each) > 1
        ),
    )


def _input(raw: Mapping[str, Any]) -> UiInput:
    link = raw.get("link")
    return UiInput(
        name=_text(raw.get("name")), type=_text(raw.get("type")), link=None if link is None else _text(link)
    )


def _link(raw: object) -> tuple[str, UiLink] | None:
    """A list at the top of a workflow, an object inside a subgraph."""
    match raw:
        case [number, origin, int(origin_slot), target, int(target_slot), *_]:
            pass
        case {
            "id": number,
            "origin_id": origin,
            "origin_slot": int(origin_slot),
            "target_id": target,
            "target_slot": int(target_slot),
        }:
            pass
        case _:
            return None
    return _text(number), UiLink(
        origin=_text(origin), origin_slot=origin_slot, target=_text(target), target_slot=target_slot
    )


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _text(value: object) -> str:
    return "" if value is None else str(value)
