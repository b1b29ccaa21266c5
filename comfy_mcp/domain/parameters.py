"""What a caller sets of a workflow by name: prompt, seed, size, pictures, models, what its author shows.

Works on a graph in API format, where subgraphs are opened. What the author chose to show comes first: the
inputs of app mode, the controls of subgraphs' nodes, constants with a title. The usual ones are found by the
names of inputs, prompts by following the links from the samplers.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from comfy_mcp.domain.file_inputs import is_listable
from comfy_mcp.domain.graph import Graph, Node, unwrapped
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.inputs import InputSpec, active
from comfy_mcp.domain.object_info import ClassInfo, ObjectInfo
from comfy_mcp.domain.parameter_kinds import FILES, ParameterKind, choices_of, declared_type, kind_of

Target = tuple[NodeId, str]
"""An input of a node."""

Controls = Mapping[Target, Sequence[Target]]
"""By the control that the node of a subgraph shows: the inputs inside that it sets."""

MAX_PARAMETERS = 100
"""Most that are named; any other input is still set as "6.text"."""
MAX_STEPS = 20_000
"""Most nodes and inputs that are read while the links of one workflow are followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """`value` is what the workflow has now. `label` is the title of its node, where its author gave one.

    `targets` all get the value. `choices` None: any value, or nobody knows.
    """

    name: str
    kind: ParameterKind
    targets: tuple[Target, ...]
    value: object
    label: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[object, ...] | None = None

    @property
    def needs_value(self) -> bool:
        """A file that the engine does not list, and would: the caller brings one."""
        unlisted = self.kind in FILES and self.value not in (self.choices or ())
        return unlisted and (not isinstance(self.value, str) or is_listable(self.value))


def parameters_of(
    graph: Graph, info: ObjectInfo | None, *, file: object = None, controls: Controls | None = None
) -> tuple[Parameter, ...]:
    """The parameters of `graph`, in the order that a caller wants to read them.

    `file` is the workflow as it was saved, and `controls` come from its conversion. Without `info` the values
    alone say what an input is.
    """
    finder = _Finder(graph, info)
    usual = finder.usual()
    found: list[Parameter] = []
    taken: set[Target] = set()
    for asked in _of_app_mode(file, controls or {}):
        _take(found, taken, finder, usual, asked)
    chosen = len(found)
    for (_, control), targets in (controls or {}).items():
        _take(found, taken, finder, usual, _Asked(control.rpartition(".")[2], tuple(targets)))
    for node in graph.nodes.values():
        if finder.label(node.id) and (name := finder.constant(node)):
            _take(found, taken, finder, usual, _Asked(node.title, ((node.id, name),)))
    for target, name in usual.items():
        _take(found, taken, finder, usual, _Asked(name, finder.together.get(target, (target,))))
    ordered = found[:chosen] + sorted(found[chosen:], key=lambda each: _rank(each.name))
    return tuple(_with_own_names(ordered[:MAX_PARAMETERS]))


@dataclass(frozen=True, slots=True)
class _Asked:
    name: str
    targets: tuple[Target, ...]


def _take(
    found: list[Parameter],
    taken: set[Target],
    finder: "_Finder",
    usual: Mapping[Target, str],
    asked: _Asked,
) -> None:
    """One more parameter, unless another has its inputs. A usual name is better than one of no meaning."""
    targets = tuple(target for target in asked.targets if finder.has(target) and target not in taken)
    if not targets:
        return
    taken.update(targets)
    label = finder.label(targets[0][0])
    known = next((usual[target] for target in targets if target in usual), None)
    own = _slug(asked.name)
    name = known or (_slug(label or "") if own in _SAYS_NOTHING else None) or own
    found.append(finder.parameter(name, targets, label))


def _of_app_mode(file: object, controls: Controls) -> Iterator[_Asked]:
    """What the author's app shows: `extra.linearData.inputs`, a list of [node, control]."""
    extra = unwrapped(file).get("extra") if isinstance(file, Mapping) else None
    linear = extra.get("linearData") if isinstance(extra, Mapping) else None
    inputs = linear.get("inputs") if isinstance(linear, Mapping) else None
    for each in inputs[:MAX_PARAMETERS] if isinstance(inputs, list) else ():
        if isinstance(each, list) and len(each) >= 2 and isinstance(each[1], str):
            target = NodeId(str(each[0])), each[1]
            yield _Asked(each[1], tuple(controls.get(target, (target,))))


def _with_own_names(found: Iterable[Parameter]) -> Iterator[Parameter]:
    """Each name once: prompt, prompt_2, …"""
    names: set[str] = set()
    for each in found:
        name, number = each.name or "input", 1
        while name in names:
            number += 1
            name = f"{each.name or 'input'}_{number}"
        names.add(name)
        yield each if name == each.name else replace(each, name=name)


class _Finder:
    """Reads one graph."""

    def __init__(self, graph: Graph, info: ObjectInfo | None) -> None:
        self._graph = graph
        self._info = info
        self._specs: dict[NodeId, Mapping[str, InputSpec]] = {}
        self._steps = MAX_STEPS
        self.together: dict[Target, tuple[Target, ...]] = {}

    def usual(self) -> dict[Target, str]:
        """Inputs whose usual name is known."""
        found = dict(self._prompts())
        for node in self._graph.nodes.values():
            for name in node.inputs:
                target = node.id, name
                if target not in found and name not in node.links and (known := self._usual(node, name)):
                    found[target] = known
        for node in self._graph.nodes.values():
            for name, link in node.links.items():
                origin = self._graph.nodes.get(link.node)
                value = None if origin is None else self.constant(origin)
                if origin is not None and value and (known := _USUAL.get(name)):
                    found.setdefault((origin.id, value), known)
        return found

    def parameter(self, name: str, targets: tuple[Target, ...], label: str | None) -> Parameter:
        node, given = self._graph.nodes[targets[0][0]], targets[0][1]
        spec, value = self._spec(node, given), node.inputs[given]
        return Parameter(
            name=name,
            kind=kind_of(node, spec, value),
            targets=targets,
            value=value,
            label=label,
            minimum=None if spec is None else spec.minimum,
            maximum=None if spec is None else spec.maximum,
            choices=choices_of(spec),
        )

    def has(self, target: Target) -> bool:
        """Whether it is an input with a value of its own."""
        node = self._graph.nodes.get(target[0])
        return node is not None and target[1] in node.inputs and target[1] not in node.links

    def label(self, node: NodeId) -> str | None:
        """What the author called the node; None where that is the name of its class."""
        each = self._graph.nodes[node]
        known = self._class(each)
        return None if each.title in {each.class_type, known.title if known else None} else each.title

    def constant(self, node: Node) -> str | None:
        """The input of a node that does nothing but hand its one value on, as a number or a text."""
        if len(node.inputs) != 1 or node.links:
            return None
        known = self._class(node)
        gives = known.output_types if known else None
        scalar = (
            len(gives) == 1 and gives[0] in _SCALARS if gives else node.class_type.startswith("Primitive")
        )
        return next(iter(node.inputs)) if scalar else None

    def _class(self, node: Node) -> ClassInfo | None:
        return None if self._info is None else self._info.classes.get(node.class_type)

    def _spec(self, node: Node, name: str) -> InputSpec | None:
        if node.id not in self._specs:
            known = self._class(node)
            declared = () if known is None else tuple(known.inputs.values())
            self._specs[node.id] = {spec.name: spec for spec in active(declared, node.inputs)}
        return self._specs[node.id].get(name)

    def _usual(self, node: Node, name: str) -> str | None:
        value, spec = node.inputs[name], self._spec(node, name)
        kind = kind_of(node, spec, value)
        if kind in FILES and spec is not None:
            return kind.value if kind is not ParameterKind.FILE else _slug(name)
        if kind is ParameterKind.MODEL:
            return _MODELS.get(name) or _slug(name.removesuffix("_name"))
        known = _USUAL.get(name)
        if known in _OF_SIZE and not self._begins_picture(node):
            return None
        if known == "frames" and not ({"width", "height"} <= node.inputs.keys()):
            return None
        if known is None and kind is ParameterKind.TEXT and name in _PROMPTS and self._is_long(node, name):
            return _PROMPTS[name]
        return known if isinstance(value, str | int | float) else None

    def _begins_picture(self, node: Node) -> bool:
        """A size counts where a picture begins, and not where only a prompt refers to it."""
        known = self._class(node)
        gives = known.output_types if known else None
        return gives is None or "CONDITIONING" not in gives or "LATENT" in gives

    def _is_long(self, node: Node, name: str) -> bool:
        spec = self._spec(node, name)
        return spec is None or spec.extra.get("multiline") is True

    def _prompts(self) -> Iterator[tuple[Target, str]]:
        """By the links from whatever takes a positive and a negative: first what is positive."""
        seen: set[tuple[NodeId, int]] = set()
        for role, names in _CONDITIONS.items():
            for node in self._graph.nodes.values():
                for name in names:
                    link = node.links.get(name)
                    if link is not None:
                        yield from self._texts_behind(link.node, link.slot, role, seen)

    def _texts_behind(
        self, start: NodeId, slot: int, role: str, seen: set[tuple[NodeId, int]]
    ) -> Iterator[tuple[Target, str]]:
        todo = [(start, slot)]
        while todo and self._steps > 0:
            self._steps -= 1
            at, slot = todo.pop()
            node = self._graph.nodes.get(at)
            if node is None or (at, slot) in seen:
                continue
            seen.add((at, slot))
            self._steps -= len(node.inputs)  # all are read, for each of its outputs anew
            texts = self._texts(node)
            if texts:
                yield from self._named(node, texts, role)
                continue
            todo.extend((link.node, link.slot) for link in self._conditions(node, slot))

    def _conditions(self, node: Node, slot: int) -> list[Any]:
        """Where the conditioning at output `slot` comes from."""
        pair = [node.links[name] for name in ("positive", "negative") if name in node.links]
        if len(pair) == 2:
            return [pair[min(slot, 1)]]
        return [
            link
            for name, link in node.links.items()
            if name.startswith(_CONDITION_STARTS) or declared_type(self._spec(node, name)) == "CONDITIONING"
        ]

    def _texts(self, node: Node) -> list[str]:
        """Its inputs that are texts for a model, given here or by a link."""
        return [
            name
            for name in node.inputs
            if (declared_type(self._spec(node, name)) == "STRING" and self._is_long(node, name))
            or (self._spec(node, name) is None and name in _ENCODED)
        ]

    def _named(self, node: Node, texts: list[str], role: str) -> Iterator[tuple[Target, str]]:
        """Several texts of one encoder are one prompt where they are the same for its parts."""
        own = [(node.id, name) for name in texts if name not in node.links]
        together = len(own) > 1 and {name for _, name in own} <= _ENCODED
        if together:
            self.together[own[0]] = tuple(own)
        for target in own[:1] if together else own:
            negative = "negative_" if role != "prompt" else ""
            yield target, role if together or len(texts) == 1 else f"{negative}{_slug(target[1])}"
        for name in texts:
            if name in node.links:
                yield from self._strings_behind(node.links[name].node, role)

    def _strings_behind(self, start: NodeId, role: str) -> Iterator[tuple[Target, str]]:
        todo, seen = [start], {start}
        while todo and self._steps > 0:
            self._steps -= 1
            node = self._graph.nodes.get(todo.pop())
            if node is None:
                continue
            self._steps -= len(node.inputs)
            for name, value in node.inputs.items():
                if name in node.links:
                    behind = node.links[name].node
                    if behind not in seen and declared_type(self._spec(node, name)) in {"STRING", None}:
                        seen.add(behind)
                        todo.append(behind)
                elif isinstance(value, str) and (
                    self.constant(node) == name or self._is_long_text(node, name)
                ):
                    yield (node.id, name), role

    def _is_long_text(self, node: Node, name: str) -> bool:
        return declared_type(self._spec(node, name)) == "STRING" and self._is_long(node, name)


def _slug(text: str) -> str:
    """ "Float (Duration)" is duration, value_1 is value."""
    plain = re.sub(r"[^a-z0-9]+", "_", text[:60].lower()).strip("_")
    return re.sub(r"^(?:int|float|string|boolean|text)_|(?<=value)_\d+$", "", plain)


def _rank(name: str) -> int:
    return _ORDER.get(name, len(_ORDER))


_SCALARS = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN"})
_CONDITIONS = {"prompt": ("positive", "conditioning", "cond1"), "negative_prompt": ("negative",)}
_CONDITION_STARTS = ("conditioning", "positive", "cond1", "cond2")
_ENCODED = frozenset({"text", "prompt", "text_g", "text_l", "clip_g", "clip_l", "t5xxl", "llama"})
_SAYS_NOTHING = frozenset({"", "value", "text", "string", "int", "float", "input"})
_PROMPTS = {"prompt": "prompt", "text": "prompt", "negative_prompt": "negative_prompt"}
_OF_SIZE = frozenset({"width", "height", "batch_size"})
_MODELS = {
    "ckpt_name": "checkpoint",
    "unet_name": "diffusion_model",
    "clip_name": "text_encoder",
    "clip_name1": "text_encoder",
    "clip_name2": "text_encoder",
    "clip_name3": "text_encoder",
    "control_net_name": "controlnet",
    "model_name": "model",
}
_USUAL = {
    "seed": "seed",
    "noise_seed": "seed",
    "steps": "steps",
    "cfg": "cfg",
    "guidance": "guidance",
    "denoise": "denoise",
    "sampler_name": "sampler",
    "scheduler": "scheduler",
    "width": "width",
    "height": "height",
    "batch_size": "batch_size",
    "length": "frames",
    "num_frames": "frames",
    "frame_count": "frames",
    "duration": "duration",
    "seconds": "seconds",
    "fps": "fps",
    "frame_rate": "fps",
    "scale_by": "scale",
    "strength_model": "lora_strength",
    "filename_prefix": "filename_prefix",
}
_ORDER = {
    name: at
    for at, name in enumerate(
        (
            *("prompt", "negative_prompt", "image", "mask", "audio", "video", "tags", "lyrics"),
            *("width", "height", "frames"),
            *("duration", "seconds", "fps", "batch_size", "scale", "seed", "steps", "cfg", "guidance"),
            *("denoise", "sampler", "scheduler", "checkpoint", "diffusion_model", "lora", "lora_strength"),
            *("text_encoder", "vae", "controlnet", "model", "filename_prefix"),
        )
    )
}
USUAL_NAMES = frozenset({*_ORDER, *_USUAL, "size"})
"""What callers set of most workflows."""
