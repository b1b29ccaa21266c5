"""Group nodes, the forerunner of subgraphs: each use of one becomes a subgraph of its own.

The inside is kept in `extra.groupNodes` by name, without ids: a node is its place in the list, and node 1
inside the group node 5 becomes "5:1". The group node's values are those of the nodes inside, one after the
other; its inputs are the inputs inside that nothing inside feeds, by names that are made distinct.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from comfy_mcp.domain.errors import GraphProblem
from comfy_mcp.domain.inputs import InputSpec
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.shown import all_shown
from comfy_mcp.domain.ui_format import (
    BYPASSED,
    GROUP_NODE,
    INPUTS_ID,
    MAX_LEVELS,
    MUTED,
    OUTPUTS_ID,
    PRIMITIVE,
)
from comfy_mcp.domain.ui_links import is_editor_only
from comfy_mcp.domain.ui_scopes import NOTES, ui_problem
from comfy_mcp.domain.widgets import Widget, is_socket, widgets_of

MAX_EXPANDED = 20_000
"""Most nodes that come out of group nodes; the others stay closed, and are refused."""


def with_groups_opened(
    raw: Mapping[str, Any], info: ObjectInfo, warnings: list[str], refused: list[GraphProblem]
) -> Mapping[str, Any]:
    """`raw` with a subgraph for each group node that can be opened, or `raw` itself. `warnings` is filled,
    and `refused` with what can't be converted."""
    opening = _Opening(_groups(raw), info, warnings, refused)
    nodes = opening.replaced(raw.get("nodes"), "", ())
    if not opening.made:
        return raw
    definitions = raw.get("definitions")
    definitions = definitions if isinstance(definitions, Mapping) else {}
    listed = definitions.get("subgraphs")
    subgraphs = [*(listed if isinstance(listed, list) else ()), *opening.made]
    return {**raw, "nodes": nodes, "definitions": {**definitions, "subgraphs": subgraphs}}


def why_closed(raw: Mapping[str, Any], kind: str) -> str:
    """Why the group nodes of type `kind` in `raw` were not opened, for "it is a group node …"."""
    group = _groups(raw).get(kind[len(GROUP_NODE[0]) :])
    inside = _inside(group)
    if group is None:
        return "and the file has no definition of it in extra.groupNodes"
    if not inside:
        return "and its definition in extra.groupNodes has no nodes"
    if any(each.get("type") == PRIMITIVE for each in inside):
        return "with a primitive inside; give its value to the nodes that it sets, and take it out"
    if any(_name(str(each.get("type"))) == _name(kind) for each in inside):
        return "that contains itself"
    return f"that holds itself, or more than {MAX_EXPANDED} nodes or {MAX_LEVELS} levels of group nodes"


def _groups(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    extra = raw.get("extra")
    groups = extra.get("groupNodes") if isinstance(extra, Mapping) else None
    return groups if isinstance(groups, Mapping) else {}


def _name(kind: str) -> str | None:
    return kind[len(GROUP_NODE[0]) :] if kind.startswith(GROUP_NODE) else None


class _Opening:
    def __init__(
        self, groups: Mapping[str, Any], info: ObjectInfo, warnings: list[str], refused: list[GraphProblem]
    ) -> None:
        self._groups = groups
        self._info = info
        self._left = MAX_EXPANDED
        self._known: dict[str, list[Mapping[str, Any]]] = {}
        self._warnings = warnings
        self._refused = refused
        self.made: list[dict[str, Any]] = []

    def replaced(self, nodes: object, prefix: str, around: Sequence[str]) -> list[Any]:
        """The nodes, in which each group node that was opened has the id of its subgraph as its type.
        `around`: the names of the group nodes that they are in."""
        return [self._one(node, prefix, around) for node in (nodes if isinstance(nodes, list) else ())]

    def _one(self, node: Any, prefix: str, around: Sequence[str]) -> Any:
        kind = node.get("type") if isinstance(node, Mapping) else None
        name = _name(kind) if isinstance(kind, str) else None
        if name is None or name in around or len(around) > MAX_LEVELS:
            return node
        group, inside = self._groups.get(name), self._openable(name)
        self._left -= len(inside)
        if not isinstance(group, Mapping) or not inside or self._left < 0:
            return node
        opened = f"{kind}#{prefix}{node.get('id')}"
        saved, off = node.get("widgets_values"), node.get("mode") in {MUTED, BYPASSED}
        listed = saved if isinstance(saved, list) and not off else []
        said = len(self._warnings), len(self._refused)
        self._make(opened, group, inside, listed, f"{prefix}{node.get('id')}:", (*around, name))
        if off:
            del self._warnings[said[0] :]
            del self._refused[said[1] :]
        return {**node, "type": opened, "widgets_values": [] if isinstance(saved, list) else saved}

    def _openable(self, name: str) -> list[Mapping[str, Any]]:
        """The nodes of a definition that can be opened; each is looked at once."""
        if name not in self._known:
            inside = _inside(self._groups.get(name))
            self._known[name] = [] if any(each.get("type") == PRIMITIVE for each in inside) else inside
        return self._known[name]

    def _make(
        self, name: str, group: Mapping[str, Any], inside: list[Mapping[str, Any]], values: list[Any],
        prefix: str, around: Sequence[str],
    ) -> None:  # fmt: skip
        links = list(_links(group, len(inside)))
        fed = {(target, slot): number for number, (_, _, target, slot) in enumerate(links)}
        given: list[dict[str, Any]] = [
            _link(number, origin, start, target, slot)
            for number, (origin, start, target, slot) in enumerate(links)
        ]
        names: list[str] = []
        seen: dict[str, int] = {}
        nodes: list[dict[str, Any]] = []
        at = 0
        for place, node in enumerate(inside):
            sockets = list(_maps(node.get("inputs")))
            own, shown, at = self._values(f"{prefix}{place}", node, sockets, values, at)
            wanted = {widget: _named(group, node, place, widget, seen) for widget in shown}
            inputs: list[dict[str, Any]] = []
            # Names are given to controls first, then to sockets, last to controls that are sockets.
            for slot, each in sorted(enumerate(sockets), key=lambda item: "widget" in item[1]):
                number = fed.get((place, slot))
                if number is None:
                    number = len(given)
                    given.append(_link(number, INPUTS_ID, len(names), place, slot))
                    names.append(_named(group, node, place, str(each.get("name")), seen))
                inputs.append({**each, "link": number})
            inputs.sort(key=lambda each: [one.get("name") for one in sockets].index(each.get("name")))
            for widget, name_outside in wanted.items():
                inputs.append({"name": widget, "type": "*", "widget": {"name": widget}, "link": len(given)})
                given.append(_link(len(given), INPUTS_ID, len(names), place, len(inputs) - 1))
                names.append(name_outside)
            nodes.append({**node, "id": place, "inputs": inputs, "widgets_values": own})
        # Behind them the editor may save false, for a control of the group node's own.
        if left := [value for value in values[at:] if value is not None and value is not False]:
            user = f"Node {prefix[:-1]} ({name.partition('#')[0]})"
            self._warnings.append(f"{user}: nothing inside has an input for saved values: {all_shown(left)}.")
        for result, (place, slot) in enumerate(_results(group, inside, links)):
            given.append(_link(len(given), place, slot, OUTPUTS_ID, result))
        self.made.append(
            {
                "id": name,
                "nodes": self.replaced(nodes, prefix, around),
                "links": given,
                "inputs": [{"name": each} for each in names],
            }
        )

    def _values(
        self, key: str, node: Mapping[str, Any], sockets: list[Mapping[str, Any]], values: list[Any], at: int
    ) -> tuple[Any, list[str], int]:
        """What the node inside has: its own values, but for those of the group node from place `at` on.

        Also the controls that the group node shows, and the place behind them. A control that was made a
        socket has no place there.
        """
        known = self._info.classes.get(str(node.get("type")))
        own = node.get("widgets_values")
        if known is None or not isinstance(own, list | None):
            taken = _beside(node, values[at:])
            kept = own[len(taken) :] if isinstance(own, list) else []
            return [*taken, *kept] if taken else own, [], at + len(taken)
        hidden = {str(each.get("name")) for each in sockets if "widget" in each}
        found: list[Any] = []
        shown: list[str] = []
        current: dict[str, object] = {}
        before = ""
        unread: tuple[Widget, int] | None = None
        sure = {str(each.get("name")) for each in sockets if "widget" not in each}

        def is_widget(spec: InputSpec) -> bool | None:
            return False if spec.name in sure or is_socket(spec, self._info.given_kinds) else None

        for widget in widgets_of(known, current, is_widget=is_widget):
            unread = (widget, at) if widget.unread and unread is None else unread
            if not widget.saved:
                continue
            before = before if widget.control else widget.name
            mine: object = widget.default
            if before in hidden:
                mine = own[len(found)] if own is not None and len(found) < len(own) else mine
            else:
                mine = values[at] if at < len(values) else mine
                if at >= len(values) and widget.required:
                    place = f"Node {key} ({known.name}), input {widget.name!r}"
                    self._warnings.append(f"{place}: its group node has no saved value for it.")
                at += 1
                shown += [] if widget.control else [widget.name]
            found.append(mine)
            current[widget.name] = mine
        if unread is None or len(own or ()) == len(found):
            return found, shown, at
        mark, first = unread
        if len(values) <= first and not own:
            return found, shown, at
        if len(values) > first:
            self._refuse(key, known.name, mark)
            return [], [], len(values)
        return own, [], at

    def _refuse(self, key: str, kind: str, mark: Widget) -> None:
        why = f"{mark.why}, so the group node's saved values can't be given to inputs"
        message = f"Node {key} ({kind}), input {mark.name!r}: {why}."
        self._refused.append(ui_problem(message, key, kind, mark.name))


def _beside(node: Mapping[str, Any], values: list[Any]) -> list[Any]:
    """Of a group node's `values`, those of a node inside whose class no engine has: as many as it has itself.
    A node that lives in the editor only has none there."""
    own, kind = node.get("widgets_values"), str(node.get("type"))
    if not isinstance(own, list) or is_editor_only(kind) or kind in NOTES:
        return []
    return values[: len(own)]


def _named(
    group: Mapping[str, Any], node: Mapping[str, Any], place: int, name: str, seen: dict[str, int]
) -> str:
    """The name of an input of a node inside as the group node has it: distinct, or as its author chose."""
    config = group.get("config")
    for key in (str(place), "input", name):
        config = config.get(key) if isinstance(config, Mapping) else None
    chosen = config.get("name") if isinstance(config, Mapping) else None
    key = outside = str(chosen or name)
    if key in seen:
        prefix = node.get("title") or node.get("type")
        key = outside = f"{prefix} {name}"
        if key in seen:
            outside = f"{prefix} {seen[key]} {name}"
    seen[key] = seen.get(key, 1) + 1
    return outside


def _inside(group: object) -> list[Mapping[str, Any]]:
    return list(_maps(group.get("nodes"))) if isinstance(group, Mapping) else []


def _maps(value: object) -> Iterator[Mapping[str, Any]]:
    yield from (each for each in (value if isinstance(value, list) else ()) if isinstance(each, Mapping))


def _links(group: Mapping[str, Any], count: int) -> Iterator[tuple[int, int, int, int]]:
    """Node and slot at both ends."""
    listed = group.get("links")
    for each in listed if isinstance(listed, list) else ():
        match each:
            case [int(origin), int(start), int(target), int(slot), *_] if max(origin, target) < count:
                yield origin, start, target, slot


def _results(
    group: Mapping[str, Any], inside: list[Mapping[str, Any]], links: list[tuple[int, int, int, int]]
) -> Iterator[tuple[int, int]]:
    """The outputs inside that the group node has: those that nothing inside uses, or that lead out too."""
    used = {(origin, slot) for origin, slot, _, _ in links}
    listed = group.get("external")
    out = set()
    for each in listed if isinstance(listed, list) else ():
        match each:
            case [int(place), int(slot), *_]:
                out.add((place, slot))
            case _:
                pass
    for place, node in enumerate(inside):
        for slot, _ in enumerate(_maps(node.get("outputs"))):
            if (place, slot) not in used or (place, slot) in out:
                yield place, slot


def _link(number: int, origin: object, start: int, target: object, slot: int) -> dict[str, Any]:
    ends = {"origin_id": origin, "origin_slot": start, "target_id": target, "target_slot": slot}
    return {"id": number, **ends}
