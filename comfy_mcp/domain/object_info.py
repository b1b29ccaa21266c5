"""An engine's node classes (GET /object_info), parsed tolerantly.

A class or an input with a shape that this code doesn't know is kept as known-but-unchecked: the engine
has the last word.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from comfy_mcp.domain.widgets import Widget, widgets_of

_DYNAMIC_PREFIX, _DYNAMIC_SUFFIX = "COMFY_", "_V3"
_UPLOAD_OPTIONS = ("remote", "image_folder")
_OWN_VALIDATION: Mapping[str, frozenset[str]] = MappingProxyType({"LoadLatent": frozenset({"latent"})})
"""Inputs of core classes that the engine validates itself and whose options don't show it (0.3.75)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """One declared input.

    `type` is None where the declaration is not understood: then only links are followed.
    `options` is a combo's list, else None. `strict_options`: the engine is known to refuse other values.
    `multiple`: a list of options is a value too. `minimum` and `maximum` hold for numbers.
    `dynamic`: grows inputs of its own (V3).
    """

    name: str
    required: bool
    type: str | None
    options: tuple[object, ...] | None = None
    strict_options: bool = False
    multiple: bool = False
    minimum: float | None = None
    maximum: float | None = None
    dynamic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassInfo:
    """One node class. `output_types` holds None for a type that is not a plain name, and is None itself
    where the number of outputs is unknown.

    `certain`: the class is ComfyUI's own, so its declarations are all the engine checks. Others may bring
    a validation of their own that replaces the check of values and types, which /object_info doesn't show.
    `title` is what people see; `widgets` are the inputs with a control, in the editor's order.
    """

    name: str
    inputs: Mapping[str, InputSpec] = field(default_factory=lambda: MappingProxyType({}))
    output_types: tuple[str | None, ...] | None = None
    output_node: bool = False
    certain: bool = False
    checked: bool = True
    title: str | None = None
    widgets: tuple[Widget, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """All node classes of one engine."""

    classes: Mapping[str, ClassInfo]

    @classmethod
    def parse(cls, raw: Mapping[str, Any], *, replaceable: Collection[str] = ()) -> "ObjectInfo":
        """`raw` is the answer of GET /object_info. Never raises.

        `replaceable` are old class names that the engine itself replaces by new ones
        (feature `node_replacements`): known, unchecked.
        """
        classes = {name: ClassInfo(name=name, checked=False, output_node=True) for name in replaceable}
        classes.update({name: _class_info(name, value) for name, value in raw.items()})
        return cls(classes=MappingProxyType(classes))


def _class_info(name: str, raw: object) -> ClassInfo:
    declared = raw.get("input") if isinstance(raw, Mapping) else None
    if not isinstance(raw, Mapping) or not isinstance(declared, Mapping):
        # Perhaps an output node, so that a graph which needs it reaches the engine.
        return ClassInfo(name=name, checked=False, output_node=True)
    module = raw.get("python_module", "nodes")
    certain = isinstance(module, str) and (module == "nodes" or module.startswith("comfy_extras."))
    inputs: dict[str, InputSpec] = {}
    for section in ("optional", "required"):
        group = declared.get(section)
        for key, value in group.items() if isinstance(group, Mapping) else ():
            inputs[key] = _input_spec(name, key, value, required=section == "required", certain=certain)
    return ClassInfo(
        name=name,
        inputs=MappingProxyType(inputs),
        output_types=_output_types(raw.get("output")),
        output_node=raw.get("output_node") is True,
        certain=certain,
        title=title if isinstance(title := raw.get("display_name"), str) else None,
        widgets=widgets_of(declared),
    )


def _output_types(raw: object) -> tuple[str | None, ...] | None:
    if not isinstance(raw, list | tuple):
        return None
    return tuple(item if isinstance(item, str) else None for item in raw)


def _input_spec(class_name: str, name: str, raw: object, *, required: bool, certain: bool) -> InputSpec:
    if not isinstance(raw, list | tuple) or not raw:
        return InputSpec(name=name, required=required, type=None)
    kind = raw[0]
    extra = raw[1] if len(raw) > 1 and isinstance(raw[1], Mapping) else {}
    if isinstance(kind, list | tuple):
        strict = certain and not _is_open(extra) and name not in _OWN_VALIDATION.get(class_name, ())
        return InputSpec(
            name=name, required=required, type="COMBO", options=tuple(kind), strict_options=strict
        )
    if not isinstance(kind, str):
        return InputSpec(name=name, required=required, type=None)
    if kind == "COMBO":
        # ComfyUI 0.3.75 doesn't check this spelling, newer versions do: never more than a warning.
        listed = extra.get("options")
        options = tuple(listed) if isinstance(listed, list | tuple) and not _is_open(extra) else None
        multiple = extra.get("multiselect") is True
        return InputSpec(name=name, required=required, type=kind, options=options, multiple=multiple)
    if kind.startswith(_DYNAMIC_PREFIX) and kind.endswith(_DYNAMIC_SUFFIX):
        return InputSpec(name=name, required=required, type=None, dynamic=True)
    return InputSpec(
        name=name,
        required=required,
        type=kind,
        minimum=_number(extra.get("min")),
        maximum=_number(extra.get("max")),
    )


def _is_open(extra: Mapping[str, Any]) -> bool:
    """True if the list may be incomplete: it is a snapshot, and an upload or another server may add to it."""
    return any(extra.get(key) for key in extra if key.endswith("upload") or key in _UPLOAD_OPTIONS)


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) else None
