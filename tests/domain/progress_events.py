"""Graphs, their progress, and the events of a run: made here, or recorded from a real ComfyUI."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from comfy_mcp.domain.events import (
    EngineEvent,
    NodeExecuted,
    NodeProgressed,
    NodesCached,
    NodeStarted,
    PromptEnded,
)
from comfy_mcp.domain.graph import Graph, parse_graph
from comfy_mcp.domain.graph_checks import check_graph
from comfy_mcp.domain.ids import NodeId, PromptId
from comfy_mcp.domain.progress import Progress
from comfy_mcp.places.comfyui.wire import Decoder

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"
P = PromptId("p")


def start(node: str) -> NodeStarted:
    return NodeStarted(prompt_id=P, node=NodeId(node))


def step(node: str, value: float, maximum: float = 4) -> NodeProgressed:
    return NodeProgressed(prompt_id=P, node=NodeId(node), value=value, maximum=maximum)


def executed(node: str) -> NodeExecuted:
    return NodeExecuted(prompt_id=P, node=NodeId(node))


def cached(*nodes: str) -> NodesCached:
    return NodesCached(prompt_id=P, nodes=tuple(NodeId(node) for node in nodes))


def chain(*classes: str) -> Graph:
    """Nodes "1", "2", … where each needs the one before."""
    return parse_graph(
        {
            str(number): {
                "class_type": name,
                "inputs": {"x": [str(number - 1), 0]} if number > 1 else {},
                "_meta": {"title": f"the {name}"},
            }
            for number, name in enumerate(classes, start=1)
        }
    )


def of(graph: Graph, durations: dict[str, float] | None = None, started_at: int = 0) -> Progress:
    return Progress(graph, check_graph(graph, None).needed, durations or {}, started_at=started_at)


def recorded(name: str) -> Iterator[tuple[Graph, list[tuple[int, EngineEvent]]]]:
    """Each run of a recording: the graph that was sent and what /ws said of it, with milliseconds."""
    lines = (RECORDINGS / name).read_text(encoding="utf-8").splitlines()
    messages: list[dict[str, Any]] = [json.loads(line) for line in lines]
    graphs = [
        parse_graph(message["json"]["prompt"])
        for message in messages
        if message["ch"] == "http" and message["dir"] == "send" and "json" in message
    ]
    decoder = Decoder()
    events: list[tuple[int, EngineEvent]] = []
    for message in messages:
        if message["ch"].startswith("ws") and message["dir"] == "recv" and "msg" in message:
            at = round(message["t"] * 1000)
            events.extend((at, event) for event in decoder.text(json.dumps(message["msg"])))
            if events and isinstance(events[-1][1], PromptEnded):
                yield graphs.pop(0), events
                events = []
