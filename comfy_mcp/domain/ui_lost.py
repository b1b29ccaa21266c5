"""What of a node in UI format is not sent, or not as ComfyUI's editor may send it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from comfy_mcp.domain.inputs import active
from comfy_mcp.domain.object_info import ClassInfo
from comfy_mcp.domain.saved_values import Saved
from comfy_mcp.domain.ui_format import UiNode
from comfy_mcp.domain.ui_links import NotSet, Unheard, Value
from comfy_mcp.domain.widgets import CAPTURED


def not_sent(name: str, given: Unheard | Value | NotSet, sent: object) -> Iterable[tuple[str | None, str]]:
    """Why what an input is given is not `sent`."""
    if isinstance(given, NotSet):
        why = "the node that gets it is switched off" if given.off else "no node does"
        yield name, f"it reads what a node sets as {given.name!r:.60}, and {why}; its link is left out"
    elif given.value != sent:
        why = "the subgraph's own value is" if isinstance(given, Unheard) else "it is no control"
        yield name, f"{given.value!r:.60} of the primitive is not sent: {why}"


def not_chosen(known: ClassInfo, saved: Saved, inputs: Mapping[str, Any]) -> list[str]:
    """Links to what another choice of a dynamic combo would have grown; the editor drops them.

    The choice of the node's own control counts, even where a link or a subgraph gives another one.
    """
    dotted = [name for name, value in inputs.items() if "." in name and isinstance(value, list)]
    if not dotted:
        return []
    chosen = {spec.name for spec in active(tuple(known.inputs.values()), saved.values)}
    parents = {spec.name for spec in known.inputs.values() if spec.choices is not None}
    return [name for name in dotted if name not in chosen and name.split(".")[0] in parents]


def lost_in_editor(known: ClassInfo, saved: Saved, inputs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Links to slots that grow behind a choice: the editor restores as many as inputs stand before them, and
    at least those of a new node."""
    before = 0
    for spec in active(tuple(known.inputs.values()), saved.values):
        if spec.slots and "." in spec.name:
            linked = [slot.name for slot in spec.slots if isinstance(inputs.get(slot.name), list)]
            new = 1 + sum(slot.required for slot in spec.slots)
            for name in linked[max(before, new) :]:
                yield name, "its link is sent; ComfyUI's editor loses it when it opens this file"
        before += spec.choices is None


def of_no_control(
    known: ClassInfo, node: UiNode, saved: Saved, links: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    """Links to controls that the class has no more."""
    for each in node.inputs:
        gone = each.widget and "." not in each.name and each.name not in known.inputs
        if gone and each.name in links and not saved.has(each.name):
            yield each.name, "the class has no such input; ComfyUI's editor leaves its link out"


def unsure(saved: Saved, inputs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Values that the editor makes in the browser when it sends, or that a control of a custom node makes."""
    for name, widget in saved.widgets.items():
        value = inputs.get(name)
        if name not in inputs or isinstance(value, list):
            continue
        if widget.kind in CAPTURED:
            yield name, "what the editor captures in the browser is not known here; the saved value is sent"
        elif widget.custom and value is not None:
            yield name, "its control is a custom node's own; the saved value is sent as it is"
