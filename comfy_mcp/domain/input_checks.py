"""Check the inputs of one node against its class, by the rules of ComfyUI's validation."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from comfy_mcp.domain.errors import GraphProblem
from comfy_mcp.domain.file_inputs import Source, reference
from comfy_mcp.domain.graph import Graph, Link, Node
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.nearest import Hints
from comfy_mcp.domain.object_info import ClassInfo, InputSpec, ObjectInfo
from comfy_mcp.domain.shown import all_shown, shown

_COMPARED_NAMES = 100
_SHOWN_DEFAULT = 40
_EDITORS_OWN = frozenset(
    {
        *("control_after_generate", "upload", "refresh", "audioUI", "preview", "compare_view", "image"),
        *("viewport_state", "upload 3d model", "upload extra resources", "clear"),
    }
)
_OWN_INPUTS = frozenset({"CustomCombo"})
_FILE_PLACES = (" [input]", " [output]", " [temp]")
_LINK_ONLY = frozenset(
    {"MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "IMAGE", "MASK", "CONTROL_NET", "AUDIO", "VIDEO"}
)
_NOT_TEXT = _LINK_ONLY | {"INT", "FLOAT", "BOOLEAN"}
_EXACT, _INF = 2**53, float("inf")
"""Whole numbers up to the first are the same as floats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A fault of `node`. `certain`: the engine will refuse it; `note`: it will not, and something is lost all
    the same.

    What takes work is made when it is shown: a `text` with a list in it, and the names that are nearest to
    `value`, of `options` or of `strays`, which the node has as inputs and its class does not.
    """

    node: Node
    kind: str
    text: str | Callable[[], str]
    input_name: str | None = None
    certain: bool = True
    note: bool = False
    value: object = None
    options: Collection[object] = ()
    strays: Sequence[str] = ()

    def tell(self, hints: Hints | None = None) -> GraphProblem:
        """With the nearest names if `hints` finds some."""
        some = self.options or self.strays
        text = self.text if isinstance(self.text, str) else self.text()
        near = hints.nearest(str(self.value), some) if hints is not None and some else ()
        place = f"Node {self.node.id} ({self.node.class_type})"
        place = place if self.input_name is None else f"{place}, input {self.input_name!r}"
        if near and self.strays:
            hint = f"; {near[0]!r} is not an input of this node."
        else:
            hint = f". Nearest: {', '.join(near)}." if near else "."
        return GraphProblem(
            kind=self.kind,
            message=f"{place}: {text}{hint}",
            node_id=self.node.id,
            class_type=self.node.class_type,
            input_name=self.input_name,
            suggestions=near,
        )


Declared = Mapping[str, InputSpec] | None
"""The inputs that a node has by its class; None: not known, so every link counts."""


def declared_inputs(node: Node, info: ObjectInfo | None) -> Declared:
    owner = None if info is None else info.classes.get(node.class_type)
    return None if owner is None or not owner.checked else owner.inputs_of(node.inputs)


def followed_links(node: Node, declared: Declared) -> list[NodeId]:
    """The nodes whose validity the engine makes this node's validity depend on: declared inputs only."""
    return [link.node for name, link in node.links.items() if declared is None or name in declared]


def check_inputs(
    node: Node, declared: Declared, graph: Graph, info: ObjectInfo | None, hints: Hints
) -> Iterator[Finding]:
    """The faults of the node itself, without those of the nodes that it needs. `hints` decides which unknown
    inputs of a custom node are typing errors."""
    if not node.has_inputs:
        return  # refused as a whole, see graph_checks
    if info is None or declared is None:
        for name, link in node.links.items():
            yield from _check_target(node, name, link, graph)
        return
    inputs = node.inputs
    strays = [name for name in inputs if name not in declared]
    for name, spec in declared.items():
        if name in inputs:
            if not _fits(node, spec, inputs[name], graph, info):
                yield from _check_input(node, spec, inputs[name], graph, info)
        elif spec.required and (not spec.dynamic or spec.choices is not None or spec.unread):
            if spec.unread and any(stray.startswith(f"{name}.") for stray in strays):
                continue  # perhaps what it grows
            yield _missing(node, spec, strays)
    if strays:
        yield from _unknown(node, info.classes[node.class_type], declared, strays, hints)


def _fits(node: Node, spec: InputSpec, value: Any, graph: Graph, info: ObjectInfo) -> bool:
    """Whether `_check_input` surely finds nothing, found out as quickly as can be: most inputs are good."""
    kind = value.__class__
    if kind is list:
        try:
            link = node.links[spec.name]
            types = info.classes[graph.nodes[link.node].class_type].output_types
            return types is not None and types[link.slot] == spec.type
        except LookupError:
            return False
    if kind is str:
        return spec.type not in _NOT_TEXT and (spec.options is None or spec.lists(value))
    if spec.options is not None or spec.names_file:
        return False
    low, high = spec.minimum, spec.maximum
    if spec.type == "FLOAT":
        exact = kind is float or (kind is int and -_EXACT < value < _EXACT)
        return exact and (-_INF if low is None else low) <= value <= (_INF if high is None else high)
    if kind is int and spec.type == "INT":
        return (low is None or low <= value) and (high is None or value <= high)
    return kind is bool and spec.type == "BOOLEAN" and low is None and high is None


def _missing(node: Node, spec: InputSpec, strays: Sequence[str]) -> Finding:
    def text() -> str:
        kind = f"one of {all_shown(spec.options)}" if spec.options else spec.type or "anything"
        default = spec.extra.get("default")
        kind = f"{spec.kind}, which is not understood here" if spec.unread else kind
        usual = "" if default is None or len(str(default)) > _SHOWN_DEFAULT else f", by default {default!r}"
        return f"required and missing ({kind}{usual})"

    return Finding(
        node=node,
        kind="required_input_missing",
        text=text,
        input_name=spec.name,
        value=spec.name,
        strays=strays[:_COMPARED_NAMES],
        # Without its selection a dynamic combo passes the engine's checks, and fails when the node runs.
        certain=spec.strict_options if spec.dynamic else spec.type is not None,
    )


def _unknown(
    node: Node, owner: ClassInfo, declared: Collection[str], strays: Sequence[str], hints: Hints
) -> Iterator[Finding]:
    """Inputs that the class does not declare. The engine drops them without a word.

    A custom node may accept any name: there, only names that look like a typing error are reported.
    """
    unknown = islice((name for name in strays if not _is_editors(name, owner)), _COMPARED_NAMES)
    free = [name for name in declared if name not in node.inputs] if strays else []
    for name in unknown:
        if owner.certain or hints.nearest(name, free):
            yield Finding(
                node=node,
                kind="unknown_input",
                text="the class has no such input, so its value is not used",
                input_name=name,
                certain=False,
                note=True,
                value=name,
                options=free,
            )


def _is_editors(name: str, owner: ClassInfo) -> bool:
    """What the editor sends beyond the class (displays, buttons), or a dynamic input of an unknown kind."""
    if name in _EDITORS_OWN or (owner.name in _OWN_INPUTS and not owner.inputs.get(name)):
        return True
    parent = owner.inputs.get(name.split(".", 1)[0])
    return parent is not None and parent.dynamic and parent.choices is None and not parent.slots


def _check_input(
    node: Node, spec: InputSpec, value: Any, graph: Graph, info: ObjectInfo
) -> Iterator[Finding]:
    if not isinstance(value, list):
        yield from _check_value(node, spec, value, info)
        return
    link = node.links.get(spec.name)
    if link is None:
        yield _bad_link(node, spec, value, graph)
        return
    target = graph.nodes.get(link.node)
    if target is None:
        yield from _check_target(node, spec.name, link, graph)
    else:
        yield from _check_link(node, spec, link, info, target)


def _check_target(node: Node, name: str, link: Link, graph: Graph) -> Iterator[Finding]:
    if link.node not in graph.nodes:
        yield Finding(
            node=node,
            kind="bad_linked_input",
            text=f"links to node {link.node!r}, which is not in the workflow",
            input_name=name,
            value=link.node,
            options=graph.nodes,
        )


def _bad_link(node: Node, spec: InputSpec, value: list[Any], graph: Graph) -> Finding:
    hint = 'a link is a list [node_id, slot], such as ["4", 0]'
    if len(value) == 2 and str(value[0]) in graph.nodes:
        hint = f'write the link as ["{value[0]}", 0]: the node id is a string, the slot a whole number'
    elif spec.type not in _LINK_ONLY:
        hint += '; a list as a value is written {"__value__": […]}'
    return Finding(node=node, kind="bad_linked_input", text=hint, input_name=spec.name)


def _check_link(node: Node, spec: InputSpec, link: Link, info: ObjectInfo, target: Node) -> Iterator[Finding]:
    giver = info.classes.get(target.class_type)
    types = None if giver is None else giver.output_types
    if types is None:
        return
    if not -len(types) <= link.slot < len(types):
        has = f"slots 0 to {len(types) - 1} only" if types else "no outputs"
        yield Finding(
            node=node,
            kind="bad_linked_input",
            text=f"links to slot {link.slot} of node {target.id} ({target.class_type}), which has {has}",
            input_name=spec.name,
        )
        return
    received = types[link.slot]
    if received is None or spec.type is None or _types_meet(received, spec.type):
        return
    slots = [str(slot) for slot, kind in enumerate(types) if kind and _types_meet(kind, spec.type)]
    hint = f"; its slot {' or '.join(slots)} has the right type" if slots else ""
    yield Finding(
        node=node,
        kind="return_type_mismatch",
        text=f"needs {spec.type}, but slot {link.slot} of node {target.id} ({target.class_type}) "
        f"gives {received}{hint}",
        input_name=spec.name,
        certain=info.classes[node.class_type].certain,
    )


def _types_meet(received: str, wanted: str) -> bool:
    """ComfyUI's rule for "A,B" types; `*` and the V3 matching types take anything."""
    given = {part.strip() for part in received.split(",")}
    taken = {part.strip() for part in wanted.split(",")}
    both = given | taken
    return bool(given & taken) or "*" in both or any(kind.startswith("COMFY_") for kind in both)


def _check_value(node: Node, spec: InputSpec, value: Any, info: ObjectInfo) -> Iterator[Finding]:
    if isinstance(value, dict) and "__value__" in value:
        value = value["__value__"]
    given = value
    try:
        value = _converted(spec.type, value)
    except (TypeError, ValueError, OverflowError):
        yield Finding(
            node=node,
            kind="invalid_input_type",
            text=f"must be {spec.type}, not {shown(value)}",
            input_name=spec.name,
        )
        return
    if (text := _changed(spec.type, given, value)) is not None:
        kind = "null_text" if given is None and spec.type == "STRING" else "value_converted"
        yield Finding(node=node, kind=kind, text=text, input_name=spec.name, certain=False, note=True)
    if _is_no_file(spec, value):
        # The engine would accept it, and fail when the node opens it.
        text = f"takes the name of a file, as text, not {shown(value)}"
        yield Finding(node=node, kind="invalid_input_type", text=text, input_name=spec.name)
    elif spec.options is not None:
        yield from _check_option(node, spec, value, info.source)
    elif isinstance(value, int | float):
        yield from _check_range(node, spec, value, info.classes[node.class_type])
    elif spec.type in _LINK_ONLY:
        yield Finding(
            node=node,
            kind="invalid_input_type",
            text=f'needs a link to a node that outputs {spec.type}, such as ["4", 0]',
            input_name=spec.name,
            certain=False,
        )


def _converted(kind: str | None, value: Any) -> Any:
    """As ComfyUI does: INT takes "12", 12.7 and true; STRING and BOOLEAN take anything."""
    match kind:
        case "INT":
            return int(value)
        case "FLOAT":
            return float(value)
        case _:
            return value


def _changed(kind: str | None, given: object, taken: object) -> str | None:
    """What the engine makes of a value of another kind, where it is not the same any more."""
    match kind:
        case "STRING" if given is None:
            return "null becomes the text 'None'; an empty text is \"\""
        case "STRING" if isinstance(given, bool | list | Mapping):
            return f"{shown(given)} becomes a text"
        case "BOOLEAN" if given not in (True, False):
            return f"{shown(given)} becomes {'true' if given else 'false'}"
        case "INT" | "FLOAT" if isinstance(given, bool) or (isinstance(given, float) and given != taken):
            return f"{shown(given)} becomes {shown(taken)}"
        case _:
            return None


def _check_range(node: Node, spec: InputSpec, value: float, owner: ClassInfo) -> Iterator[Finding]:
    low, high = spec.minimum, spec.maximum
    if low is not None and value < low:
        kind, limit = "value_smaller_than_min", f"smaller than the minimum {low}"
    elif high is not None and value > high:
        kind, limit = "value_bigger_than_max", f"larger than the maximum {high}"
    else:
        return
    yield Finding(
        node=node,
        kind=kind,
        text=f"{shown(value)} is {limit}",
        input_name=spec.name,
        certain=owner.certain and spec.type in {"INT", "FLOAT"},
    )


def _check_option(node: Node, spec: InputSpec, value: Any, source: str) -> Iterator[Finding]:
    options = spec.options or ()
    chosen = value if isinstance(value, list) and spec.multiple else [value]
    if all(spec.lists(item) for item in chosen) or _names_a_place(spec, value):
        return

    def text() -> str:
        if not spec.strict_options:
            listed = f"is not in the list that {source} gave" + (f": {all_shown(options)}" if options else "")
        elif options:
            listed = f"is not one of {all_shown(options)}"
        else:
            listed = "is not in the list of choices, which is empty"
        return f"{shown(value)} {listed}"

    yield Finding(
        node=node,
        kind="value_not_in_list",
        text=text,
        input_name=spec.name,
        certain=spec.strict_options,
        value=value,
        options=options,
    )


def _is_no_file(spec: InputSpec, value: object) -> bool:
    """Where a file has to be named."""
    if isinstance(value, str) or not spec.required or spec.multiple:
        return False
    return spec.names_file


def _names_a_place(spec: InputSpec, value: Any) -> bool:
    """The value names a file that no list shows and that the engine looks up itself: `file.png [output]` in
    another folder, or a file in a subfolder or by its path where uploads go."""
    if spec.strict_options or not isinstance(value, str):
        return False
    if reference(value).source not in {Source.NAME, Source.UNKNOWN}:
        return True
    return value.endswith(_FILE_PLACES) or (spec.may_grow and ("/" in value or "\\" in value))
