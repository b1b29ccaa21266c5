"""The controls that ComfyUI's editor shows on a node, in the order in which it saves their values.

The UI format keeps a node's values without their names (`widgets_values`). The names come from the class: its
declared inputs that the editor draws as a control, required ones first. Found by comparing with what the
editor itself exports (comfyui-frontend-package 1.32.9, the tests' recordings).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_WIDGET_TYPES = frozenset(
    {
        "INT",
        "FLOAT",
        "STRING",
        "BOOLEAN",
        "COMBO",
        "MARKDOWN",
        "COLOR",
        "TEXTAREA",
        "LOAD_3D",
        "LOAD_3D_ANIMATION",
        "PREVIEW_3D",
        "AUDIO_RECORD",
        "WEBCAM",
    }
)
_SEEDS = frozenset({"seed", "noise_seed"})
_AFTER_GENERATE = frozenset({"fixed", "increment", "decrement", "randomize", "increment-wrap"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Widget:
    """One control. `default` is None where the class states none.

    `controlled`: what the editor does to the value after a run ("randomize" …) may be saved right behind it.
    `drawn`: of a text with "{red|blue}" the editor sends one, drawn anew for each run.
    """

    name: str
    default: object = None
    controlled: bool = False
    drawn: bool = False


def widgets_of(declared: object) -> tuple[Widget, ...]:
    """`declared` is the `input` of a class in GET /object_info; what is not understood is left out."""
    found: dict[str, Widget] = {}
    for section in ("required", "optional"):
        group = declared.get(section) if isinstance(declared, Mapping) else None
        for name, spec in group.items() if isinstance(group, Mapping) else ():
            if (widget := _widget(str(name), spec)) is not None:
                found.setdefault(widget.name, widget)
    return tuple(found.values())


def named_values(widgets: Sequence[Widget], saved: object) -> dict[str, object]:
    """The value of each widget: from `saved` (`widgets_values`: a list in order, or an object by name), else
    the default. A widget with neither is left out. Values for which there is no widget are not taken.

    A list as a value is wrapped as the editor does it, `{"__value__": list}`: bare, it would be a link.
    """
    if isinstance(saved, Mapping):
        given = {widget.name: saved[widget.name] for widget in widgets if widget.name in saved}
    else:
        given = _in_order(
            widgets, saved if isinstance(saved, Sequence) and not isinstance(saved, str) else ()
        )
    defaults = {widget.name: widget.default for widget in widgets if widget.default is not None}
    values = defaults | given
    return {
        name: {"__value__": value} if isinstance(value, list) else value for name, value in values.items()
    }


def _in_order(widgets: Sequence[Widget], saved: Sequence[object]) -> dict[str, object]:
    given: dict[str, object] = {}
    at = 0
    for widget in widgets:
        if at >= len(saved):
            break
        given[widget.name] = saved[at]
        at += 1
        if widget.controlled and at < len(saved) and saved[at] in _AFTER_GENERATE:
            at += 1
    return given


def _widget(name: str, spec: object) -> Widget | None:
    if not isinstance(spec, list | tuple) or not spec:
        return None
    extra: Mapping[str, Any] = spec[1] if len(spec) > 1 and isinstance(spec[1], Mapping) else {}
    kind = "COMBO" if isinstance(spec[0], list | tuple) else extra.get("widgetType", spec[0])
    if kind not in _WIDGET_TYPES or extra.get("forceInput") is True:
        return None
    options = spec[0] if isinstance(spec[0], list | tuple) else extra.get("options")
    first = options[0] if isinstance(options, list | tuple) and options else None
    seed = kind == "INT" and name in _SEEDS
    return Widget(
        name=name,
        default=extra.get("default", first),
        controlled=bool(extra.get("control_after_generate", seed)),
        drawn=extra.get("dynamicPrompts") is True,
    )
