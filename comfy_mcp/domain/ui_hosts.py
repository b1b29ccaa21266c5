"""The values that a subgraph's node keeps for the controls that it shows.

Which those are follows from the inside: each of the subgraph's own inputs that leads to a control, in order.
Older files name them instead (`proxyWidgets`) and may show controls of nodes inside without an input.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.saved_values import Saved, read_values
from comfy_mcp.domain.ui_format import MAX_LEVELS, UiGraph, UiLink, UiNode
from comfy_mcp.domain.ui_links import Promoted
from comfy_mcp.domain.ui_scopes import Scope

_OWN = object()

OWN_INPUT = "-1"
"""In `proxyWidgets`: the control of an input of the subgraph's own, not of a node inside."""


@dataclass(slots=True)
class Shown:
    """`values` of the subgraph's own inputs by name, `inside` those of nodes inside for this use of it,
    by node and name, _OWN where the node's own value counts.
    `notes`: (input or None, what is odd). `unplaced`: as of a node of a class."""

    values: dict[str, object] = field(default_factory=dict)
    inside: dict[str, dict[str, object]] = field(default_factory=dict)
    notes: list[tuple[str | None, str]] = field(default_factory=list)
    unplaced: tuple[str, str] | None = None


class Values:
    """Reads the values of one workflow's nodes, each once."""

    def __init__(self, info: ObjectInfo) -> None:
        self._info = info
        self._of_nodes: dict[int, Saved] = {}
        self._shown_names: dict[int, Mapping[str, bool]] = {}
        self._of_hosts: dict[tuple[str, str], Shown] = {}
        self._of_shared: dict[tuple[str, str, str], tuple[object] | None] = {}

    def of_node(self, scope: Scope, node: UiNode) -> Saved:
        """Of a node of a class: what it has itself, but for what the subgraph around it shows."""
        saved = self._own(node)
        over = self.shown_inside(scope, node)
        changed = {name: over[name] for name in over if name in saved.values and over[name] is not _OWN}
        return replace(saved, values=saved.values | changed) if changed else saved

    def shown_inside(self, scope: Scope, node: UiNode) -> Mapping[str, object]:
        """Controls of `node` that the subgraph around it shows by name, and their values there or _OWN."""
        return {} if scope.outer is None else self.of_host(*scope.outer).inside.get(node.id, {})

    def promoted(self, outermost: Promoted) -> tuple[object] | None:
        """Its value in a tuple, or None where it has none: then each control inside keeps its own."""
        control: Promoted | None = outermost
        while control is not None:
            values = self.of_host(control.scope, control.node).values
            if control.name in values:
                return (values[control.name],)
            control = control.inner
        key = outermost.scope.prefix, outermost.node.id, outermost.name
        if key not in self._of_shared:
            self._of_shared[key] = self._shared(outermost)
        return self._of_shared[key]

    def _shared(self, control: Promoted) -> tuple[object] | None:
        """Without a value of its own, a control for several inside has that of the first."""
        inside = control.scope.inside(control.node)
        assert inside is not None
        control.scope.budget.spend(len(inside.graph.input_names))
        links = inside.graph.given.get(inside.graph.input_names.index(control.name), ())
        for link in links if len(links) > 1 else ():
            node = inside.graph.nodes.get(link.target)
            if node is not None and self._is_control(inside.graph, link, inside, 0):
                name = node.inputs[link.target_slot].name
                if inside.inside(node) is not None:
                    return self.promoted(Promoted(inside, node, name))
                values = self.of_node(inside, node).values
                return (values[name],) if name in values else None
        return None

    def of_host(self, scope: Scope, node: UiNode) -> Shown:
        """`node` is a subgraph, used in `scope`."""
        key = scope.prefix, node.id
        if key not in self._of_hosts:
            names = self._names(scope.workflow.subgraphs[node.type], scope, 0)
            shown = _shown(node, tuple(name for name, sure in names.items() if sure))
            if node.named is None and not node.promoted:
                shown.unplaced = _unplaced(node, names)
            around = self.shown_inside(scope, node)
            shown.values |= {name: value for name, value in around.items() if value is not _OWN}
            self._of_hosts[key] = shown
        return self._of_hosts[key]

    def _own(self, node: UiNode) -> Saved:
        if id(node) not in self._of_nodes:
            known = self._info.classes.get(node.type)
            self._of_nodes[id(node)] = (
                Saved() if known is None else read_values(known, node, self._info.given_kinds)
            )
        return self._of_nodes[id(node)]

    def _names(self, graph: UiGraph, scope: Scope, depth: int) -> Mapping[str, bool]:
        """Of the inputs of the subgraph `graph`, those that lead to a control; false: perhaps."""
        if id(graph) not in self._shown_names:
            self._shown_names[id(graph)] = {}  # what holds itself shows nothing
            found: dict[str, bool] = {}
            for slot, name in enumerate(graph.input_names):
                leads = {self._is_control(graph, link, scope, depth) for link in graph.given.get(slot, ())}
                if True in leads or None in leads:
                    found[name] = found.get(name, False) or True in leads
            self._shown_names[id(graph)] = found
        return self._shown_names[id(graph)]

    def _is_control(self, graph: UiGraph, link: UiLink, scope: Scope, depth: int) -> bool | None:
        """None: it leads to an input for which it can't be known."""
        node = graph.nodes.get(link.target)
        if node is None or not 0 <= link.target_slot < len(node.inputs) or depth > MAX_LEVELS:
            return False
        name = node.inputs[link.target_slot].name
        inside = scope.workflow.subgraphs.get(node.type)
        if inside is not None:
            names = self._names(inside, scope, depth + 1)
            return (names[name] or None) if name in names else False
        if node.type not in self._info.classes:
            return node.inputs[link.target_slot].widget
        own = self._own(node)
        return name in own.values or (None if own.may_have(name) else False)


def _unplaced(node: UiNode, names: Mapping[str, bool]) -> tuple[str, str] | None:
    """The first of the subgraph's inputs for which it can't be known whether the list has a value."""
    unsure = next((at for at, sure in enumerate(names.values()) if not sure), None)
    listed = node.values if isinstance(node.values, list) else []
    if unsure is None or len(listed) <= unsure or len(listed) == sum(names.values()):
        return None
    why = "it leads to an input of a kind that is not known"
    return [*names][unsure], f"{why}, so the saved values from place {unsure + 1} on can't be given to inputs"


def _shown(node: UiNode, names: tuple[str, ...]) -> Shown:
    shown = Shown()
    values = node.values if isinstance(node.values, list) else []
    shown.values.update(zip(names, values, strict=False))
    for at, (inside, name) in enumerate(node.promoted):
        value = values[at] if at < len(values) else _OWN
        if inside != OWN_INPUT:
            shown.inside.setdefault(inside, {})[name] = value
        elif value is not _OWN:
            shown.values[name] = value
    named = node.values if isinstance(node.values, Mapping) else node.named
    if named is not None and not node.promoted:
        _take_named(shown, names, named)
    left = values[max(len(names), len(node.promoted), len(named or ())) :]
    if node.promoted and isinstance(node.values, Mapping):
        left = [*node.values.values()]
    if count := len(left) - left.count(None):
        shown.notes.append((None, f"its subgraph shows no control for {count} of its saved values"))
    return shown


def _take_named(shown: Shown, names: tuple[str, ...], named: Mapping[str, object]) -> None:
    for name in names:
        if name in named:
            if shown.values.get(name, named[name]) != named[name]:
                place = f"{shown.values[name]!r:.60} by its place in the list"
                text = f"{named[name]!r:.60} by its name, {place}; the former is sent"
                shown.notes.append((name, text))
            shown.values[name] = named[name]
    shows = frozenset(names)
    lost = [name for name, value in named.items() if name not in shows and value is not None]
    shown.notes.extend((name, "no control inside the subgraph takes its saved value") for name in lost)
