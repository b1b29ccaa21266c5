"""Sets parameters of a workflow by the names that a caller uses."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from comfy_mcp.domain.catalog import without_model_suffix
from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.domain.graph import Graph
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.nearest import nearest
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.parameter_kinds import ParameterKind
from comfy_mcp.domain.parameters import Controls, Parameter, Target
from comfy_mcp.domain.shown import shown

MAX_SET = 200
"""Most inputs that one submit sets."""

_NAMED = 30
_SHOWN = 60


def with_inputs(
    graph: Graph,
    parameters: Sequence[Parameter],
    values: Mapping[str, object],
    *,
    info: ObjectInfo | None = None,
    controls: Controls | None = None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The graph in API format with `values`, and a sentence for each choice that was read as another.

    A name is that of a parameter, in any spelling; of an input alone, where one parameter has it; or
    "6.text": node and input. Raises InvalidInput with the nearest names, and where two names are one input.
    """
    if len(values) > MAX_SET:
        raise InvalidInput(
            f"inputs has {len(values)} names; the maximum is {MAX_SET}.", next_step="Set fewer in one submit."
        )
    names = _Names(graph, parameters, info, controls or {})
    changed: dict[NodeId, dict[str, Any]] = {}
    set_by: dict[Target, str] = {}
    notes: list[str] = []
    for name, value in _sizes_apart(values, parameters):
        targets, parameter = names.find(name)
        taken = value if parameter is None else _as_it_is(parameter, value)
        if taken != value and not isinstance(taken, int | float):
            notes.append(f"{name} {shown(value)} was read as {shown(taken)}.")
        of_one = parameter is not None and parameter.kind in _ONE_VALUE
        if of_one and isinstance(taken, list) and not _is_link(graph, taken):
            raise _several(name, taken)
        for node, given in targets:
            other = set_by.setdefault((node, given), name)
            if other != name:
                raise InvalidInput(
                    f"{shown(other)} and {shown(name)} are the same input.", next_step="Give one of them."
                )
            inputs = changed.setdefault(node, dict(graph.nodes[node].inputs))
            inputs[given] = _sent(graph, taken)
    raw = dict(graph.raw)
    for each, inputs in changed.items():
        raw[each] = {**raw[each], "inputs": inputs}
    return raw, tuple(notes)


def _several(name: str, values: list[object]) -> InvalidInput:
    return InvalidInput(
        f"{name} takes one value, not the list {shown(values)}.",
        next_step=f'For a workflow with each of them, give matrix={{"{name}": […]}} instead.',
    )


_ONE_VALUE = frozenset({ParameterKind.INTEGER, ParameterKind.NUMBER, ParameterKind.BOOLEAN})


def _sizes_apart(
    values: Mapping[str, object], parameters: Sequence[Parameter]
) -> Iterator[tuple[str, object]]:
    """`size` "768x512" is a width and a height, where the workflow has those. Raises InvalidInput."""
    names = {each.name for each in parameters}
    has_sides = "size" not in names and {"width", "height"} <= names
    for name, value in values.items():
        if not has_sides or name.lower() != "size":
            yield name, value
            continue
        sides = (value[:_SHOWN] if isinstance(value, str) else "").lower().replace("\u00d7", "x").split("x")
        if len(sides) != 2:
            raise InvalidInput(
                f"size is {shown(value)}; it is a width and a height.",
                next_step='Give it as "768x512", or set width and height.',
            )
        yield from zip(("width", "height"), (side.strip() for side in sides), strict=True)


class _Names:
    """What names mean in one workflow."""

    def __init__(
        self, graph: Graph, parameters: Sequence[Parameter], info: ObjectInfo | None, controls: Controls
    ) -> None:
        self._graph = graph
        self._parameters = parameters
        self._info = info
        self._controls = controls
        self._exact = {each.name: each for each in parameters}
        self._by_target = {target: each for each in parameters for target in each.targets}
        self._others: dict[str, list[Parameter]] = {}
        for each in parameters:
            spellings = {_plain(name) for name in (each.name, each.label or "", each.targets[0][1])}
            for spelling in spellings | {_plain(other) for other in _OTHER_NAMES.get(each.name, ())}:
                self._others.setdefault(spelling, []).append(each)

    def find(self, name: str) -> tuple[Sequence[Target], Parameter | None]:
        """Raises InvalidInput."""
        known = self._exact.get(name) or self._by_another_name(name)
        if known is not None:
            return known.targets, known
        node, dot, given = name.partition(".")
        if dot and (NodeId(node), given) in self._controls:
            targets = self._controls[NodeId(node), given]
            return targets, self._of(targets[0])
        if dot and node in self._graph.nodes:
            target = NodeId(node), given
            self._require_input(*target)
            return (target,), self._of(target)
        raise self._unknown(name)

    def _of(self, target: Target) -> Parameter | None:
        return self._by_target.get(target)

    def _by_another_name(self, name: str) -> Parameter | None:
        found = self._others.get(_plain(name), ())
        same = [each for each in found if _plain(each.name) == _plain(name)] or found
        return same[0] if len(same) == 1 else None

    def _require_input(self, node: NodeId, given: str) -> None:
        known = None if self._info is None else self._info.classes.get(self._graph.nodes[node].class_type)
        has = self._graph.nodes[node].inputs
        if given in has or known is None or not known.checked or known.grows or given in known.inputs:
            return
        near = nearest(given[:_SHOWN], {*has, *known.inputs})
        raise InvalidInput(
            f"Node {node} ({known.name}) has no input {shown(given)}.",
            next_step=f"Use one of: {', '.join(near or [*known.inputs][:_NAMED])}.",
        )

    def _unknown(self, name: str) -> InvalidInput:
        names = [each.name for each in self._parameters]
        near = nearest(name[:_SHOWN], names)
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        hint = f" Nearest: {', '.join(near)}." if near else ""
        listed = f"It has: {', '.join(names[:_NAMED])}{more}." if names else "It has no named inputs."
        return InvalidInput(
            f"The workflow has no input {shown(name)}.{hint}",
            next_step=f'{listed} Any other input is set as "NODE.INPUT", such as "6.text".',
            details={"inputs": names[:_NAMED], "nearest": list(near)},
        )


def _as_it_is(parameter: Parameter, value: object) -> object:
    """The value of the parameter's kind that is meant; what can't be one stays, for the engine's rules."""
    match parameter.kind:
        case ParameterKind.INTEGER | ParameterKind.NUMBER:
            return _number(parameter.kind, value)
        case ParameterKind.BOOLEAN:
            return _BOOLEANS.get(value.strip().lower(), value) if isinstance(value, str) else value
        case ParameterKind.TEXT:
            return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        case _:
            return _choice(parameter, value)


def _number(kind: ParameterKind, value: object) -> object:
    if isinstance(value, str):
        try:
            number = float(value) if kind is ParameterKind.NUMBER or "." in value else int(value)
        except ValueError:
            return value
        value = number if isfinite(number) else value
    whole = kind is ParameterKind.INTEGER and isinstance(value, float) and value.is_integer()
    return int(value) if whole and isinstance(value, float) else value


def _choice(parameter: Parameter, value: object) -> object:
    choices = parameter.choices or ()
    if not isinstance(value, str) or value in choices:
        return value
    for spelling in (_plain_value, lambda text: _plain(_plain_value(text).replace("++", "pp"))):
        same = [each for each in choices if isinstance(each, str) and spelling(each) == spelling(value)]
        if len(same) == 1 and spelling(value):
            return same[0]
    return value


def _sent(graph: Graph, value: object) -> object:
    """A list that is no link is wrapped, as the editor does it: bare, it would be one."""
    return {"__value__": value} if isinstance(value, list) and not _is_link(graph, value) else value


def _is_link(graph: Graph, value: list[object]) -> bool:
    match value:
        case [str() as node, int()]:
            return NodeId(node) in graph.nodes
        case _:
            return False


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def _plain_value(name: str) -> str:
    return without_model_suffix(name).lower().replace("\\", "/")


_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("positive", "positive_prompt", "text"),
    "negative_prompt": ("negative",),
    "sampler": ("sampler_name",),
    "checkpoint": ("model", "ckpt", "ckpt_name"),
    "diffusion_model": ("model", "unet", "unet_name"),
    "batch_size": ("batch", "count", "n"),
    "frames": ("length", "frame_count", "num_frames"),
    "cfg": ("cfg_scale", "guidance_scale"),
    "image": ("input_image", "picture", "init_image"),
    "denoise": ("strength", "denoising_strength"),
    "filename_prefix": ("prefix", "filename"),
    "scale": ("scale_by", "factor"),
}
