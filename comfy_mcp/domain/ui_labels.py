"""What messages call the nodes of a workflow in UI format: by class, and subgraphs by their titles."""

from collections.abc import Mapping
from typing import Any

from comfy_mcp.domain.ui_format import GROUP_NODE, UiNode, is_subgraph_id
from comfy_mcp.domain.ui_scopes import Scope

_LONGEST = 60


class Labels:
    """Of one workflow, `raw`. Its subgraphs are named as they are entered."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        definitions = raw.get("definitions")
        listed = definitions.get("subgraphs") if isinstance(definitions, Mapping) else None
        found = [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
        self._titles = {str(each.get("id")): each.get("name") for each in found}
        self._inside: dict[str, str] = {}

    def enter(self, scope: Scope) -> None:
        if scope.outer is not None and scope.prefix not in self._inside:
            self._inside[scope.prefix] = self.kind(scope.outer[1])

    def kind(self, node: UiNode) -> str:
        """The class, or which subgraph it is."""
        if node.type.startswith(GROUP_NODE):
            return node.type.partition("#")[0]
        if node.type in self._titles or is_subgraph_id(node.type):
            title = node.title or self._titles.get(node.type) or node.type
            return f"subgraph {str(title)[:_LONGEST]!r}"
        return node.type

    def place(self, key: str, node: UiNode, name: str | None = None) -> str:
        """`key`: the node's id in API format. `name`: of an input."""
        inside = self._inside.get(key[: key.rfind(":") + 1])
        kind = self.kind(node) if inside is None else f"{self.kind(node)} in {inside}"
        place = f"Node {key} ({kind})"
        return place if name is None else f"{place}, input {name!r}"
