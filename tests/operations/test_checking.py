"""Converting and checking without a job."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from comfy_mcp.domain.errors import EngineUnreachable, InvalidInput
from comfy_mcp.domain.node_lists import NodeLists
from comfy_mcp.operations.checking import convert_workflow
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.shapes import ConvertResult, DryRunResult, NoParams
from tests.operations.conftest import Bench


async def test_a_conversion_needs_a_file(call_without_engine: Bench) -> None:
    with pytest.raises(InvalidInput, match="has no file"):
        await call_without_engine("convert_workflow")


async def one_file() -> AsyncIterator[bytes]:
    yield b'{"nodes": [{"id": 1, "type": "EmptyImage"}], "links": []}'


async def test_without_an_engine_a_recorded_node_list_is_advised(call_without_engine: Bench) -> None:
    bench = call_without_engine
    context = OperationContext(services=bench.services, caller=bench.caller, content=one_file())
    with pytest.raises(EngineUnreachable) as caught:
        await convert_workflow(context, NoParams())
    assert "--object-info FILE" in caught.value.next_step


class NoNodeLists:
    async def node_lists(self, *, max_age_s: float | None = None) -> NodeLists:
        return NodeLists({})


async def test_so_it_is_when_no_engine_has_answered_yet(call_without_engine: Bench) -> None:
    """Also measured: coverage does not see what follows an await through which an exception was thrown."""
    services = replace(call_without_engine.services, engines=NoNodeLists())  # type: ignore[arg-type]
    context = OperationContext(services=services, caller=call_without_engine.caller, content=one_file())
    with pytest.raises(EngineUnreachable, match="No engine answers"):
        await convert_workflow(context, NoParams())


async def test_a_dry_run_that_nothing_checks_is_refused(call_without_engine: Bench) -> None:
    workflow = {"1": {"class_type": "EmptyImage", "inputs": {}}}
    with pytest.raises(EngineUnreachable, match="can't be checked") as caught:
        await call_without_engine("submit_workflow", workflow=workflow, dry_run=True)
    assert "Start ComfyUI" in caught.value.next_step


def test_results_say_what_happened_in_one_line() -> None:
    graph = {"1": {"class_type": "EmptyImage", "inputs": {}}}
    dry = DryRunResult(
        status="not_queued", node_count=1, run_count=1, warnings=["x."], graph=graph, next_step="Submit it."
    )
    assert dry.text() == "It would run (1 node). Nothing was queued. Submit it. Warning: x."
    part = DryRunResult(status="not_queued", node_count=9, run_count=4, off_count=2, graph=graph)
    assert part.text() == "It would run (4 of 9 nodes; 2 more muted or bypassed). Nothing was queued. "
    assert ConvertResult(graph=graph).text() == "1 nodes in API format."
