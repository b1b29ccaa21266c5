"""What a workflow needs of the place where it runs."""

import hashlib
import json
from dataclasses import dataclass

from comfy_mcp.domain.catalog import MODEL_SUFFIXES
from comfy_mcp.domain.graph import Graph
from comfy_mcp.domain.object_info import ObjectInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Sorted, without repeats. `models` are the texts in inputs that end like a model file, with `/` between
    folders: the result does not depend on whether an engine answered.

    `shape` is a stable name for the two, 32 hex digits: workflows of one shape need about the same memory.
    Sizes, seeds and texts don't count.
    """

    node_classes: tuple[str, ...]
    models: tuple[str, ...]
    shape: str

    def met_by(self, nodes: ObjectInfo | None) -> bool:
        """Whether an engine with these node classes may run it. True where the classes are unknown.

        Model files are not compared: engines spell them differently, and the graph checks do it.
        """
        return nodes is None or all(name in nodes.classes for name in self.node_classes)


def needs_of(graph: Graph) -> Needs:
    found: set[str] = set()
    for node in graph.nodes.values():
        _collect_models(node.inputs, found)
    classes, models = sorted({node.class_type for node in graph.nodes.values()}), sorted(found)
    shape = hashlib.sha256(json.dumps([classes, models]).encode("ascii")).hexdigest()[:32]
    return Needs(node_classes=tuple(classes), models=tuple(models), shape=shape)


def _collect_models(inputs: object, found: set[str]) -> None:
    todo: list[object] = [inputs]
    while todo:
        match todo.pop():
            case str() as text:
                dot = text.rfind(".")
                if dot >= 0 and text[dot:].lower() in MODEL_SUFFIXES:
                    found.add(text.replace("\\", "/"))
            case dict() as inner:
                todo.extend(inner.values())
            case list() as items:
                todo.extend(items)
            case _:
                pass
