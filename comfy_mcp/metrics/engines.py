"""Counters from an engine's event stream, which only the driving process receives."""

from comfy_mcp.domain.events import EngineConnected, EngineEvent, NodesCached, NodeStarted
from comfy_mcp.domain.ids import NodeId, PromptId
from comfy_mcp.metrics.instruments import Instruments


class EngineMeter:
    """The counters of one engine. The nodes of one prompt are kept: an engine runs one at a time."""

    def __init__(self, instruments: Instruments, engine: str) -> None:
        self._reconnects = instruments.reconnects.labels(engine)
        self._cached = instruments.nodes.labels(engine, "cached")
        self._fresh = instruments.nodes.labels(engine, "fresh")
        self._connected_before = False
        self._prompt: PromptId | None = None
        self._nodes: set[NodeId] = set()

    def hear(self, event: EngineEvent) -> None:
        match event:
            case NodeStarted():
                self._node_started(event)
            case NodesCached():
                self._cached.inc(len(event.nodes))
            case EngineConnected():
                if self._connected_before:
                    self._reconnects.inc()
                self._connected_before = True
            case _:
                pass

    def _node_started(self, event: NodeStarted) -> None:
        """The nodes inside a subgraph are reported as one node, repeatedly: it counts once."""
        if event.prompt_id != self._prompt:
            self._prompt, self._nodes = event.prompt_id, set()
        if event.node not in self._nodes:
            self._nodes.add(event.node)
            self._fresh.inc()
