"""What the scripts of custom packs make of saved values when the editor opens a file.

Each rule was compared with what the editor sends with the pack's own scripts in it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from comfy_mcp.domain.object_info import ClassInfo
from comfy_mcp.domain.ui_format import UiNode

_POWER_LORAS, _POWER_HEADER = "Power Lora Loader (rgthree)", "PowerLoraLoaderHeaderWidget"

_DISPLAYS = frozenset(
    {"ShowText|pysssss", "Seed (rgthree)", "Display Any (rgthree)", "Display Int (rgthree)"}
)
_UNDECLARED = MappingProxyType(
    {"Power Puter (rgthree)": ("outputs", "code"), "Power Primitive (rgthree)": ("type", "value")}
)
"""Classes that read inputs which they do not declare, in the order of their controls."""

_MADE_IN_THE_BROWSER = frozenset({("ImageTransformKJ", "bboxes"), ("ScreencapStream", "frame_data")})
_SEEDS = frozenset({"seed", "noise_seed"})

_VIDEO, _COMBINE = "VHS_", "VHS_VideoCombine"
_DIGITS = re.compile(r"[0-9]{1,9}")
_VIDEO_FILE = ("video", "force_rate", "force_size", "frame_load_cap", "skip_first_frames", "select_every_nth")
_VIDEO_LISTS = MappingProxyType(
    {
        "VHS_LoadImages": ("directory", "", "image_load_cap", "skip_first_images", "select_every_nth"),
        "VHS_LoadImagesPath": ("directory", "image_load_cap", "skip_first_images", "select_every_nth"),
        "VHS_VideoCombine": (
            *("frame_rate", "loop_count", "filename_prefix", "format", "pingpong", "save_image"),
        ),
        "VHS_LoadVideo": _VIDEO_FILE,
        "VHS_LoadVideoPath": _VIDEO_FILE,
    }
)
"""VideoHelperSuite: the names of values that its files of 2023 have as a list; "" is a button."""


@dataclass(frozen=True, slots=True)
class Reading:
    """`values` as the editor reads them, a list or an object by name; `added` are sent as they are.

    `whole`: the controls of the node are known, so a name that none of them has is not sent.
    `displays`: what else is saved only shows something, or is a button.
    `bare`: an optional input without a saved value is not sent. `lost`: saved values that nothing takes.
    """

    values: object
    whole: bool = False
    displays: bool = False
    bare: bool = False
    added: Mapping[str, object] = field(default_factory=dict)
    lost: Sequence[object] = ()


def as_the_pack_reads(known: ClassInfo, node: UiNode) -> Reading:
    """The saved values of `node` of class `known`."""
    if known.name == _POWER_LORAS and isinstance(node.values, list):
        rest = [each for each in node.values if not _is_power_lora(each)]
        return Reading({}, added=_power_loras(node, node.values), lost=rest)
    if known.name.startswith(_VIDEO):
        formats = known.inputs.get("format")
        whole = known.name != _COMBINE or (formats is not None and formats.choices is not None)
        values, lost = _video(known.name, node.values)
        return Reading(values, whole=whole and known.name in _VIDEO_LISTS, lost=lost)
    names = _UNDECLARED.get(known.name)
    if names is not None and isinstance(node.values, list):
        return Reading({}, added=dict(zip(names, node.values, strict=False)), lost=node.values[len(names) :])
    bare = known.name.endswith("(rgthree)") and "Power Prompt" in known.name
    return Reading(node.values, whole=known.certain, displays=known.name in _DISPLAYS, bare=bare)


def says_nothing(name: str, value: object) -> bool:
    """Of a name that the class does not declare."""
    return value in (None, "", [], {}) or is_button(name)


def is_display(name: str, value: object) -> bool:
    """VideoHelperSuite saves what its preview shows."""
    return name == "videopreview" and isinstance(value, Mapping)


def is_button(name: str) -> bool:
    """VideoHelperSuite saves the labels of its upload buttons too."""
    return name.startswith("choose ") and name.endswith(" to upload")


def unsure(known: ClassInfo, name: str, value: object) -> str | None:
    """Why the editor may send another value than the saved one."""
    if not known.custom:
        return None
    if name in _SEEDS and value in (-1, -2, -3):
        return f"{value} is sent; for it, the pack's script in the editor draws a number for each run"
    if (known.name, name) in _MADE_IN_THE_BROWSER:
        return "what the pack's script makes of it in the browser is not known here; the saved value is sent"
    return None


def _video(kind: str, values: object) -> tuple[object, Sequence[object]]:
    """With what older versions of VideoHelperSuite saved under other names, and what no name takes."""
    names, lost = _VIDEO_LISTS.get(kind), []
    if isinstance(values, list) and names is not None and len(values) >= len(names):
        lost = [each for each in values[len(names) :] if each != "image" and not isinstance(each, Mapping)]
        values = {name: value for name, value in zip(names, values, strict=False) if name}
    if not isinstance(values, Mapping):
        return values, ()
    found = dict(values)
    size = found.pop("force_size", None)
    if isinstance(size, str):
        found |= _sizes(size)
    if kind == _COMBINE and "save_image" in found:
        image = found.pop("save_image")
        found.setdefault("save_output", image)
    return found, lost


def _sizes(size: str) -> Iterator[tuple[str, int]]:
    """`512x?` sets both sides; of the words each sets a side that it leaves to the other one to 0."""
    width, by, height = size.partition("x")
    if by:
        for name, side in (("custom_width", width), ("custom_height", height)):
            digits = _DIGITS.match(side)
            if digits or side == "?":
                yield name, int(digits.group()) if digits else 0
        return
    if size in {"Disabled", "Custom Height"}:
        yield "custom_width", 0
    if size in {"Disabled", "Custom Width"}:
        yield "custom_height", 0


def _is_power_lora(value: object) -> bool:
    """Or the header, or nothing: what rgthree's loader has in its list."""
    return value in (None, "", {}) or (isinstance(value, Mapping) and not {"lora", "type"}.isdisjoint(value))


def _power_loras(node: UiNode, listed: list[object]) -> Mapping[str, object]:
    """rgthree's loader: each object with a `lora` in the list is an input of its own."""
    loras = [each for each in listed if isinstance(each, Mapping) and "lora" in each]
    separate = node.properties.get("Show Strengths") == "Separate Model & Clip"
    found: dict[str, object] = {_POWER_HEADER: {"type": _POWER_HEADER}}
    for number, each in enumerate(loras, start=1):
        second = {"strengthTwo": 1 if each.get("strengthTwo") is None else each["strengthTwo"]}
        one = {name: value for name, value in each.items() if name != "strengthTwo"}
        found[f"lora_{number}"] = one | (second if separate else {})
    return found | {"\N{HEAVY PLUS SIGN} Add Lora": ""}
