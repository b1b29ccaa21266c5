"""An API-format graph as a value: node id → class_type, inputs, links.

`parse_graph` refuses only what makes every engine refuse the whole body. What is wrong with one branch
(a link to nowhere, a cycle, a bad value) is for `graph_checks.check_graph`, because an engine still runs
the other branches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NoReturn

from comfy_mcp.domain.errors import ErrorCode, GraphProblem, InvalidGraph, readable
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.ui_format import is_ui_format

MAX_PROBLEMS = 20
"""Problems in one message; it counts the others."""
CORRECT = "Correct the workflow and submit it again."
OBJECT = (dict, Mapping)
"""For `isinstance`, which knows a dict at once; what else is a Mapping is found out by Python code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An input that comes from output number `slot` of another node: `["node", slot]` in JSON."""

    node: NodeId
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """`inputs` as submitted; `links` are those of them that ComfyUI would follow.

    `title` is what the author called it, or the class_type. `has_inputs` is False where the key `inputs`
    is missing or not an object, which ComfyUI refuses as soon as something needs the node.
    `pack` is where its class comes from, if the workflow says so.
    """

    id: NodeId
    class_type: str
    title: str
    inputs: Mapping[str, Any]
    links: Mapping[str, Link]
    has_inputs: bool = True
    pack: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """`raw` is the API-format object to send: without a `{"prompt": …}` wrapper."""

    nodes: Mapping[NodeId, Node]
    raw: Mapping[str, Any]

    def upstream(self, *roots: NodeId) -> frozenset[NodeId]:
        """The roots and everything they need, whatever the order or the loops."""
        nodes = self.nodes
        seen: set[NodeId] = set()
        found = {root for root in roots if root in nodes}
        while found:
            seen |= found
            linked = {link.node for node in found for link in nodes[node].links.values()}
            found = {node for node in linked if node in nodes and node not in seen}
        return frozenset(seen)


def parse_graph(raw: object) -> Graph:
    """The graph in `raw`: an API-format object, or a body `{"prompt": graph, …}` around one.

    Of such a body only `prompt` is used; its client_id, extra_data and the like are ignored.
    The UI format is not read here: `api_format` comes first where an engine is known.
    Raises InvalidGraph: `graph_ui_format`, or `graph_invalid` with every problem.
    """
    if not isinstance(raw, OBJECT):
        _refuse(
            f"A workflow is a JSON object of nodes, not {_kind(raw)}.",
            next_step=_API_FORMAT,
            code=ErrorCode.GRAPH_INVALID,
            kind="graph_not_object",
        )
    raw = unwrapped(raw)
    if is_ui_format(raw):
        _refuse(
            "This workflow is in UI format, and no engine answers that knows the names of its values.",
            next_step="Start ComfyUI and submit it again, or submit the file of Workflow > Export (API).",
            code=ErrorCode.GRAPH_UI_FORMAT,
            kind="graph_ui_format",
        )
    if not raw:
        _refuse(
            "The workflow has no nodes.",
            next_step=_API_FORMAT,
            code=ErrorCode.GRAPH_INVALID,
            kind="prompt_no_outputs",
        )
    shapeless = [key for key, value in raw.items() if not _has_shape(value)]
    if shapeless:
        problems = [_shape_problem(key, raw[key]) for key in shapeless[:MAX_PROBLEMS]]
        raise invalid_graph(problems, len(shapeless))
    nodes = {NodeId(key): _node(NodeId(key), value) for key, value in raw.items()}
    return Graph(nodes=MappingProxyType(nodes), raw=raw)


def invalid_graph(
    problems: Sequence[GraphProblem],
    count: int = 0,
    *,
    lacks: str = "",
    others: Sequence[GraphProblem] | None = None,
    next_step: str = CORRECT,
    details: Mapping[str, object] = MappingProxyType({}),
) -> InvalidGraph:
    """The error about `problems`: as many as can be read in its text, MAX_PROBLEMS in its structure.

    `lacks` names what the engine lacks, in place of the problems about that: the text has it and `others`.
    `count`: how many others there are in all.
    """
    told = problems if others is None else others
    count = max(count, len(told))
    shown = readable([problem.message.rstrip(".") for problem in told[:MAX_PROBLEMS]])
    more = f"; and {count - len(shown)} more" if count > len(shown) else ""
    return InvalidGraph(
        f"The workflow can't run: {'; '.join([*([lacks] if lacks else []), *shown])}{more}.",
        next_step=next_step,
        problems=problems[:MAX_PROBLEMS],
        details=details,
    )


_API_FORMAT = (
    'Submit the API format: {"1": {"class_type": "EmptyImage", "inputs": {…}}, …}; '
    "in ComfyUI it is Workflow > Export (API)."
)


def _refuse(message: str, *, next_step: str, code: ErrorCode, kind: str) -> NoReturn:
    problem = GraphProblem(kind=kind, message=message)
    raise InvalidGraph(message, next_step=next_step, problems=(problem,), code=code)


def unwrapped(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The graph of a body that has one; else `raw` itself."""
    return raw if raw.keys().isdisjoint(WRAPPERS) else wrapped_graph(raw)[0]


def wrapped_graph(raw: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """The graph of a body that has one, and where it stood in it ("input.workflow"); else `raw` itself.

    ComfyUI's POST /prompt has it under `prompt`, what its editor makes of a workflow under `output`, a RunPod
    worker under `input.workflow`, and other tools under `workflow`.
    """
    where: list[str] = []
    while len(where) < MAX_WRAPPERS and (keys := wrappers_of(raw)):
        inner = {key: raw[key] for key in keys if isinstance(raw[key], OBJECT)}
        key = next((key for key in inner if inner[key] or len(inner) == 1), None)
        if key is None:
            break
        where.append(key)
        raw = raw[key]
    return raw, ".".join(where)


def wrappers_of(raw: Mapping[str, Any]) -> Sequence[str]:
    """The keys under which a graph may stand in it; none for what is one itself."""
    if raw.keys().isdisjoint(WRAPPERS):
        return ()
    found = [key for key in WRAPPERS if key in raw]
    return () if is_ui_format(raw) or any(map(_is_node, raw.values())) else found


WRAPPERS = ("prompt", "output", "workflow", "input")
MAX_WRAPPERS = 6


def _is_node(value: object) -> bool:
    return isinstance(value, Mapping) and "class_type" in value


def _kind(value: object) -> str:
    names = {"str": "a string", "list": "a list", "NoneType": "null", "bool": "a boolean"}
    return names.get(type(value).__name__, "a number" if isinstance(value, int | float) else "something else")


def _has_shape(value: object) -> bool:
    class_type = value.get("class_type") if isinstance(value, OBJECT) else None
    return isinstance(class_type, str) and class_type != ""


def _shape_problem(key: object, value: object) -> GraphProblem:
    node_id = str(key)
    if not isinstance(value, Mapping):
        return GraphProblem(
            kind="invalid_node",
            message=f"Node {node_id} must be an object with class_type and inputs, not {_kind(value)}.",
            node_id=node_id,
        )
    return GraphProblem(
        kind="missing_node_type", message=f"Node {node_id} has no class_type.", node_id=node_id
    )


def _node(node_id: NodeId, value: Mapping[str, Any]) -> Node:
    given = value.get("inputs")
    inputs = given if isinstance(given, OBJECT) else {}
    meta = value.get("_meta")
    meta = meta if isinstance(meta, OBJECT) else {}
    title = meta.get("title")
    class_type = value["class_type"]
    return Node(
        id=node_id,
        class_type=class_type,
        title=title if isinstance(title, str) and title.strip() else class_type,
        inputs=inputs,
        links={
            name: link for name, item in inputs.items() if item.__class__ is list and (link := _link(item))
        },
        has_inputs=inputs is given,
        pack=_pack(meta) if "cnr_id" in meta or "aux_id" in meta else None,
    )


def _pack(meta: Mapping[str, Any]) -> str | None:
    """The id of a pack in the registry, or its repository (`owner/name`)."""
    for key in ("cnr_id", "aux_id"):
        if isinstance(name := meta.get(key), str) and name:
            return name[:100]
    return None


def _link(value: list[Any]) -> Link | None:
    """A list of a node id and a slot number; ComfyUI takes no other list as a link."""
    # A pattern with classes in it (`case [str(), int()]`) takes four times as long.
    if len(value) == 2 and value[0].__class__ is str and isinstance(value[1], int):
        return Link(node=NodeId(value[0]), slot=value[1])
    return None
