"""A workflow as ComfyUI's editor saves it (nodes, links, subgraphs), read tolerantly.

The UI format is for people: it has positions, colours, notes. No engine takes it; `ui_conversion` makes the
API format of it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from types import MappingProxyType
from typing import Any

MUTED, BYPASSED = 2, 4
"""Values of a node's `mode`: never run, and handed through. Every other mode runs."""

_SETTER = re.compile("(?:easy |[A-Z]{0,4})[sS]etNode")
_GETTER = re.compile("(?:easy |[A-Z]{0,4})[gG]etNode")


def is_setter(kind: str) -> bool:
    """SetNode, easy setNode, GGSetNode: nodes of custom packs that give a value a name, without a link."""
    return _SETTER.fullmatch(kind) is not None


def is_getter(kind: str) -> bool:
    """They hand on what the setter of the same name is given."""
    return _GETTER.fullmatch(kind) is not None


EVERYWHERE = frozenset(
    {"Anything Everywhere", "Anything Everywhere3", "Anything Everywhere?", "Prompts Everywhere"}
)
"""Nodes of a custom pack that link others without a wire (ui_everywhere.py). They never run."""

EDITOR_TOOLS = frozenset(
    f"{name} (rgthree)"
    for name in (
        *("Fast Muter", "Fast Bypasser", "Fast Groups Muter", "Fast Groups Bypasser", "Fast Actions Button"),
        *("Mute / Bypass Repeater", "Mute / Bypass Relay", "Node Collector", "Random Unmuter"),
        *("Bookmark", "Label"),
    )
)
"""Nodes of a custom pack that switch others on and off in the editor, or only show something. They may be
linked, and never run."""

_DIGITS = 16
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
        """The first of the saved values, where it is a text."""
        first = self.values[0] if isinstance(self.values, list) and self.values else None
        return first if isinstance(first, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class UiGraph:
    """The top of a workflow or the inside of a subgraph.

    `input_names` are a subgraph's own inputs, `given` the links from them by slot, `results` those to its own
    outputs. `linked` are the nodes at either end of a link, `setters` the nodes that give a value a name, by
    that name. `everywhere` are links without a wire, as the file says them; None: it has no list.
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


def distinct(workflow: UiWorkflow, last: int) -> UiWorkflow:
    """With new ids for nodes inside subgraphs whose id another graph of the workflow has too, as the editor
    gives them when it loads the file: counted on from `last`, the highest that was ever given."""
    used = set(workflow.top.nodes)
    present = used.union(
        *(graph.nodes for name, graph in workflow.subgraphs.items() if not name.startswith(GROUP_NODE))
    )
    last = _highest(used, last)
    free = (number for number in map(str, count(last + 1)) if number not in present)
    renamed: dict[str, Mapping[str, str]] = {}
    for name, graph in workflow.subgraphs.items():
        if name.startswith(GROUP_NODE):  # a place in a list, which no other node has
            continue
        renamed[name] = {node: next(free) for node in graph.nodes if node in used}
        used.update(graph.nodes)
    if not any(renamed.values()):
        return workflow
    return UiWorkflow(
        top=_renamed(workflow.top, {}, renamed),
        subgraphs={
            name: _renamed(graph, renamed.get(name, {}), renamed)
            for name, graph in workflow.subgraphs.items()
        },
    )


def _renamed(graph: UiGraph, ids: Mapping[str, str], inside: Mapping[str, Mapping[str, str]]) -> UiGraph:
    nodes = []
    for node in graph.nodes.values():
        held = inside.get(node.type, {})
        promoted = tuple((held.get(at, at), name) for at, name in node.promoted)
        nodes.append(replace(node, id=ids.get(node.id, node.id), promoted=promoted))
    links = {
        key: replace(link, origin=ids.get(link.origin, link.origin), target=ids.get(link.target, link.target))
        for key, link in graph.links.items()
    }
    wireless = graph.everywhere and tuple(
        replace(link, origin=ids.get(link.origin, link.origin), target=ids.get(link.target, link.target))
        for link in graph.everywhere
    )
    return make_graph(nodes, links, graph.input_names, wireless)


def is_ui_format(raw: Mapping[str, Any]) -> bool:
    return isinstance(raw.get("nodes"), list)


def read_workflow(raw: Mapping[str, Any]) -> UiWorkflow:
    """Never raises: an item without the shape of a node or a link is left out."""
    definitions = raw.get("definitions")
    listed = definitions.get("subgraphs") if isinstance(definitions, Mapping) else None
    held = {str(each["id"]): each for each in _list(listed) if isinstance(each, Mapping) and each.get("id")}
    state = raw.get("state")
    given = (raw.get("last_node_id"), state.get("lastNodeId") if isinstance(state, Mapping) else None)
    last = max((each for each in given if isinstance(each, int)), default=0)
    return distinct(_used(_graph(raw, last), held), last)


def _used(top: UiGraph, held: Mapping[str, Mapping[str, Any]]) -> UiWorkflow:
    """With those of the subgraphs that are used, in the order of the file; of a nest that is too deep, the
    upper levels."""
    read: dict[str, UiGraph] = {}
    level = [top]
    for _ in range(MAX_LEVELS + 1):
        wanted = {node.type for graph in level for node in graph.nodes.values() if node.type not in read}
        below = {name: _graph(held[name]) for name in wanted if name in held}
        read |= below
        level = list(below.values())
    return UiWorkflow(top=top, subgraphs={name: read[name] for name in held if name in read})


def _graph(raw: Mapping[str, Any], last: int = 0) -> UiGraph:
    """`last`: the highest id that was ever given to a node."""
    found = [each for each in _list(raw.get("nodes")) if isinstance(each, Mapping)]
    links = dict(link for each in _list(raw.get("links")) if (link := _link(each)))
    nodes = _reconciled(_with_ids([_node(each) for each in found], last), links)
    names = [each.get("name") for each in _list(raw.get("inputs")) if isinstance(each, Mapping)]
    extra = raw.get("extra")
    extra = extra if isinstance(extra, Mapping) else {}
    said = extra.get("ue_links")
    wireless = tuple(known for each in said if (known := _wireless(each))) if isinstance(said, list) else None
    named = tuple(_text(name) for name in names)
    return make_graph([node for node in nodes if node.type], links, named, wireless)


def _highest(ids: Iterable[str], last: int) -> int:
    return max(last, *(int(each) for each in ids if each.isdecimal() and len(each) < _DIGITS), 0)


def _with_ids(nodes: Sequence[UiNode], last: int) -> list[UiNode]:
    """With a new id for a node whose id an earlier one has: counted on, as the editor does it."""
    used: set[str] = set()
    numbers = count(_highest((node.id for node in nodes), last) + 1)
    found = []
    for node in nodes:
        new = node if node.id not in used else replace(node, id=str(next(numbers)))
        used.add(new.id)
        found.append(new)
    return found


def _reconciled(nodes: Iterable[UiNode], links: Mapping[str, UiLink]) -> list[UiNode]:
    """With the links of each input as the editor understands a file that contradicts itself.

    An input has the link that it names, unless that leads to another node, or to an input that names its own.
    A link that no input of its node names leads where it says.
    """
    ends: dict[str, dict[int, str]] = {}
    for key, link in links.items():
        ends.setdefault(link.target, {})[link.target_slot] = key
    return [_with_links(node, links, ends.get(node.id, {})) for node in nodes]


def _with_links(node: UiNode, links: Mapping[str, UiLink], leading: Mapping[int, str]) -> UiNode:
    """`leading`: the links that say that they lead to the node, by slot."""
    sure = {slot for slot, each in enumerate(node.inputs) if _names(each, links, node, slot)}
    named = {each.link for each in node.inputs}
    inputs: list[UiInput] = []
    odd: list[tuple[str | None, str]] = []
    for slot, each in enumerate(node.inputs):
        link = None if each.link is None else links.get(each.link)
        if link is None:
            found = leading.get(slot)
            each = replace(each, link=each.link if found in named else found or each.link)
        elif slot not in sure and (link.target != node.id or link.target_slot in sure):
            odd.append((each.name, "its link leads to another input in the file's list of links"))
            each = replace(each, link=None)
        inputs.append(each)
    beyond = [slot for slot, key in leading.items() if not 0 <= slot < len(inputs) and key not in named]
    if beyond:
        odd.append(
            (None, f"a link leads to its input {beyond[0]}, which the file does not list; it is left out")
        )
    return replace(node, inputs=tuple(inputs), odd=tuple(odd))


def _names(given: UiInput, links: Mapping[str, UiLink], node: UiNode, slot: int) -> bool:
    """The input names a link that leads to it."""
    link = None if given.link is None else links.get(given.link)
    return link is not None and (link.target, link.target_slot) == (node.id, slot)


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
        setters={name: node.id for node in nodes if is_setter(node.type) and (name := node.first_text)},
        everywhere=everywhere,
    )


def _node(raw: Mapping[str, Any]) -> UiNode:
    properties = raw.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    proxies, pack = properties.get("proxyWidgets"), properties.get("cnr_id") or properties.get("aux_id")
    title, mode = raw.get("title"), raw.get("mode")
    return UiNode(
        id=_text(raw.get("id")),
        type=RENAMED.get(_text(raw.get("type")), _text(raw.get("type"))),
        title=title if isinstance(title, str) and title.strip() else None,
        mode=mode if isinstance(mode, int) else 0,
        inputs=tuple(_input(each) for each in _list(raw.get("inputs")) if isinstance(each, Mapping)),
        output_types=tuple(
            _text(each.get("type")) for each in _list(raw.get("outputs")) if isinstance(each, Mapping)
        ),
        values=raw.get("widgets_values"),
        named=named if isinstance(named := raw.get("widgets_values_named"), Mapping) else None,
        pack=pack if isinstance(pack, str) else None,
        properties={name: value for name, value in properties.items() if isinstance(value, str | bool)},
        promoted=tuple(
            (_text(each[0]), _text(each[1]))
            for each in _list(proxies)
            if isinstance(each, list) and len(each) > 1
        ),
    )


def _input(raw: Mapping[str, Any]) -> UiInput:
    link = raw.get("link")
    return UiInput(
        name=_text(raw.get("name")),
        type=_text(raw.get("type")),
        link=None if link is None else _text(link),
        widget=isinstance(raw.get("widget"), Mapping),
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


def _wireless(raw: object) -> UiLink | None:
    """As cg-use-everywhere keeps it."""
    match raw:
        case {
            "upstream": str() | int() as origin,
            "upstream_slot": int(origin_slot),
            "downstream": str() | int() as target,
            "downstream_slot": int(target_slot),
        }:
            return UiLink(
                origin=_text(origin), origin_slot=origin_slot, target=_text(target), target_slot=target_slot
            )
        case _:
            return None


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _text(value: object) -> str:
    return "" if value is None else str(value)
