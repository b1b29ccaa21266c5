"""In which order the nodes of a prompt run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from comfy_mcp.embedded.cache import sources as linked


class Schedule:
    """Nodes needed for the outputs, each after those that it is linked to; cached ones need nothing.

    Among the nodes that are ready, the one nearest to an output goes first, so that results show early.
    ComfyUI's order of equal nodes changes from run to run; here it is the order in the prompt.
    """

    def __init__(self, prompt: Mapping[str, Any], outputs: Collection[str], cached: Collection[str]) -> None:
        self._needs: dict[str, set[str]] = {}
        self._users: dict[str, set[str]] = {}
        known = set(prompt)
        waiting = list(outputs)
        while waiting:
            node_id = waiting.pop()
            if node_id in self._needs:
                continue
            needs: set[str] = (
                set() if node_id in cached else (set(linked(prompt[node_id])) & known) - set(cached)
            )
            self._needs[node_id] = needs
            for source in needs:
                self._users.setdefault(source, set()).add(node_id)
            waiting += needs
        distance = _distances(outputs, self._needs)
        position = {node_id: index for index, node_id in enumerate(prompt)}
        self._rank = {node_id: (distance[node_id], position[node_id]) for node_id in self._needs}
        self._ready = {node_id for node_id, needs in self._needs.items() if not needs}

    def next(self) -> str | None:
        """The node to run now, None when all have run."""
        return min(self._ready, key=self._rank.__getitem__, default=None)

    def done(self, node_id: str) -> None:
        self._ready.discard(node_id)
        for user in self._users.get(node_id, ()):
            self._needs[user].discard(node_id)
            if not self._needs[user]:
                self._ready.add(user)


def _distances(outputs: Collection[str], needs: Mapping[str, set[str]]) -> dict[str, int]:
    """Links between each node and the nearest output."""
    distance = dict.fromkeys(outputs, 0)
    edge = list(outputs)
    while edge:
        following: list[str] = []
        for node_id in edge:
            for source in needs[node_id]:
                if source not in distance:
                    distance[source] = distance[node_id] + 1
                    following.append(source)
        edge = following
    return distance
