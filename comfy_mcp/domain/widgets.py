"""The controls that ComfyUI's editor draws on a node, in the order in which it saves their values.

A saved workflow keeps a node's values without their names (`widgets_values`); the names come from the class:
its declared inputs that the editor draws as a control, required ones first, each followed by what it grows.
Some controls bring places of the editor's own: what happens to a seed after a run, upload buttons, displays.
Found by comparing with what the editor itself saves and exports for every class of ComfyUI 0.33.0
(comfyui-frontend-package 1.32.9 and 1.58.1; tests/editor).
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from comfy_mcp.domain.inputs import MATCH_TYPE, InputSpec, active
from comfy_mcp.domain.object_info import ClassInfo

MAX_OWN_OPTIONS = 200

AFTER_GENERATE = frozenset({"fixed", "increment", "decrement", "randomize", "increment-wrap"})
"""What the editor does to a seed after a run."""

_EMPTY: Mapping[str, object] = MappingProxyType(
    {
        "INT": 0,
        "FLOAT": 0,
        "STRING": "",
        "BOOLEAN": False,
        "COMBO": None,
        "COMFY_DYNAMICCOMBO_V3": None,
        "MARKDOWN": "",
        "TEXTAREA": "",
        "COLOR": "#ffffff",
        "BOUNDING_BOX": {"x": 0, "y": 0, "width": 512, "height": 512},
        "BOUNDING_BOXES": [],
        "COLORS": [],
        "CURVE": {"points": [[0, 0], [1, 1]], "interpolation": "monotone_cubic"},
        "COMPOSITOR": {},
        "PAINTER": "",
        "LOAD_3D": "",
        "LOAD_3D_ADVANCED": "",
        "LOAD_3D_ANIMATION": "",
        "PREVIEW_3D": "",
        "AUDIO_RECORD": "",
        "WEBCAM": "",
        "IMAGECOMPARE": ["", ""],
    }
)
"""The kinds that the editor has a control for, and its value where the class states none."""

_LISTED = frozenset({"COMBO", "COMFY_DYNAMICCOMBO_V3"})
_SEEDS = frozenset({"seed", "noise_seed"})
_AFTER, _FILTER, _REFRESH = "control_after_generate", "control_filter_list", "refresh"
CAPTURED = frozenset({"LOAD_3D", "LOAD_3D_ADVANCED", "LOAD_3D_ANIMATION", "AUDIO_RECORD", "WEBCAM"})
"""Kinds whose value the editor makes in the browser when it sends."""

_SAVED_NOWHERE = frozenset({"IMAGECOMPARE"})
_SHOWS_3D = frozenset({"SaveGLB", "Preview3D", "Preview3DAnimation"})
_BUTTONS_3D = {
    "upload 3d model": "upload3dmodel",
    "upload extra resources": "uploadExtraResources",
    "clear": "clear",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Widget:
    """One control, or one place in the list of saved values that is the editor's own.

    `kind` is None for a place of the editor's own and for a custom node's control. `default` is None where
    there is none.
    `sent`: part of the API format. `saved`: has a place in the list of values.
    `control`: says what happens to the value before it after a run.
    `custom`: drawn by a custom node, not by the editor itself.
    `unread`: no control, but the mark of an input for which it can't be known how many the editor draws: any
    number ("many"), or one or none ("one").
    `chosen`: a file that somebody chose; the editor has none for a node that was saved without.
    `null`: what the editor sends where the file has null. `long`: a text of several lines, whatever it is.
    `required`: the engine refuses a node without it.
    `drawn`: of a text with "{red|blue}" the editor sends one, drawn anew for each run.
    """

    name: str
    kind: str | None = None
    default: object = None
    sent: bool = True
    saved: bool = True
    control: bool = False
    drawn: bool = False
    chosen: bool = False
    null: object = None
    long: bool = False
    custom: bool = False
    required: bool = False
    unread: str | None = None

    @property
    def why(self) -> str:
        """It is `unread`."""
        return (
            "its declaration is not understood" if self.kind is None else f"its kind {self.kind} is not known"
        )


_UPLOAD = Widget(name="upload", sent=False)


def widgets_of(
    known: ClassInfo,
    values: Mapping[str, object],
    *,
    is_widget: Callable[[InputSpec], bool | None] = lambda _: False,
    forced: bool = False,
) -> Iterator[Widget]:
    """The controls of a node of class `known`. What a dynamic combo grows depends on the value that `values`
    has for it when the next one is asked for.

    `is_widget` decides for inputs of a kind that the editor has no control for by itself: a custom node may
    bring its own; None: that is not known. `forced`: with the places of inputs that lost their control to
    `forceInput`.
    """
    uploads, below = False, False
    for spec in active(tuple(known.inputs.values()), values):
        if uploads and not below and not spec.required and spec.name in known.inputs:
            below = True
            yield _UPLOAD
        uploads = uploads or _uploads(spec)
        yield from _controls(known, spec, is_widget(spec), forced)
    if uploads and not below:
        yield _UPLOAD
    if known.name in _SHOWS_3D:
        yield Widget(name="image", kind="PREVIEW_3D", default="")
    elif known.name == "CustomCombo":
        yield from _own_options(values)


def _controls(known: ClassInfo, spec: InputSpec, custom: bool | None, forced: bool) -> Iterator[Widget]:
    kind = control_kind(spec)
    if kind is None:
        if spec.extra.get("forceInput") is True:
            if forced:
                yield Widget(name=spec.name, sent=False)
        elif spec.unread:
            yield _mark(spec, "many")
        elif custom is None:
            yield _mark(spec, "one")
        elif custom:
            default = spec.extra.get("default")
            yield Widget(name=spec.name, default=default, custom=True, required=spec.required)
        return
    long = kind == "STRING" and spec.extra.get("multiline") is True
    if known.name == "Load3D" and kind == "LOAD_3D":
        yield from (Widget(name=name, default=value) for name, value in _BUTTONS_3D.items())
    yield Widget(
        name=spec.name,
        kind=kind,
        default=_default(spec, kind),
        saved=kind not in _SAVED_NOWHERE,
        drawn=spec.extra.get("dynamicPrompts") is True,
        chosen=_uploads(spec),
        null=_first(spec) if kind in _LISTED else "" if long else None,
        long=long,
        required=spec.required,
    )
    yield from _behind(spec, kind)
    if spec.unread:
        yield _mark(spec, "many")


def _mark(spec: InputSpec, how_many: str) -> Widget:
    return Widget(name=spec.name, kind=_drawn_as(spec), sent=False, saved=False, unread=how_many)


def _own_options(values: Mapping[str, object]) -> Iterator[Widget]:
    """A CustomCombo has its options as texts of its own: one more than are filled in."""
    yield Widget(name="index", default=-1)
    for number in range(1, MAX_OWN_OPTIONS):
        yield Widget(name=f"option{number}", default="")
        if values.get(f"option{number}") in (None, ""):
            return


def control_kind(spec: InputSpec) -> str | None:
    """By which kind the editor draws a control for `spec`; None: a socket, or a kind that it doesn't know."""
    if spec.extra.get("forceInput") is True:
        return None
    kind = _drawn_as(spec)
    return kind if kind in _EMPTY else None


def is_socket(spec: InputSpec, given_kinds: Collection[str]) -> bool:
    """An input that the editor draws no control for takes links: its kind says so, or some class gives it."""
    kind = _drawn_as(spec)
    if kind is None:
        return False
    return spec.dynamic or kind in given_kinds or kind in {"*", MATCH_TYPE} or "," in kind


def _drawn_as(spec: InputSpec) -> str | None:
    wanted = spec.extra.get("widgetType")
    return wanted if isinstance(wanted, str) else spec.kind


def socket_type(spec: InputSpec | None, saved: str) -> str:
    """The type of an input that a class declares as `spec`; the `saved` one where that leaves it open."""
    kind = None if spec is None else spec.kind
    return saved if kind is None or kind.startswith("COMFY_") else kind


def _uploads(spec: InputSpec) -> bool:
    """The editor puts a button behind the required inputs. That of 3D files is drawn elsewhere."""
    return control_kind(spec) == "COMBO" and any(
        spec.extra.get(flag)
        for flag in ("image_upload", "video_upload", "audio_upload", "animated_image_upload")
    )


def _default(spec: InputSpec, kind: str | None) -> object:
    if "default" in spec.extra or spec.options:
        return spec.default
    return None if kind is None else _EMPTY[kind]


def _first(spec: InputSpec) -> object:
    return spec.options[0] if spec.options and not _uploads(spec) else None


def _behind(spec: InputSpec, kind: str | None) -> Iterator[Widget]:
    """The editor's own places right behind a control."""
    stated = spec.extra.get(_AFTER)
    if kind in {"INT", "FLOAT", "COMBO"} and (
        stated or (kind == "INT" and stated is None and spec.name in _SEEDS)
    ):
        yield Widget(name=_AFTER, sent=False, control=True)
        if kind == "COMBO":
            yield Widget(name=_FILTER, sent=False)
    remote = spec.extra.get("remote")
    if isinstance(remote, Mapping) and remote.get("refresh_button"):
        yield Widget(name="Auto-refresh after generation", sent=False)
        yield Widget(name=_REFRESH, default=_REFRESH)
    if kind == "BOUNDING_BOX":
        yield from (Widget(name=name, sent=False) for name in ("x", "y", "width", "height"))
    if kind == "AUDIO_RECORD":
        yield Widget(name=f"{spec.name}#1", sent=False)
