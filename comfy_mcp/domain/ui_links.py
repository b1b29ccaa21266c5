"""Where an input of a saved workflow gets its value from in the end.

A link leads through reroutes, bypassed nodes, named pairs of nodes and the walls of subgraphs to an output of
a node that runs, or to a value: that of a primitive, or of a control that a subgraph shows.
"""

from dataclasses import dataclass, replace

from comfy_mcp.domain.ui_format import (
    BYPASSED,
    EDITOR_TOOLS,
    EVERYWHERE,
    GROUP_NODE,
    INPUTS_ID,
    MUTED,
    PRIMITIVE,
    UiInput,
    UiNode,
    is_getter,
    is_setter,
)
from comfy_mcp.domain.ui_pairs import is_off, switches
from comfy_mcp.domain.ui_scopes import Scope

MAX_LENGTH = 100
"""Steps that one link is followed."""

REROUTE = "Reroute"
REROUTES = frozenset({REROUTE, "Reroute (rgthree)"})
_EDITOR_ONLY = REROUTES | EVERYWHERE | EDITOR_TOOLS | {PRIMITIVE}


def is_editor_only(kind: str) -> bool:
    """Nodes of that type never reach an engine: they hand something on."""
    return kind in _EDITOR_ONLY or is_setter(kind) or is_getter(kind)


FILLS_IN = "Run widget replace on values"
"""The property of a primitive whose value the editor fills dates and other values into."""


@dataclass(frozen=True, slots=True)
class Value:
    """Of a primitive. `filled`: with dates and the values of other nodes in it."""

    value: object
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    node: str
    slot: int


@dataclass(frozen=True, slots=True)
class Promoted:
    """The control that a subgraph shows for its own input `name`, on its node in `scope`; where it has no
    value of its own, that of the subgraph inside counts, `inner`.
    """

    scope: Scope
    node: UiNode
    name: str
    inner: "Promoted | None" = None


@dataclass(frozen=True, slots=True)
class Unheard:
    """A primitive's value for an input of a subgraph: the editor draws it, and sends the value inside."""

    value: object


@dataclass(frozen=True, slots=True)
class NotSet:
    """A node reads what is set under `name`, and no node sets that, or the node is switched `off`."""

    name: str | None
    off: bool = False


@dataclass(frozen=True, slots=True)
class Endless:
    """A ring, or a link that is too long to follow; `node` is where that was given up."""

    node: str


Source = Value | Output | Promoted | Unheard | NotSet | Endless | None


def source_of(scope: Scope, given: UiInput, wanted: str) -> Source:
    """None: from nowhere. `wanted` is the type that the input has here."""
    return _source(scope, given, wanted, MAX_LENGTH)


def _source(scope: Scope, given: UiInput, wanted: str, steps: int) -> Source:
    """`wanted`: the type by which a bypassed node chooses what it hands through, that of the input at the
    end or of an input of a bypassed node or a subgraph on the way."""
    link = None if given.link is None else scope.graph.links.get(given.link)
    return None if link is None else _origin(scope, link.origin, link.origin_slot, wanted, steps - 1)


def _origin(scope: Scope, origin: str, slot: int, wanted: str, steps: int) -> Source:
    if steps <= 0:
        return Endless(f"{scope.prefix}{origin}")
    scope.budget.spend(1)
    if origin == INPUTS_ID:
        return _outside(scope, slot, steps)
    node = scope.graph.nodes.get(origin)
    if node is not None and node.type == PRIMITIVE:
        return _set_by(node)
    if node is None or node.mode == MUTED:
        return None
    if node.mode == BYPASSED:
        scope.budget.spend(len(node.inputs))
        through = bypass(node, slot, wanted)
        return None if through is None else _passed_on(scope, through, through.type, steps)
    inside = scope.inside(node)
    if inside is not None:
        result = inside.graph.results.get(slot)
        return (
            None if result is None else _origin(inside, result.origin, result.origin_slot, wanted, steps - 1)
        )
    if is_editor_only(node.type):
        return _handed_on(scope, node, wanted, steps)
    return Output(f"{scope.prefix}{node.id}", slot)


def _set_by(node: UiNode) -> Value | None:
    """A primitive sets its controls even where it is muted or bypassed."""
    filled = node.properties.get(FILLS_IN) is True
    return Value(node.values[0], filled) if isinstance(node.values, list) and node.values else None


def _handed_on(scope: Scope, node: UiNode, wanted: str, steps: int) -> Source:
    if is_getter(node.type):
        if _is_off(scope, node):
            return NotSet(node.first_text, off=True)
        found = _setter(scope, node.first_text)
        if found is None:
            return NotSet(node.first_text)
        scope, node = found
    return _passed_on(scope, node.inputs[0], wanted, steps) if node.inputs else None


def _is_off(scope: Scope, node: UiNode) -> bool:
    """A node that gets a value may have a switch, and an input for it that a primitive sets."""
    links = (scope.graph.links.get(each.link or "") for each in node.inputs)
    givers = (scope.graph.nodes.get(link.origin) for link in links if link is not None)
    set_by = (_set_by(giver) for giver in givers if giver is not None and giver.type == PRIMITIVE)
    given = next((found.value for found in set_by if found is not None), None)
    return any(map(is_off, switches(node) if given is None else [given]))


def _passed_on(scope: Scope, given: UiInput, wanted: str, steps: int) -> Source:
    """A primitive sets the controls that it is linked to directly; the editor does not look further."""
    found = _source(scope, given, wanted, steps)
    return None if isinstance(found, Value | Unheard) else found


def _setter(scope: Scope | None, name: str | None) -> tuple[Scope, UiNode] | None:
    """The node that sets what a GetNode names: beside it, else where the subgraph is used."""
    while scope is not None and name is not None:
        found = scope.graph.setters.get(name)
        if found is not None:
            return scope, scope.graph.nodes[found]
        scope = None if scope.outer is None else scope.outer[0]
    return None


def _outside(scope: Scope, slot: int, steps: int) -> Source:
    """What the subgraph's own input `slot` is given where it is used: a link, else the control it shows.

    A link that leads to no output hides that control: then the one inside keeps its own value.
    """
    if scope.outer is None or not 0 <= slot < len(scope.graph.input_names):
        return None
    (outer, instance), name = scope.outer, scope.graph.input_names[slot]
    own = Promoted(outer, instance, name)
    scope.budget.spend(len(instance.inputs))
    linked = next((each for each in instance.inputs if each.name == name and each.link is not None), None)
    if linked is None:
        return own
    match _source(outer, linked, linked.type, steps):
        case Promoted() as found:
            return replace(found, inner=own if found.inner is None else replace(found.inner, inner=own))
        case Value(value) if not instance.type.startswith(GROUP_NODE):
            return Unheard(value)
        case found:
            return found


def bypass(node: UiNode, slot: int, wanted: str) -> UiInput | None:
    """The input that a bypassed node hands through to output `slot`, by the editor's rules."""
    given = node.output_types[slot] if 0 <= slot < len(node.output_types) else "*"
    same = node.inputs[slot] if 0 <= slot < len(node.inputs) else None
    if wanted in {"*", ""}:
        return same or next(iter(node.inputs), None)
    if same is not None and fits(same.type, given) and fits(same.type, wanted):
        return same
    exact = (each for each in node.inputs if each.type == wanted)
    fitting = (each for each in node.inputs if fits(each.type, given) and fits(each.type, wanted))
    return next(exact, None) or next(fitting, None)


def fits(one: str, other: str) -> bool:
    """Whether the editor links them: lists of types, of which one is in both; nothing and `*` fit all."""
    if {one, other} & {"*", "", "0"}:
        return True
    return bool({*one.lower().split(",")} & {*other.lower().split(",")})
