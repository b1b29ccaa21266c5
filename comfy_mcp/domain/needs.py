"""What a workflow needs of the place where it runs."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from comfy_mcp.domain.catalog import is_model_file
from comfy_mcp.domain.graph import Graph
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.object_info import ObjectInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a submit says of the engine: its name, labels that it must have, engines that it must not be."""

    engine: EngineId | None = None
    labels: tuple[str, ...] = ()
    not_on: tuple[EngineId, ...] = ()

    def __bool__(self) -> bool:
        return self != NO_WISH

    def allows(self, has: "Equipment") -> bool:
        return not self.is_other(has) and not self.lacking(has)

    def is_other(self, has: "Equipment") -> bool:
        """The engine is not the one, or one of those, that was asked for."""
        return (self.engine is not None and self.engine != has.engine) or has.engine in self.not_on

    def lacking(self, has: "Equipment") -> tuple[str, ...]:
        """The labels that the engine does not have."""
        return tuple(label for label in self.labels if label not in has.labels)


NO_WISH = Wish()


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """What one engine has: its node list, None while none is known, and the labels of its settings."""

    engine: EngineId
    nodes: ObjectInfo | None = None
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """Why an engine can't run a workflow. `classes` and `files` are what it does not have; `other`: the
    workflow was submitted for another engine."""

    engine: EngineId
    classes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    other: bool = False

    @property
    def sentence(self) -> str:
        lacks = [
            f"{word} {', '.join(names[:_SHOWN])}{f' and {len(names) - _SHOWN} more' * (len(names) > _SHOWN)}"
            for word, names in (("node class", self.classes), ("file", self.files), ("label", self.labels))
            if names
        ]
        if not lacks:
            return f"Engine {self.engine} was not asked for."
        return f"Engine {self.engine} lacks {'; '.join(lacks)}."


_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Sorted, without repeats. `models` are the texts in inputs that end like a model file, with `/` between
    folders: the result does not depend on whether an engine answered. `files` are those of them that an
    engine lists, so that another engine must have them too; `wish` is what the submit says of the engine.
    `brings`: it names files that a place puts on the engine first. `memory`: bytes of GPU memory that such
    workflows needed so far, None while that is not known; it is looked up, and not kept with the job.

    `shape` is a stable name for the first two, 32 hex digits: workflows of one shape need about the same
    memory. Sizes, seeds and texts don't count.
    """

    node_classes: tuple[str, ...]
    models: tuple[str, ...]
    shape: str
    files: tuple[str, ...] = ()
    wish: Wish = NO_WISH
    brings: bool = False
    memory: int | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        """A stable name for all that `lack` asks: what one engine can't run it can't run of that name."""
        wish = self.wish
        asked = self.node_classes, self.files, wish.engine, wish.labels, wish.not_on
        return _digest(*asked, "brings") if self.brings else _digest(*asked)

    def judged_by(self, nodes: ObjectInfo | None) -> "Needs":
        """The same, once an engine with this node list has found the workflow good."""
        known = frozenset[str]() if nodes is None else nodes.model_files
        files = tuple(name for name in self.models if name in known)
        return self if files == self.files else replace(self, files=files)

    def lack(self, has: Equipment) -> Lack | None:
        """What keeps the workflow from that engine; None: nothing that is known. An engine whose
        node list is not known may have everything."""
        nodes, labels, other = has.nodes, self.wish.lacking(has), self.wish.is_other(has)
        classes: tuple[str, ...] = ()
        files: tuple[str, ...] = ()
        if nodes is not None:
            classes = tuple(name for name in self.node_classes if name not in nodes.classes)
            files = tuple(name for name in self.files if name not in nodes.model_files)
        if not (other or labels or classes or files):
            return None
        return Lack(engine=has.engine, classes=classes, files=files, labels=labels, other=other)

    def met_by(self, has: Equipment) -> bool:
        return self.lack(has) is None


def needs_of(graph: Graph) -> Needs:
    nodes = graph.nodes.values()
    texts = _texts_in([node.inputs for node in nodes])
    models = {text.replace("\\", "/") for text in texts if is_model_file(text)}
    classes, files = tuple(sorted({node.class_type for node in nodes})), tuple(sorted(models))
    return Needs(node_classes=classes, models=files, shape=_digest(classes, files))


MOST_KEPT = 4_096
"""Characters of the names whose digest is kept."""


def _digest(*parts: tuple[str, ...] | str | None) -> str:
    size = sum(sum(map(len, part)) for part in parts if part)
    return _kept_digest(*parts) if size <= MOST_KEPT else _digested(*parts)


def _digested(*parts: tuple[str, ...] | str | None) -> str:
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()[:32]


_kept_digest = lru_cache(maxsize=256)(_digested)
"""A client submits the same classes again and again."""


def _texts_in(found: list[Any]) -> Iterator[str]:
    """The texts with a dot in objects and lists, and in those within them."""
    while found:
        values = [value for each in found for value in (each if each.__class__ is list else each.values())]
        yield from [value for value in values if value.__class__ is str and "." in value]
        found = [value for value in values if value.__class__ is dict or value.__class__ is list]
