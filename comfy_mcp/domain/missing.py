"""What an engine lacks for a graph: node classes and model files, each once and all of them.

A saved workflow often says where they come from: the pack of a class (`properties.cnr_id`, `aux_id`), and the
folder and link of a model (`properties.models`).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from comfy_mcp.domain.catalog import is_model_file
from comfy_mcp.domain.errors import GraphProblem
from comfy_mcp.domain.graph import MAX_PROBLEMS, OBJECT, Graph, Node, unwrapped
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.input_checks import Finding
from comfy_mcp.domain.nearest import Hints
from comfy_mcp.domain.object_info import THIS_ENGINE, ObjectInfo
from comfy_mcp.domain.ui_format import is_subgraph_id

MAX_NAMED = 100
"""Most classes, and most models, that are named; the text says how many more there are."""
_SHOWN_NODES = 5
_HINTED = 20
_LINKED = 20
_LONGEST, _LONGEST_NAME, _LONGEST_LINK = 1000, 200, 300
_CLASS, _SUBGRAPH = "missing_node_type", "missing_subgraph"
_FOLDERS = {
    "ckpt_name": "checkpoints",
    "lora_name": "loras",
    "vae_name": "vae",
    "control_net_name": "controlnet",
    "unet_name": "diffusion_models",
}
"""Where ComfyUI's own loaders look for the file of an input."""
_INSTALL = (
    "Install the packs that have these classes, or replace the nodes. For a class that exists in the editor "
    "only, submit the file of Workflow > Export (API)."
)
_DEFINE = (
    "The file lost the subgraph when it was cut or merged. Open the workflow where it still works and save "
    "it again, or replace the node."
)
_PUT = "Put each model file into its folder on the engine, or choose a model that list_models names."
_CHOOSE = "Choose a model that the list has, or save the list again once the engine has the file."


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLink:
    """Where the author of a workflow got a model file."""

    folder: str | None
    url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingClass:
    """`nodes`: all nodes of it. `pack`: its id in the registry, or a repository, as the file says."""

    name: str
    nodes: tuple[NodeId, ...]
    pack: str | None = None
    nearest: tuple[str, ...] = ()
    source: str = THIS_ENGINE

    def problem(self) -> GraphProblem:
        hint = f" Nearest known: {', '.join(self.nearest)}." if self.nearest else ""
        pack = f" (pack {self.pack})" if self.pack else ""
        return GraphProblem(
            kind=_CLASS,
            message=f"{_nodes(self.nodes, 'Node')}: {self.source} has no class {self.name!r}{pack}.{hint}",
            node_id=self.nodes[0],
            class_type=self.name,
            suggestions=self.nearest,
        )

    def in_words(self) -> str:
        pack = f"; pack {self.pack}" if self.pack else ""
        near = f"; nearest: {', '.join(self.nearest)}" if self.nearest and not self.pack else ""
        return f"{self.name[:_LONGEST_NAME]} ({_nodes(self.nodes)}{pack}{near})"

    def details(self) -> dict[str, Any]:
        return {
            "classType": self.name,
            "count": len(self.nodes),
            "nodes": list(self.nodes[:MAX_NAMED]),
            "pack": self.pack,
            "nearest": list(self.nearest),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingSubgraph:
    """The inside of these `nodes`, which the workflow does not have. `name` is its id."""

    name: str
    title: str
    nodes: tuple[NodeId, ...]

    def problem(self) -> GraphProblem:
        return GraphProblem(
            kind=_SUBGRAPH,
            message=f"{_nodes(self.nodes, 'Node')}: the workflow has no definition of the subgraph "
            f"{self.title[:_LONGEST_NAME]!r} ({self.name}).",
            node_id=self.nodes[0],
            class_type=self.name,
        )

    def in_words(self) -> str:
        return f"{self.title[:_LONGEST_NAME]} ({_nodes(self.nodes)})"

    def details(self) -> dict[str, Any]:
        nodes = list(self.nodes[:MAX_NAMED])
        return {"id": self.name, "title": self.title, "count": len(self.nodes), "nodes": nodes}


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingModel:
    """A model file that is in no list of the engine.

    `uses`: the nodes and inputs that name it. `refused`: of how many of them it is certain that the engine
    refuses them.
    """

    name: str
    uses: tuple[tuple[NodeId, str], ...]
    refused: int
    folder: str | None = None
    url: str | None = None
    nearest: tuple[str, ...] = ()

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        return tuple(dict.fromkeys(node for node, _ in self.uses))

    @property
    def input_name(self) -> str:
        return self.uses[0][1]

    @property
    def link(self) -> str | None:
        """The link, if it is one and short enough for a text."""
        url = self.url or ""
        good = url.startswith(("https://", "http://")) and len(url) <= _LONGEST_LINK and url.isprintable()
        return url if good and " " not in url else None

    def in_words(self, *, linked: bool) -> str:
        """`linked`: with the link."""
        parts = (
            f"{_nodes(self.nodes)}, input {self.input_name[:_LONGEST_NAME]}",
            f"folder {self.folder[:_LONGEST_NAME]}" if self.folder else "",
            f"from {self.link}" if linked and self.link else "",
            f"nearest: {', '.join(each[:_LONGEST_NAME] for each in self.nearest)}" if self.nearest else "",
        )
        return f"{self.name[:_LONGEST_NAME]} ({'; '.join(filter(None, parts))})"

    def details(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "nodes": list(self.nodes[:MAX_NAMED]),
            "inputName": self.input_name,
            "inputs": [f"{node} {name}" for node, name in self.uses[:MAX_NAMED]],
            "folder": self.folder,
            "url": self.url,
            "nearest": list(self.nearest),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Everything that the engine, or whatever `source` says, lacks for one graph, and the subgraphs that the
    graph itself lacks."""

    classes: tuple[MissingClass, ...] = ()
    subgraphs: tuple[MissingSubgraph, ...] = ()
    models: tuple[MissingModel, ...] = ()
    source: str = THIS_ENGINE

    def __bool__(self) -> bool:
        return bool(self.nodes or self.models)

    @property
    def nodes(self) -> tuple[MissingClass | MissingSubgraph, ...]:
        """What nodes are of, and no engine runs a graph without."""
        return (*self.classes, *self.subgraphs)

    def is_in(self, nodes: ObjectInfo) -> bool:
        """Whether an engine with this node list has these classes and model files."""
        classes = all(each.name in nodes.classes for each in self.classes)
        return classes and all(each.name.replace("\\", "/") in nodes.model_files for each in self.models)

    def problems(self) -> list[GraphProblem]:
        """One per class and subgraph, of the first."""
        return [each.problem() for each in self.nodes[:MAX_PROBLEMS]]

    @property
    def problem_count(self) -> int:
        """How many problems of the graph these are: one per class, and per use of a model."""
        return len(self.nodes) + sum(each.refused for each in self.models)

    def covers(self, problem: GraphProblem) -> bool:
        """Whether `problem` is one of these, so that `sentence` has said it."""
        if problem.kind != "value_not_in_list":
            return problem.kind in {_CLASS, _SUBGRAPH}
        return any((problem.node_id, problem.input_name) in each.uses for each in self.models)

    def without_models(self, about: Collection[tuple[str, str]]) -> "Missing":
        """`about`: (node, input) whose file is there all the same."""
        return replace(self, models=tuple(each for each in self.models if not {*each.uses} <= {*about}))

    @property
    def next_step(self) -> str:
        put = _PUT if self.source == THIS_ENGINE else _CHOOSE
        steps = ((_INSTALL, self.classes), (_DEFINE, self.subgraphs), (put, self.models))
        return " ".join(step for step, missing in steps if missing)

    def sentence(self) -> str:
        """Names all of them: "this engine lacks 2 classes: A (nodes 1, 2; pack x), B (node 3)", and in the
        same way the model files that are in no list of it, and the subgraphs that are not defined."""
        said, engine = [], f"{self.source} "
        if self.classes:
            classes = (each.in_words() for each in self.classes[:MAX_NAMED])
            said.append(f"{engine}lacks {_listed('class', 'classes', len(self.classes), classes)}")
            engine = ""
        if self.models:
            models = (each.in_words(linked=at < _LINKED) for at, each in enumerate(self.models[:MAX_NAMED]))
            listed = _listed("model file", "model files", len(self.models), models)
            said.append(f"{engine}does not list {listed}")
        if self.subgraphs:
            subgraphs = (each.in_words() for each in self.subgraphs[:MAX_NAMED])
            listed = _listed("subgraph", "subgraphs", len(self.subgraphs), subgraphs)
            said.append(f"the workflow has nodes, but no definition, of {listed}")
        return "; and ".join(said)

    def in_a_sentence(self) -> str:
        said = self.sentence()
        return f"{said[0].upper()}{said[1:]}."

    def details(self) -> Mapping[str, Any]:
        """For the structure of an error."""
        return {
            "missingClasses": [each.details() for each in self.classes],
            "missingSubgraphs": [each.details() for each in self.subgraphs],
            "missingModels": [each.details() for each in self.models],
        }


def missing_classes(graph: Graph, info: ObjectInfo | None, hints: Hints) -> Missing:
    """The classes that the engine does not have, with hints for the first of them; and subgraphs."""
    found: dict[str, list[Node]] = {}
    undefined: dict[str, list[Node]] = {}
    for node in graph.nodes.values() if info is not None else ():
        if info is not None and node.class_type not in info.classes:
            kept = undefined if is_subgraph_id(node.class_type) else found
            kept.setdefault(node.class_type, []).append(node)
    source = THIS_ENGINE if info is None else info.source
    return Missing(
        source=source,
        subgraphs=tuple(
            MissingSubgraph(name=name, title=nodes[0].title, nodes=tuple(node.id for node in nodes))
            for name, nodes in undefined.items()
        ),
        classes=tuple(
            MissingClass(
                name=name,
                source=source,
                nodes=tuple(node.id for node in nodes),
                pack=next((node.pack for node in nodes if node.pack), None),
                nearest=hints.nearest(name, info.classes) if info is not None and at < _HINTED else (),
            )
            for at, (name, nodes) in enumerate(found.items())
        ),
    )


def missing_models(
    findings: Iterable[Finding], links: Mapping[str, ModelLink], hints: Hints
) -> tuple[MissingModel, ...]:
    """Of the values that are in no list, the model files; hints for the first of them."""
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        value = finding.value
        if finding.kind == "value_not_in_list" and isinstance(value, str) and is_model_file(value):
            found.setdefault(value, []).append(finding)
    nowhere = ModelLink(folder=None, url=None)
    models = []
    for at, (name, uses) in enumerate(found.items()):
        first = uses[0]
        usual = _FOLDERS.get(first.input_name or "") if first.certain else None
        link = links.get(name) or links.get(name.replace("\\", "/").rpartition("/")[2]) or nowhere
        models.append(
            MissingModel(
                name=name,
                uses=tuple((finding.node.id, finding.input_name or "") for finding in uses),
                refused=sum(finding.certain for finding in uses),
                folder=link.folder or usual,
                url=link.url,
                nearest=hints.nearest(name, first.options) if at < _HINTED else (),
            )
        )
    return tuple(models)


def model_links(raw: object) -> Mapping[str, ModelLink]:
    """Of a workflow in UI format, the model files that its nodes say where to get (`properties.models`)."""
    inner = unwrapped(raw) if isinstance(raw, OBJECT) else {}
    if inner.keys().isdisjoint(("nodes", "definitions")):
        return {}
    definitions = inner.get("definitions")
    inside = definitions.get("subgraphs") if isinstance(definitions, Mapping) else None
    found: dict[str, ModelLink] = {}
    for graph in (inner, *(inside if isinstance(inside, list) else ())):
        nodes = graph.get("nodes") if isinstance(graph, Mapping) else None
        for node in nodes if isinstance(nodes, list) else ():
            properties = node.get("properties") if isinstance(node, Mapping) else None
            models = properties.get("models") if isinstance(properties, Mapping) else None
            for model in models if isinstance(models, list) else ():
                if isinstance(model, Mapping) and isinstance(name := model.get("name"), str):
                    found[name] = ModelLink(folder=_text(model.get("directory")), url=_text(model.get("url")))
    return found


def _text(value: object) -> str | None:
    return value[:_LONGEST] if isinstance(value, str) else None


def _nodes(nodes: tuple[NodeId, ...], word: str = "node") -> str:
    shown = ", ".join(node[:_LONGEST_NAME] for node in nodes[:_SHOWN_NODES])
    more = f" and {len(nodes) - _SHOWN_NODES} more" if len(nodes) > _SHOWN_NODES else ""
    return f"{word}{'s' if len(nodes) > 1 else ''} {shown}{more}"


def _listed(one: str, many: str, count: int, named: Iterable[str]) -> str:
    more = f" and {count - MAX_NAMED} more" if count > MAX_NAMED else ""
    return f"{count} {one if count == 1 else many}: {', '.join(named)}{more}"
