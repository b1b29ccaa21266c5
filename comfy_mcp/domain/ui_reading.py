"""Reads a workflow file in UI format, tolerantly; one that contradicts itself as ComfyUI's editor does.

Where that would lose a link that the file has, the link is kept, and a note says so.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from comfy_mcp.domain.object_info import ClassInfo, ObjectInfo
from comfy_mcp.domain.shown import shown
from comfy_mcp.domain.ui_format import (
    BYPASSED,
    GROUP_NODE,
    INPUTS_ID,
    MAX_LEVELS,
    NOWHERE,
    PRIMITIVE,
    RENAMED,
    UiGraph,
    UiInput,
    UiLink,
    UiNode,
    UiWorkflow,
    is_getter,
    is_setter,
    make_graph,
)
from comfy_mcp.domain.widgets import control_kind, socket_type

_DIGITS = 16
_LISTS = 0.4
"""The version of files whose links are lists; in later ones they are objects."""
_UNNAMED = "it names no link, and the file's list of links has one that leads to it; that one is sent"
_ELSEWHERE = "its link leads to another input in the file's list of links"
_SECOND = "the file's list of links has a second link that leads to it; that one is left out"
_UNREAD = "its saved values have no places or names, and none of them is read"
_LOST = "its link is not written as in files of that version, so ComfyUI's editor loses it; it is sent"


Declared = Callable[[UiNode], Sequence[tuple[str, str]] | None]
"""The inputs (name and type) that the editor gives a node when it makes it; None: those of the file count."""


def read_workflow(raw: Mapping[str, Any], info: ObjectInfo) -> UiWorkflow:
    """Never raises: an item without the shape of a node or a link is left out."""
    definitions = raw.get("definitions")
    listed = definitions.get("subgraphs") if isinstance(definitions, Mapping) else None
    held = {str(each["id"]): each for each in _list(listed) if isinstance(each, Mapping) and each.get("id")}

    def declared(node: UiNode) -> Sequence[tuple[str, str]] | None:
        if node.type in held:
            return None if node.type.startswith(GROUP_NODE) else _own_inputs(held[node.type])
        known = info.classes.get(node.type) if node.mode == BYPASSED else None
        return None if known is None or known.grows else _class_inputs(known, node)

    state = raw.get("state")
    given = (raw.get("last_node_id"), state.get("lastNodeId") if isinstance(state, Mapping) else None)
    last = max((each for each in given if isinstance(each, int)), default=0)
    top = _graph(raw, declared, last, _lost_shapes(raw))
    return distinct(_used(top, held, declared), last)


def _lost_shapes(raw: Mapping[str, Any]) -> tuple[type, ...]:
    """How a link of the file is written where the editor does not read it."""
    return (Mapping,) if raw.get("version") == _LISTS else (list,) if "version" in raw else ()


def _own_inputs(subgraph: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [each for each in _list(subgraph.get("inputs")) if isinstance(each, Mapping)]
    return [(_text(each.get("name")), _text(each.get("type"))) for each in found]


def _class_inputs(known: ClassInfo, node: UiNode) -> list[tuple[str, str]]:
    """Sockets first, then those of controls, then what the file has beyond them."""
    saved = {each.name: each for each in node.inputs}
    sockets: list[tuple[str, str]] = []
    controls: list[tuple[str, str]] = []
    for spec in known.inputs.values():
        there = saved.pop(spec.name, None)
        kind = socket_type(spec, "*" if there is None else there.type)
        control = control_kind(spec) is not None or (there is not None and there.widget)
        if spec.extra.get("socketless") is not True:
            (controls if control else sockets).append((spec.name, kind))
    return [*sockets, *controls, *((each.name, each.type) for each in saved.values())]


def _used(top: UiGraph, held: Mapping[str, Mapping[str, Any]], declared: Declared) -> UiWorkflow:
    """With those of the subgraphs that are used, in the order of the file; of a nest that is too deep, the
    upper levels."""
    read: dict[str, UiGraph] = {}
    level = [top]
    for _ in range(MAX_LEVELS + 1):
        wanted = {node.type for graph in level for node in graph.nodes.values() if node.type not in read}
        below = {name: _graph(held[name], declared) for name in wanted if name in held}
        read |= below
        level = list(below.values())
    return UiWorkflow(top=top, subgraphs={name: read[name] for name in held if name in read})


def _graph(
    raw: Mapping[str, Any], declared: Declared, last: int = 0, lost_shapes: tuple[type, ...] = ()
) -> UiGraph:
    """`last`: the highest id that was ever given to a node. `lost_shapes`: of links that the editor loses."""
    found = [each for each in _list(raw.get("nodes")) if isinstance(each, Mapping)]
    listed = [(each, link) for each in _list(raw.get("links")) if (link := _link(each))]
    links = dict(link for _, link in listed)
    lost = frozenset(link[0] for each, link in listed if isinstance(each, lost_shapes))
    ordered = [_in_order(node, declared(node), links) for node in _with_ids(map(_node, found), last)]
    nodes = _reconciled(ordered, links, lost)
    names = [each.get("name") for each in _list(raw.get("inputs")) if isinstance(each, Mapping)]
    extra = raw.get("extra")
    extra = extra if isinstance(extra, Mapping) else {}
    said = extra.get("ue_links")
    wireless = tuple(known for each in said if (known := _wireless(each))) if isinstance(said, list) else None
    named = tuple(_text(name) for name in names)
    return make_graph([node for node in nodes if node.type], links, named, wireless)


def _in_order(node: UiNode, declared: Sequence[tuple[str, str]] | None, links: dict[str, UiLink]) -> UiNode:
    """With the inputs that are `declared`, in their order; `links` to them lead there."""
    if declared is None or [(each.name, each.type) for each in node.inputs] == declared:
        return node
    places = {each.name: slot for slot, each in reversed(list(enumerate(node.inputs)))}
    inputs = []
    for new, (name, kind) in enumerate(declared):
        old = places.get(name)
        given = UiInput(name=name, type=kind, link=None) if old is None else node.inputs[old]
        link = links.get(given.link or "")
        if link is not None and (link.target, link.target_slot) == (node.id, old):
            links[given.link or ""] = replace(link, target_slot=new)
        inputs.append(replace(given, type=kind))
    return replace(node, inputs=tuple(inputs))


def _number(node: str) -> int:
    return int(node) if node.isdecimal() and len(node) < _DIGITS else 0


def _highest(ids: Iterable[str], last: int) -> int:
    return max(last, *map(_number, ids), 0)


def _with_ids(nodes: Iterable[UiNode], last: int) -> list[UiNode]:
    """With a new id for a node whose id an earlier one has: the next after all that the file has had so far,
    as the editor does it."""
    used: set[str] = set()
    found = []
    for node in nodes:
        new = node if node.id not in used else replace(node, id=str(last + 1))
        last = max(last, _number(new.id))
        used.add(new.id)
        found.append(new)
    return found


def _reconciled(nodes: Sequence[UiNode], links: Mapping[str, UiLink], lost: frozenset[str]) -> list[UiNode]:
    """With the links of each input as the editor understands a file that contradicts itself.

    An input has the link that it names, unless that leads to another node, or to an input that names its own.
    A link that no input of its node names leads where it says. `lost`: those that the editor does not read.
    """
    ends: dict[str, dict[int, list[str]]] = {}
    for key, link in links.items():
        ends.setdefault(link.target, {}).setdefault(link.target_slot, []).append(key)
    origins = {INPUTS_ID, *(node.id for node in nodes)}
    there = {key for key, link in links.items() if link.origin in origins}
    read = (_with_links(node, links, ends.get(node.id, {}), lost) for node in nodes)
    return [replace(node, odd=(*node.odd, *_dangling(node, there))) for node in read]


def _dangling(node: UiNode, there: Collection[str]) -> list[tuple[str, str]]:
    """`there`: the links that come from a node of the same graph, or from outside of it."""
    return [(each.name, NOWHERE) for each in node.inputs if each.link is not None and each.link not in there]


def _with_links(
    node: UiNode, links: Mapping[str, UiLink], leading: Mapping[int, list[str]], lost: frozenset[str]
) -> UiNode:
    """`leading`: the links that say that they lead to the node, by slot."""
    sure = {slot for slot, each in enumerate(node.inputs) if _names(each, links, node, slot)}
    named = {each.link for each in node.inputs}
    free = {slot: key for slot, keys in leading.items() for key in keys if key not in named}
    inputs: list[UiInput] = []
    odd: list[tuple[str | None, str]] = []
    for slot, each in enumerate(node.inputs):
        link = None if each.link is None else links.get(each.link)
        found = free.get(slot)
        if link is None and found is not None:
            each = replace(each, link=found)
            odd.append((each.name, _UNNAMED))
        elif link is not None and slot not in sure and (link.target != node.id or link.target_slot in sure):
            odd.append((each.name, _ELSEWHERE))
            each = replace(each, link=None)
        elif found is not None:
            odd.append((each.name, _SECOND))
        if each.link in lost:
            odd.append((each.name, _LOST))
        inputs.append(each)
    beyond = [slot for slot in free if not 0 <= slot < len(inputs)]
    if beyond:
        odd.append(
            (None, f"a link leads to its input {beyond[0]}, which the file does not list; it is left out")
        )
    return replace(node, inputs=tuple(inputs), odd=(*node.odd, *odd))


def _names(given: UiInput, links: Mapping[str, UiLink], node: UiNode, slot: int) -> bool:
    """The input names a link that leads to it."""
    link = None if given.link is None else links.get(given.link)
    return link is not None and (link.target, link.target_slot) == (node.id, slot)


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


def _node(raw: Mapping[str, Any]) -> UiNode:
    properties = raw.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    proxies, pack = properties.get("proxyWidgets"), properties.get("cnr_id") or properties.get("aux_id")
    title, mode = raw.get("title"), raw.get("mode")
    kind, values = RENAMED.get(_text(raw.get("type")), _text(raw.get("type"))), raw.get("widgets_values")
    return UiNode(
        id=_text(raw.get("id")),
        type=kind,
        title=title if isinstance(title, str) and title.strip() else None,
        mode=mode if isinstance(mode, int) else 0,
        inputs=tuple(_input(each) for each in _list(raw.get("inputs")) if isinstance(each, Mapping)),
        output_types=tuple(
            _text(each.get("type")) for each in _list(raw.get("outputs")) if isinstance(each, Mapping)
        ),
        values=values,
        odd=() if _is_readable(kind, values) else ((None, f"{_UNREAD}: {shown(values)}"),),
        named=named if isinstance(named := raw.get("widgets_values_named"), Mapping) else None,
        pack=pack if isinstance(pack, str) else None,
        properties={name: value for name, value in properties.items() if isinstance(value, str | bool)},
        promoted=tuple(
            (_text(each[0]), _text(each[1]))
            for each in _list(proxies)
            if isinstance(each, list) and len(each) > 1
        ),
    )


def _is_readable(kind: str, values: object) -> bool:
    """Of a list, or of an object by name; nodes of the editor's own have no names for their values."""
    by_place = kind == PRIMITIVE or is_setter(kind) or is_getter(kind)
    return values in (None, "", {}) or isinstance(values, list if by_place else list | Mapping)


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
