"""Group nodes, the forerunner of subgraphs: each use of one becomes a subgraph of its own.

The inside is kept in `extra.groupNodes` by name, without ids: a node is its place in the list, and node 1
inside the group node 5 becomes "5:1". The group node's values are those of the nodes inside, one after the
other; its inputs are the inputs inside that nothing inside feeds, by names that are made distinct.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
from comfy_mcp.domain.ui_scopes import refuse
from comfy_mcp.domain.widgets import Widget, is_socket, widgets_of

MAX_EXPANDED = 20_000
"""Most nodes that come out of group nodes; the others stay closed, and are refused."""


def with_groups_opened(raw: Mapping[str, Any], info: ObjectInfo) -> tuple[Mapping[str, Any], Sequence[str]]:
    """`raw` with a subgraph for each group node that can be opened, or `raw` itself; and warnings."""
    extra = raw.get("extra")
    groups = extra.get("groupNodes") if isinstance(extra, Mapping) else None
    if not isinstance(groups, Mapping):
        return raw, ()
    opening = _Opening(groups, info)
    nodes = opening.replaced(raw.get("nodes"), "", 0)
    if not opening.made:
        return raw, ()
    definitions = raw.get("definitions")
    definitions = definitions if isinstance(definitions, Mapping) else {}
    listed = definitions.get("subgraphs")
    subgraphs = [*(listed if isinstance(listed, list) else ()), *opening.made]
    return {**raw, "nodes": nodes, "definitions": {**definitions, "subgraphs": subgraphs}}, opening.warnings


class _Opening:
    def __init__(self, groups: Mapping[str, Any], info: ObjectInfo) -> None:
        self._groups = groups
        self._info = info
        self._left = MAX_EXPANDED
        self.made: list[dict[str, Any]] = []
        self.warnings: list[str] = []

    def replaced(self, nodes: object, prefix: str, level: int) -> list[Any]:
        """The nodes, in which each group node that was opened has the id of its subgraph as its type."""
        return [self._one(node, prefix, level) for node in (nodes if isinstance(nodes, list) else ())]

    def _one(self, node: Any, prefix: str, level: int) -> Any:
        kind = node.get("type") if isinstance(node, Mapping) else None
        if not isinstance(kind, str) or not kind.startswith(GROUP_NODE) or level > MAX_LEVELS:
            return node
        group = self._groups.get(kind[len(GROUP_NODE[0]) :])
        inside = _inside(group)
        self._left -= len(inside)
        if (
            not isinstance(group, Mapping)
            or not inside
            or self._left < 0
            or any(each.get("type") == PRIMITIVE for each in inside)
        ):
            return node
        name = f"{kind}#{prefix}{node.get('id')}"
        saved, off, said = (
            node.get("widgets_values"),
            node.get("mode") in {MUTED, BYPASSED},
            len(self.warnings),
        )
        listed = saved if isinstance(saved, list) and not off else []
        self._make(name, group, inside, listed, f"{prefix}{node.get('id')}:", level)
        del self.warnings[said if off else len(self.warnings) :]
        return {**node, "type": name, "widgets_values": [] if isinstance(saved, list) else saved}

    def _make(
        self, name: str, group: Mapping[str, Any], inside: list[Mapping[str, Any]], values: list[Any],
        prefix: str, level: int,
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
            self.warnings.append(f"{user}: nothing inside has an input for saved values: {all_shown(left)}.")
        for result, (place, slot) in enumerate(_results(group, inside, links)):
            given.append(_link(len(given), place, slot, OUTPUTS_ID, result))
        self.made.append(
            {
                "id": name,
                "nodes": self.replaced(nodes, prefix, level + 1),
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
            return own, [], at
        hidden = {str(each.get("name")) for each in sockets if "widget" in each}
        found: list[Any] = []
        shown: list[str] = []
        current: dict[str, object] = {}
        before = ""
        unread: tuple[Widget, int] | None = None
        sure = {each.get("name") for each in sockets if "widget" not in each}

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
                    self.warnings.append(f"{place}: its group node has no saved value for it.")
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
            why = f"{mark.why}, so the group node's saved values can't be given to inputs"
            refuse(f"Node {key} ({known.name}), input {mark.name!r}: {why}.", key, known.name, mark.name)
        return own, [], at


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
    out = {tuple(each[:2]) for each in (listed if isinstance(listed, list) else ()) if isinstance(each, list)}
    for place, node in enumerate(inside):
        for slot, _ in enumerate(_maps(node.get("outputs"))):
            if (place, slot) not in used or (place, slot) in out:
                yield place, slot


def _link(number: int, origin: object, start: int, target: object, slot: int) -> dict[str, Any]:
    ends = {"origin_id": origin, "origin_slot": start, "target_id": target, "target_slot": slot}
    return {"id": number, **ends}
