"""From the UI format to the API format, as the editor itself exports it.

Notes go; reroutes and bypassed nodes hand through what they are given; primitives become values; muted nodes
go, with the links to them; subgraphs are opened: node 7 inside the subgraph that is node 3 becomes "3:7".
Tested against exports of the editor (tests/editor). What can't be carried over is a warning by node and
input; docs/ui-format.md lists the classes of difference that remain.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from comfy_mcp.domain.errors import ErrorCode, GraphProblem, InvalidGraph, carrying
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.saved_values import Saved, count_option
from comfy_mcp.domain.ui_everywhere import with_links_everywhere
from comfy_mcp.domain.ui_format import BYPASSED, GROUP_NODE, MUTED, UiNode, is_subgraph_id
from comfy_mcp.domain.ui_groups import why_closed, with_groups_opened
from comfy_mcp.domain.ui_hosts import Values
from comfy_mcp.domain.ui_labels import Labels
from comfy_mcp.domain.ui_links import (
    MAX_LENGTH,
    Endless,
    NotSet,
    Output,
    Promoted,
    Unheard,
    Value,
    is_editor_only,
    source_of,
)
from comfy_mcp.domain.ui_lost import lost_in_editor, not_chosen, not_sent, of_no_control, unsure
from comfy_mcp.domain.ui_pairs import with_pairs
from comfy_mcp.domain.ui_reading import read_workflow
from comfy_mcp.domain.ui_reroutes import with_reroutes
from comfy_mcp.domain.ui_scopes import CLOSED, Budget, Controls, Scope, opened, refusal, ui_problem
from comfy_mcp.domain.ui_texts import NOT_FILLED, Moment, Prompt, filled_in, read_prompt
from comfy_mcp.domain.widgets import socket_type

SEARCH_NAME = "Node name for S&R"
"""The property that has a node's name for replacements in texts; older editors ask for it alone."""

_OFF_GROUP = "it is switched off and does not run; ComfyUI's editor of today runs it all the same"
_LEFT_OUT = "it is left out, as nothing is linked to it"
_NO_DEFINITION = "the file has no definition of it"
_TOO_LONG = f"its link leads in a ring or through over {MAX_LENGTH} reroutes, bypassed nodes and subgraphs"
_NO_SUCH_CLASS = "{} has no such class"


def converted(
    raw: Mapping[str, Any],
    info: ObjectInfo,
    budget: Budget,
    moment: Moment | None,
    controls: Controls,
    refused: list[GraphProblem] | None,
) -> tuple[dict[str, Any], list[str]]:
    """`raw`, which is in UI format, as `api_format` says; and warnings."""
    conversion = _Conversion(raw, info, budget, moment, controls)
    with carrying(conversion.warnings):
        graph = conversion.run()
        if conversion.refused and (refused is None or not graph):
            raise refusal(conversion.refused)
        if not graph:
            raise _nothing_to_run()
    if refused is not None:
        refused.extend(conversion.refused)
    return graph, conversion.warnings


def _nothing_to_run() -> InvalidGraph:
    message = "This workflow has nothing to run: no nodes, or only notes and muted or bypassed ones."
    return InvalidGraph(
        message,
        next_step="In ComfyUI add what is to run, or switch it on again, and save the workflow.",
        problems=[ui_problem(message)],
        code=ErrorCode.GRAPH_UI_FORMAT,
    )


class _Conversion:
    """One workflow on its way."""

    def __init__(
        self,
        raw: Mapping[str, Any],
        info: ObjectInfo,
        budget: Budget,
        moment: Moment | None,
        controls: Controls,
    ) -> None:
        self._raw = raw
        self._info = info
        self._labels = Labels(raw)
        self._controls = controls
        self._budget = budget
        self._moment = moment
        self._pick = None if moment is None else moment.pick()
        self._values = Values(info)
        self._nodes: dict[str, tuple[Scope, UiNode]] = {}
        self._prompts: dict[str, Prompt] = {}
        self._names: dict[str, tuple[str, str | None]] = {}
        self._closed: dict[str, str] = {}
        self._by_name: dict[str, tuple[Scope, UiNode]] | None = None
        self.warnings: list[str] = []
        self.refused: list[GraphProblem] = []

    def run(self) -> dict[str, Any]:
        raw = with_groups_opened(self._raw, self._info, self.warnings, self.refused)
        read = with_reroutes(with_pairs(read_workflow(raw, self._info), self._info), self._info)
        workflow, notes = with_links_everywhere(read)
        for node, text in notes:
            self._note(node.id, node, [(None, text)])
        for node in workflow.top.nodes.values():
            if node.type.startswith(GROUP_NODE) and node.mode in {MUTED, BYPASSED}:
                self._note(node.id, node, [(None, _OFF_GROUP)])
            if node.mode == BYPASSED:
                self._note(node.id, node, node.odd)
        for scope, node in opened(workflow, self._budget, self.refused):
            self._labels.enter(scope)
            if self._runs(scope, node):
                self._nodes[f"{scope.prefix}{node.id}"] = scope, node
        self._note_hosts()
        return {key: self._api_node(key, scope, node) for key, (scope, node) in self._nodes.items()}

    def _note_hosts(self) -> None:
        """What is odd about the values of the subgraphs' own nodes, once for each."""
        hosts: dict[str, tuple[Scope, UiNode]] = {}
        for inside, _ in self._nodes.values():
            outer = inside.outer
            while outer is not None and (key := f"{outer[0].prefix}{outer[1].id}") not in hosts:
                hosts[key] = outer
                outer = outer[0].outer
        for key, (scope, node) in hosts.items():
            shown = self._values.of_host(scope, node)
            self._refuse_unplaced(key, node, shown.unplaced)
            self._note(key, node, (*node.odd, *shown.notes))

    def _runs(self, scope: Scope, node: UiNode) -> bool:
        """A class that the engine lacks is left out where nothing is linked to it: many custom nodes live in
        the editor only. The editor opens no group node that has such a class inside.
        """
        if node.type == CLOSED:
            return node.id in scope.graph.linked
        if is_editor_only(node.type):
            self._note(f"{scope.prefix}{node.id}", node, node.odd)
            return False
        known = node.type in self._info.classes
        key, closed = f"{scope.prefix}{node.id}", node.type.startswith(GROUP_NODE)
        runs = known or node.id in scope.graph.linked or _is_in_group(scope)
        if closed and runs:
            if node.type not in self._closed:
                self._closed[node.type] = why_closed(self._raw, node.type)
            self._refuse(key, node, f"it is a group node {self._closed[node.type]}")
        elif not runs:
            why = (
                _NO_DEFINITION
                if closed or is_subgraph_id(node.type)
                else _NO_SUCH_CLASS.format(self._info.source)
            )
            self._note(key, node, [(None, f"{why}; {_LEFT_OUT}")])
        return runs

    def _api_node(self, key: str, scope: Scope, node: UiNode) -> dict[str, Any]:
        known = self._info.classes.get(node.type)
        saved = self._placed(key, scope, node)
        self._budget.write(key, node.type, node.title)
        self._note(key, node, (*node.odd, *saved.notes))
        values, links = dict(saved.values), {}
        declared = {} if known is None else known.inputs
        shown = set(self._values.shown_inside(scope, node))
        own = shown & values.keys()
        filled = set() if node.type in NOT_FILLED else {"filename_prefix"}
        for each in node.inputs:
            match source_of(scope, each, socket_type(declared.get(each.name), each.type)):
                case Output(origin, slot):
                    if origin in self._nodes:
                        self._budget.write(each.name, origin)
                        links[each.name] = [origin, slot]
                case Value(value, fill) if known is None or saved.has(each.name):
                    values[each.name] = saved.set_by_link(each.name, value)
                    filled |= {each.name} if fill else set()
                case Promoted() as control:
                    found = self._values.promoted(control)
                    values |= {} if found is None else {each.name: saved.shown_outside(each.name, found[0])}
                    shown.add(each.name)
                    own.discard(each.name)
                    if each.name in values:
                        self._show(control.scope, control.node, control.name, key, each.name)
                case (Unheard() | Value() | NotSet() | Endless()) as given:
                    self._not_taken(key, node, each.name, given, values.get(each.name))
                case _:  # from nowhere, or from a note: the control keeps its value
                    pass
        self._show_inside(scope, node, key, own)
        inputs: dict[str, Any] = {
            name: links.get(name) or self._sent(key, node, saved, name, value, shown, filled)
            for name, value in values.items()
        }
        inputs |= links
        for name in not_chosen(known, saved, inputs) if known is not None else ():
            self._note(key, node, [(name, "what is chosen has no such input; its link is left out")])
            del inputs[name]
        if known is not None:
            count_option(known, inputs)
            self._note(key, node, lost_in_editor(known, saved, inputs) if known.grows else ())
            self._note(key, node, of_no_control(known, node, saved, links))
        self._note(key, node, unsure(saved, inputs))
        title = node.title or (known.title if known else None) or node.type
        meta = {"title": title} | ({"cnr_id": node.pack} if known is None and node.pack else {})
        kind = node.type if known is None else known.sent_as or node.type
        return {"inputs": inputs, "class_type": kind, "_meta": meta}

    def _placed(self, key: str, scope: Scope, node: UiNode) -> Saved:
        saved = self._values.of_node(scope, node)
        self._refuse_unplaced(key, node, saved.unplaced)
        return saved

    def _show_inside(self, scope: Scope, node: UiNode, key: str, names: Iterable[str]) -> None:
        if scope.outer is not None:
            for name in names:
                self._show(*scope.outer, f"{node.id}.{name}", key, name)

    def _show(self, scope: Scope, host: UiNode, control: str, key: str, name: str) -> None:
        shows = NodeId(f"{scope.prefix}{host.id}"), control
        self._controls.setdefault(shows, []).append((NodeId(key), name))

    def _sent(
        self,
        key: str,
        node: UiNode,
        saved: Saved,
        name: str,
        value: object,
        shown: set[str],
        filled: set[str],
    ) -> object:
        """The value as the editor sends it. `shown`: a subgraph has the control, and its text stays as it is.

        `filled`: those that dates and values of other nodes are filled into.
        """
        self._budget.write(name, value)
        widget = saved.widgets.get(name)
        if isinstance(value, str) and name not in shown:
            if name in filled:
                value = self._filled_in(key, node, name, value)
            if widget is not None and widget.drawn:
                value = self._drawn(key, node, name, value)
        if widget is not None and widget.kind == "CURVE" and isinstance(value, Mapping):
            return {"__type__": "CURVE", "__value__": value}
        # A list as a value is wrapped as the editor does it: bare, it would be a link.
        return {"__value__": value} if isinstance(value, list) else value

    def _filled_in(self, key: str, node: UiNode, name: str, text: str) -> str:
        """Each text once, however many nodes show it."""
        if text not in self._names:
            self._names[text] = filled_in(text, self._value_of, self._moment)
        new, left = self._names[text]
        if left is not None:
            self._note(
                key, node, [(name, f"nothing is known to put in place of {left!r}; it is sent unchanged")]
            )
        return new

    def _drawn(self, key: str, node: UiNode, name: str, text: str) -> str:
        """One of its variants, a new draw for each node; read once."""
        if text not in self._prompts:
            self._prompts[text] = read_prompt(text)
        prompt = self._prompts[text]
        if prompt.first is not None and self._pick is None:
            text = (
                f"{prompt.first!r} is sent unchanged; ComfyUI's editor draws one of the variants for each run"
            )
            self._note(key, node, [(name, text)])
            return prompt.text
        drawn = prompt.drawn(self._pick)
        if prompt.first is not None:
            text = (
                f"one of {prompt.first!r} is drawn for each submit, as in ComfyUI's editor; now {drawn!r:.80}"
            )
            self._note(key, node, [(name, text)])
        return drawn

    def _value_of(self, name: str, control: str) -> object:
        """Of the first node with that name in the editor, or with that title; None: there is none."""
        if self._by_name is None:
            self._by_name = {}
            for by_title in (False, True):
                for scope, node in self._nodes.values():
                    called = node.title if by_title else node.properties.get(SEARCH_NAME)
                    self._by_name.setdefault(str(called), (scope, node))
        found = self._by_name.get(name)
        return None if found is None else self._values.of_node(*found).values.get(control)

    def _note(self, key: str, node: UiNode, notes: Iterable[tuple[str | None, str]]) -> None:
        for name, text in notes:
            self.warnings.append(f"{self._labels.place(key, node, name)}: {text}.")

    def _not_taken(
        self, key: str, node: UiNode, name: str, given: Unheard | Value | NotSet | Endless, sent: object
    ) -> None:
        if isinstance(given, Endless):
            message = f"{self._labels.place(key, node, name)}: {_TOO_LONG}, at node {given.node}."
            ring = ui_problem(message, key, node.type, name)
            self.refused.append(replace(ring, kind="dependency_cycle"))
        else:
            self._note(key, node, not_sent(name, given, sent))

    def _refuse_unplaced(self, key: str, node: UiNode, unplaced: tuple[str, str] | None) -> None:
        if unplaced is not None:
            name, why = unplaced
            self._refuse(key, node, why, name)

    def _refuse(self, key: str, node: UiNode, why: str, name: str | None = None) -> None:
        message = f"{self._labels.place(key, node, name)}: {why}."
        self.refused.append(ui_problem(message, key, node.type, name))


def _is_in_group(scope: Scope) -> bool:
    return scope.outer is not None and scope.outer[1].type.startswith(GROUP_NODE)
