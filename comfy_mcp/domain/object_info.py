"""What an engine says of its node classes (GET /object_info), read tolerantly.

A class or an input with a shape that this code doesn't know is kept as known-but-unchecked: the engine
has the last word.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from comfy_mcp.domain.catalog import is_model_file
from comfy_mcp.domain.inputs import InputSpec, Owner, active, read_inputs
from comfy_mcp.domain.prices import price_of

__all__ = ["ClassInfo", "InputSpec", "ObjectInfo"]


THIS_ENGINE = "this engine"

_LONGEST, _MOST = 2_000, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassInfo:
    """One node class. `output_types` holds None for a type that is not a plain name, and is None itself
    where the number of outputs is unknown.

    `certain`: the class is ComfyUI's own, so its declarations are all the engine checks. Others may bring
    a validation of their own that replaces the check of values and types, which /object_info doesn't show.
    `custom`: it is of a pack that somebody installed.
    `inputs` are the declared ones by name, required ones first; what they grow is under them.
    `sent_as`: the class that the editor sends in its place, where a pack lists one under two names.
    `grows`: some of them are dynamic. `title` is what people see; `category`, `description` and `aliases` are
    what a search goes by.
    """

    name: str
    inputs: Mapping[str, InputSpec] = field(default_factory=lambda: MappingProxyType({}))
    output_types: tuple[str | None, ...] | None = None
    output_node: bool = False
    certain: bool = False
    custom: bool = False
    checked: bool = True
    title: str | None = None
    sent_as: str | None = None
    grows: bool = False
    category: str = ""
    description: str = ""
    aliases: tuple[str, ...] = ()

    def inputs_of(self, values: Mapping[str, object]) -> Mapping[str, InputSpec]:
        """Those that a node with these values has, by name: texts in them choose what dynamic ones grow."""
        if not self.grows:
            return self.inputs
        chosen = {name: value for name, value in values.items() if value.__class__ is str}
        return {spec.name: spec for spec in active(tuple(self.inputs.values()), chosen)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """All node classes of one engine."""

    classes: Mapping[str, ClassInfo]
    given_kinds: frozenset[str] = frozenset()
    """The types that some class gives out: an input of such a type is a socket."""
    replaced: frozenset[str] = frozenset()
    """Old class names that the engine itself replaces when it is sent a graph (GET /node_replacements)."""
    partner_classes: Mapping[str, str | None] = field(default_factory=lambda: MappingProxyType({}))
    """The classes that ComfyUI runs on a paid service, each with its price in words where it is declared."""

    model_files: frozenset[str] = frozenset()
    """Every model file that some input lists, with `/` between folders."""

    source: str = THIS_ENGINE
    """What has these classes, in messages."""

    @classmethod
    def parse(
        cls, raw: Mapping[str, Any], *, replaceable: Collection[str] = (), source: str = THIS_ENGINE
    ) -> "ObjectInfo":
        """`raw` is the answer of GET /object_info. Never raises.

        `replaceable` are old class names that the engine itself replaces by new ones (GET
        /node_replacements): known, unchecked.
        """
        classes = {name: ClassInfo(name=name, checked=False, output_node=True) for name in replaceable}
        classes.update({name: _class_info(name, value, raw) for name, value in raw.items()})
        given = {kind for known in classes.values() for kind in known.output_types or () if kind is not None}
        partners = {
            name: price_of(value.get("price_badge"))
            for name, value in raw.items()
            if isinstance(value, Mapping) and value.get("api_node") is True
        }
        return cls(
            classes=MappingProxyType(classes),
            given_kinds=frozenset(given),
            partner_classes=MappingProxyType(partners),
            replaced=frozenset(replaceable),
            model_files=frozenset(_model_files(classes.values())),
            source=source,
        )


def _model_files(classes: Iterable[ClassInfo]) -> Iterator[str]:
    todo = [spec for known in classes for spec in known.inputs.values()]
    while todo:
        spec = todo.pop()
        for option in spec.options or ():
            if isinstance(option, str) and is_model_file(option):
                yield option.replace("\\", "/")
        todo += [*spec.slots[:1], *spec.behind]  # the slots of one input are alike
        for grown in (spec.choices or {}).values():
            todo += grown


def _class_info(name: str, raw: object, others: Mapping[str, Any]) -> ClassInfo:
    declared = raw.get("input") if isinstance(raw, Mapping) else None
    if not isinstance(raw, Mapping) or not isinstance(declared, Mapping):
        # Perhaps an output node, so that a graph which needs it reaches the engine.
        return ClassInfo(name=name, checked=False, output_node=True)
    module = raw.get("python_module", "nodes")
    certain = isinstance(module, str) and (module == "nodes" or module.startswith("comfy_extras."))
    owner = Owner(name=name, certain=certain, checks_combos="has_intermediate_output" in raw)
    inputs = {spec.name: spec for spec in read_inputs(owner, declared)}
    return ClassInfo(
        name=name,
        inputs=MappingProxyType(inputs),
        output_types=_output_types(raw.get("output")),
        output_node=raw.get("output_node") is True,
        certain=certain,
        custom=isinstance(module, str) and module.startswith("custom_nodes."),
        grows=any(spec.dynamic or spec.choices is not None for spec in inputs.values()),
        sent_as=own if isinstance(own := raw.get("name"), str) and own != name and own in others else None,
        title=title if isinstance(title := raw.get("display_name"), str) else None,
        category=_text(raw.get("category")),
        description=_text(raw.get("description")),
        aliases=_texts(raw.get("search_aliases")),
    )


def _text(raw: object) -> str:
    return raw[:_LONGEST] if isinstance(raw, str) else ""


def _texts(raw: object) -> tuple[str, ...]:
    return tuple(_text(item) for item in raw[:_MOST]) if isinstance(raw, list | tuple) else ()


def _output_types(raw: object) -> tuple[str | None, ...] | None:
    if not isinstance(raw, list | tuple):
        return None
    return tuple(item if isinstance(item, str) else None for item in raw)
