"""Nodes that link others without a wire (cg-use-everywhere: Anything Everywhere, Prompts Everywhere, Seed
Everywhere, and any node that was made to broadcast what it gives out).

What such a node hands on goes to every free input of the same type in its graph. Where the file says which
links that made (`extra.ue_links`), those count. Without them, only patterns of plain text are matched.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from comfy_mcp.domain.ui_format import (
    BYPASSED,
    EVERYWHERE,
    INPUTS_ID,
    MUTED,
    NOWHERE,
    OUTPUTS_ID,
    UiGraph,
    UiInput,
    UiLink,
    UiNode,
    UiWorkflow,
    make_graph,
)
from comfy_mcp.domain.ui_links import MAX_LENGTH, bypass

Note = tuple[UiNode, str]

_BY_PATTERN, _PROMPTS, _SEED = "Anything Everywhere?", "Prompts Everywhere", "Seed Everywhere"
_MADE_TO = "ue_convert"
_SIGNS = {"+": re.compile(r"(?:_|\b)pos(?:itive|_|\b)|^prompt", re.IGNORECASE),
          "-": re.compile(r"(?:_|\b)neg(?:ative|_|\b)", re.IGNORECASE)}  # fmt: skip
_ANYTHING = frozenset({"", ".*", ".+", "^.*$"})
_PLAIN = re.compile(r"\^?[\w \-/]*\$?")
_UNSAID = "the file does not say which inputs it reaches without a wire; none is linked"
_RESTRICTIONS = ("group_restricted", "color_restricted")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sender:
    """One input of such a node: what it hands on, and to which inputs. A greater `rank` wins."""

    node: UiNode
    origin: str
    slot: int
    type: str
    rank: int
    title: str = ""
    name: str = ""
    sign: str = ""

    def reaches(self, node: UiNode, given: UiInput) -> bool:
        return (
            given.type == self.type
            and node.id not in (self.node.id, self.origin)
            and _matches(self.title, node.title or node.type)
            and _matches(self.name, given.name)
            and (self.sign not in _SIGNS or _SIGNS[self.sign].search(given.name) is not None)
        )


def with_links_everywhere(workflow: UiWorkflow) -> tuple[UiWorkflow, list[Note]]:
    """With the links that such nodes stand for, and what could not be resolved."""
    notes: list[Note] = []
    graphs = [workflow.top, *workflow.subgraphs.values()]
    if not any(_broadcasts(node) for graph in graphs for node in graph.nodes.values()):
        return workflow, notes
    top = _linked(workflow.top, notes)
    inside = {name: _linked(graph, notes) for name, graph in workflow.subgraphs.items()}
    return UiWorkflow(top=top, subgraphs=inside), notes


def _broadcasts(node: UiNode) -> bool:
    return node.type in EVERYWHERE or node.type == _SEED or node.properties.get(_MADE_TO) is True


def _linked(graph: UiGraph, notes: list[Note]) -> UiGraph:
    added = _found(graph, notes) if graph.everywhere is None else _saved(graph, graph.everywhere, notes)
    if not added:
        return graph
    nodes, links = [], dict(graph.links)

    def link(target: str, slot: int) -> str | None:
        origin = added.get((target, slot))
        if origin is None:
            return None
        key = f"everywhere {target} {slot}"
        links[key] = UiLink(origin=origin[0], origin_slot=origin[1], target=target, target_slot=slot)
        return key

    for node in graph.nodes.values():
        inputs, odd = list(node.inputs), node.odd
        for at, each in enumerate(inputs):
            key = link(node.id, at) if _is_free(graph, each) else None
            if key is not None:
                inputs[at] = replace(each, link=key)
                odd = tuple(said for said in odd if said != (each.name, NOWHERE))
        nodes.append(replace(node, inputs=tuple(inputs), odd=odd))
    for slot in {slot for target, slot in added if target == OUTPUTS_ID} - graph.results.keys():
        link(OUTPUTS_ID, slot)
    return make_graph(nodes, links, graph.input_names, graph.everywhere)


def _saved(
    graph: UiGraph, wireless: Iterable[UiLink], notes: list[Note]
) -> Mapping[tuple[str, int], tuple[str, int]]:
    found = {}
    for link in wireless:
        target = graph.nodes.get(link.target)
        if link.origin in graph.nodes or link.origin == INPUTS_ID:
            found[link.target, link.target_slot] = link.origin, link.origin_slot
        elif target is not None:
            text = f"a link without a wire comes from node {link.origin}, which does not exist"
            notes.append((target, text))
    return found


def _is_free(graph: UiGraph, given: UiInput) -> bool:
    """It has no link, or one that leads to nothing: to no node, or through bypassed nodes to none."""
    key: str | None = given.link
    for _ in range(MAX_LENGTH):
        link = None if key is None else graph.links.get(key)
        if link is None:
            return True
        node = graph.nodes.get(link.origin)
        if node is None or node.mode != BYPASSED:
            return node is None and link.origin != INPUTS_ID
        through = bypass(node, link.origin_slot, given.type)
        key = None if through is None else through.link
    return True


def _found(graph: UiGraph, notes: list[Note]) -> Mapping[tuple[str, int], tuple[str, int]]:
    """By the rules: a free input gets what the one sender of the highest rank hands on."""
    by_type: dict[str, list[_Sender]] = {}
    for sender in _senders(graph, notes):
        by_type.setdefault(sender.type, []).append(sender)
    added: dict[tuple[str, int], tuple[str, int]] = {}
    for node in graph.nodes.values() if by_type else ():
        if node.type in EVERYWHERE or node.mode in {MUTED, BYPASSED}:
            continue
        for at, given in enumerate(node.inputs):
            if given.widget or not _is_free(graph, given):
                continue
            reaching = [each for each in by_type.get(given.type, ()) if each.reaches(node, given)]
            best = [each for each in reaching if each.rank == max(one.rank for one in reaching)]
            if len({(each.origin, each.slot) for each in best}) > 1:
                notes.append((node, f"several nodes would give input {given.name!r} a value; none is linked"))
            elif best:
                added[node.id, at] = best[0].origin, best[0].slot
    return added


def _senders(graph: UiGraph, notes: list[Note]) -> Iterator[_Sender]:
    for node in graph.nodes.values():
        if not _broadcasts(node) or node.mode in {MUTED, BYPASSED}:
            continue
        if node.type not in EVERYWHERE:
            notes.append((node, _UNSAID))
            continue
        if any(node.properties.get(name) is True for name in _RESTRICTIONS):
            notes.append((node, "it links only nodes of its group or colour; that is not resolved here"))
            continue
        patterns = node.values if node.type == _BY_PATTERN and isinstance(node.values, list) else []
        title, name = (str(each) for each in (*patterns[:2], *[""] * (2 - len(patterns[:2]))))
        if not all(each in _ANYTHING or _plain(each) for each in (title, name, *map(str, patterns[2:3]))):
            notes.append((node, "its patterns are not plain text; its links are not resolved here"))
            continue
        for given in node.inputs:
            link = None if given.link is None else graph.links.get(given.link)
            kind = "" if link is None else _type_of(graph, link)
            if link is not None and kind not in {"", "*"}:
                yield _Sender(
                    node=node,
                    origin=link.origin,
                    slot=link.origin_slot,
                    type=kind,
                    rank={_BY_PATTERN: 10, _PROMPTS: 5}.get(node.type, 2),
                    title=title,
                    name=name,
                    sign=given.name if node.type == _PROMPTS else "",
                )


def _type_of(graph: UiGraph, link: UiLink) -> str:
    """Of what a link carries, as its origin says it, through reroutes."""
    for _ in range(len(graph.nodes)):
        node = graph.nodes.get(link.origin)
        if node is None:
            return ""
        kind = node.output_types[link.origin_slot] if link.origin_slot < len(node.output_types) else ""
        before = next((each.link for each in node.inputs[:1] if node.type.startswith("Reroute")), None)
        if kind != "*" or before is None or before not in graph.links:
            return kind
        link = graph.links[before]
    return ""


def _plain(pattern: str) -> bool:
    return all(_PLAIN.fullmatch(each) for each in pattern.split("|"))


def _matches(pattern: str, text: str) -> bool:
    """A pattern of plain texts, one of which is in `text`; with `^` and `$` it begins or ends so."""
    if pattern in _ANYTHING:
        return True
    for each in pattern.split("|"):
        plain = each.removeprefix("^").removesuffix("$")
        begins, ends = each.startswith("^"), each.endswith("$")
        if (not begins or text.startswith(plain)) and (not ends or text.endswith(plain)) and plain in text:
            return True
    return False
