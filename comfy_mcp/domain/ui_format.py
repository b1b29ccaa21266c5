"""A workflow as ComfyUI's editor saves it (nodes, links, subgraphs), read tolerantly.

The UI format is for people: it has positions, colours, notes. No engine takes it; `ui_conversion` makes the
API format of it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

MUTED, BYPASSED = 2, 4
"""Values of a node's `mode`: never run, and handed through. Every other mode runs."""

PRIMITIVE = "PrimitiveNode"
"""A node of the editor's own: its first value sets the controls that it is linked to."""

_SETTER = re.compile("(?:easy |[A-Z]{0,4})[sS]etNode")
_GETTER = re.compile("(?:easy |[A-Z]{0,4})[gG]etNode")
_SUBGRAPH = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def is_setter(kind: str) -> bool:
    """SetNode, easy setNode, GGSetNode: nodes of custom packs that give a value a name, without a link."""
    return _SETTER.fullmatch(kind) is not None


def is_getter(kind: str) -> bool:
    """They hand on what the setter of the same name is given."""
    return _GETTER.fullmatch(kind) is not None


def is_subgraph_id(kind: str) -> bool:
    """Whether a node of this type is a subgraph: the editor gives each a UUID, and a class has a name."""
    return _SUBGRAPH.fullmatch(kind) is not None


EVERYWHERE = frozenset(
    {"Anything Everywhere", "Anything Everywhere3", "Anything Everywhere?", "Prompts Everywhere"}
)
"""Nodes of a custom pack that link others without a wire (ui_everywhere.py). They never run."""

EDITOR_TOOLS = frozenset(
    f"{name} (rgthree)"
    for name in (
        *("Fast Muter", "Fast Bypasser", "Fast Groups Muter", "Fast Groups Bypasser", "Fast Actions Button"),
        *("Mute / Bypass Repeater", "Mute / Bypass Relay", "Node Collector", "Node Combiner"),
        *("Random Unmuter", "Bookmark", "Label"),
    )
)
"""Nodes of a custom pack that switch others on and off in the editor, or only show something. They may be
linked, and never run."""

RENAMED = MappingProxyType(
    {
        "ConditioningAverage ": "ConditioningAverage",
        "T2IAdapterLoader": "ControlNetLoader",
        "SDV_img2vid_Conditioning": "SVD_img2vid_Conditioning",
        "Load3DAnimation": "Load3D",
    }
)
"""Old names of classes that the editor replaces when it loads a file."""

MAX_LEVELS = 100
"""Most levels of subgraphs in subgraphs."""

GROUP_NODE = ("workflow>", "workflow/")
"""How the types of group nodes begin, in files of now and of 2023; of one length."""

INPUTS_ID, OUTPUTS_ID = "-10", "-20"
"""Ids that the links inside a subgraph use for its own inputs and outputs."""

NOWHERE = "its link leads nowhere: the file lacks the link, or the node that it comes from"
"""What is odd about an input whose link is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UiInput:
    """`link` is the id of a link, or None. Linked, it takes the place of the control of the same name.

    `widget`: the file says that it is the socket of a control.
    """

    name: str
    type: str
    link: str | None
    widget: bool = False


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

    `values` is `widgets_values` as saved: a list, or an object by name. `named` is `widgets_values_named`.
    `properties` are those that are a text or a flag.
    `promoted` names, in the order of `values`, the controls that a subgraph shows: (node inside or "-1" for
    an input of its own, name). `odd`: (input or None, where the file contradicts itself).
    """

    id: str
    type: str
    title: str | None
    mode: int
    inputs: tuple[UiInput, ...]
    output_types: tuple[str, ...]
    values: object
    named: Mapping[str, object] | None = None
    promoted: tuple[tuple[str, str], ...] = ()
    pack: str | None = None
    odd: tuple[tuple[str | None, str], ...] = ()
    properties: Mapping[str, str | bool] = field(default_factory=dict)

    @property
    def first_text(self) -> str | None:
        """The first of the saved values, where it is a text; a switch may stand before it."""
        listed = self.values if isinstance(self.values, list) else []
        first = next((value for value in listed if not isinstance(value, bool)), None)
        return first if isinstance(first, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class UiGraph:
    """The top of a workflow or the inside of a subgraph.

    `input_names` are a subgraph's own inputs, `given` the links from them by slot, `results` those to its own
    outputs. `linked` are the nodes at either end of a link, `setters` the first node that gives a value a
    name, by that name. `everywhere` are links without a wire, as the file says them; None: it has no list.
    """

    nodes: Mapping[str, UiNode]
    links: Mapping[str, UiLink]
    input_names: tuple[str, ...]
    given: Mapping[int, Sequence[UiLink]]
    results: Mapping[int, UiLink]
    linked: frozenset[str]
    setters: Mapping[str, str]
    everywhere: tuple[UiLink, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UiWorkflow:
    top: UiGraph
    subgraphs: Mapping[str, UiGraph]


def is_ui_format(raw: Mapping[str, Any]) -> bool:
    return isinstance(raw.get("nodes"), list)


def off_count(raw: Mapping[str, Any]) -> int:
    """How many nodes of a workflow in UI format are muted or bypassed, with those inside of its subgraphs."""
    definitions = raw.get("definitions")
    inside = definitions.get("subgraphs") if isinstance(definitions, Mapping) else None
    graphs = [raw, *(inside if isinstance(inside, list) else ())]
    listed = [graph.get("nodes") for graph in graphs if isinstance(graph, Mapping)]
    nodes = (node for each in listed if isinstance(each, list) for node in each if isinstance(node, Mapping))
    return sum(node.get("mode") in (MUTED, BYPASSED) for node in nodes)


def make_graph(
    nodes: Sequence[UiNode],
    links: Mapping[str, UiLink],
    input_names: tuple[str, ...],
    everywhere: tuple[UiLink, ...] | None = None,
) -> UiGraph:
    given: dict[int, list[UiLink]] = {}
    for link in links.values():
        if link.origin == INPUTS_ID:
            given.setdefault(link.origin_slot, []).append(link)
    return UiGraph(
        nodes={node.id: node for node in nodes},
        links=links,
        input_names=input_names,
        given=given,
        results={link.target_slot: link for link in links.values() if link.target == OUTPUTS_ID},
        linked=frozenset(end for link in links.values() for end in (link.origin, link.target)),
        setters={
            name: node.id for node in reversed(nodes) if is_setter(node.type) and (name := node.first_text)
        },
        everywhere=everywhere,
    )
