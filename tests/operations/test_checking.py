"""Converting and checking without a job."""

import pytest

from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.operations.shapes import ConvertResult, DryRunResult
from tests.operations.conftest import Bench


async def test_a_conversion_needs_a_file(call_without_engine: Bench) -> None:
    with pytest.raises(InvalidInput, match="has no file"):
        await call_without_engine("convert_workflow")


def test_results_say_what_happened_in_one_line() -> None:
    graph = {"1": {"class_type": "EmptyImage", "inputs": {}}}
    dry = DryRunResult(node_count=1, warnings=["x."], graph=graph, next_step="Submit it.")
    assert dry.text() == "It would run, 1 nodes. Nothing was queued. Submit it. Warning: x."
    assert DryRunResult(node_count=1, graph=graph).text() == "It would run, 1 nodes. Nothing was queued. "
    assert ConvertResult(graph=graph).text() == "1 nodes in API format."
