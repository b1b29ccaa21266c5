"""What an engine says over its stream: reconnects, and nodes that ran or were cached."""

from comfy_mcp.domain.events import (
    EngineConnected,
    EngineDisconnected,
    EngineEvent,
    NodesCached,
    NodeStarted,
    PromptEnded,
    PromptStarted,
    QueueRemaining,
)
from comfy_mcp.domain.ids import NodeId, PromptId
from comfy_mcp.metrics import Metrics
from comfy_mcp.places.comfyui.wire import Decoder
from tests.metrics.conftest import ENGINE
from tests.support.recordings import frames

ONE, TWO = PromptId("one"), PromptId("two")


def hear(metrics: Metrics, *events: EngineEvent) -> None:
    for event in events:
        metrics.hear_engine(ENGINE, event)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"engine": ENGINE, **labels})


def nodes(metrics: Metrics) -> tuple[float | None, float | None]:
    """(fresh, cached)"""
    name = "comfy_bridge_nodes_total"
    return value(metrics, name, source="fresh"), value(metrics, name, source="cached")


def test_the_first_connection_is_no_reconnect_and_each_later_one_is(metrics: Metrics) -> None:
    name = "comfy_bridge_engine_reconnects_total"
    hear(metrics, EngineDisconnected(reason="down"), EngineConnected(sid="a"))
    assert value(metrics, name) == 0
    hear(metrics, EngineDisconnected(reason="lost"), EngineConnected(sid="b"), EngineConnected(sid="c"))
    assert value(metrics, name) == 2


def test_cached_and_fresh_nodes_are_told_apart(metrics: Metrics) -> None:
    hear(
        metrics,
        PromptStarted(prompt_id=ONE),
        NodesCached(prompt_id=ONE, nodes=(NodeId("1"), NodeId("2"))),
        NodeStarted(prompt_id=ONE, node=NodeId("3")),
        QueueRemaining(count=1),
        PromptEnded(prompt_id=ONE),
    )
    assert nodes(metrics) == (1, 2)


def test_a_node_that_is_shown_again_and_again_counts_once_a_prompt(metrics: Metrics) -> None:
    for prompt in (ONE, TWO):
        for node in ("1", "2", "1", "2"):
            hear(metrics, NodeStarted(prompt_id=prompt, node=NodeId(node)))
    assert nodes(metrics) == (4, 0)


def test_a_run_and_its_fully_cached_rerun_as_comfyui_told_them(metrics: Metrics) -> None:
    decoder = Decoder()
    for frame in frames("03"):
        hear(metrics, *(decoder.text(frame) if isinstance(frame, str) else decoder.binary(frame)))
    # Nine nodes three times: all new, all cached, and with one changed.
    assert nodes(metrics) == (10, 17)
