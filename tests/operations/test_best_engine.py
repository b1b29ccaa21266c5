"""Which engine judges a workflow."""

from collections.abc import AsyncIterator

import pytest

from comfy_mcp.checking.checker import Checker
from comfy_mcp.domain.errors import InvalidGraph
from comfy_mcp.domain.ids import ClientId, EngineId
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.ui_texts import Moment
from comfy_mcp.operations.best_engine import best_engine

A, B, C = EngineId("a"), EngineId("b"), EngineId("c")
SAVE = {"input": {"required": {"text": ["STRING", {}]}}, "output_node": True, "python_module": "nodes"}
GRAPH = {"1": {"class_type": "Save", "inputs": {"text": "x"}}}
HAS, LACKS = ObjectInfo.parse({"Save": SAVE}), ObjectInfo.parse({"Other": SAVE})


@pytest.fixture
async def checker() -> AsyncIterator[Checker]:
    made = Checker(lambda: Moment(year=2026, month=1, day=1, hour=0, minute=0, second=0, seed=1))
    yield made
    await made.aclose()


async def test_the_first_that_misses_nothing_else_the_one_that_misses_least(checker: Checker) -> None:
    me = ClientId("me")
    engine, judged = await best_engine(checker, GRAPH, b"{}", {A: LACKS, B: HAS, C: HAS}, client=me)
    assert (engine, judged.report.runnable) == (B, True)
    engine, _ = await best_engine(checker, GRAPH, b"{}", {A: LACKS, B: HAS}, client=me, able=[A])
    assert engine == A
    two = {**GRAPH, "2": {"class_type": "Rare", "inputs": {}}}
    engine, _ = await best_engine(checker, two, b"{}", {A: LACKS, B: HAS}, client=me)
    assert engine == B
    engine, judged = await best_engine(checker, GRAPH, b"{}", {}, client=me)
    assert (engine, judged.report.runnable) == (None, True)


async def test_what_no_engine_can_read_is_refused(checker: Checker) -> None:
    with pytest.raises(InvalidGraph):
        await best_engine(checker, [], b"[]", {A: HAS, B: LACKS}, client=ClientId("me"))
