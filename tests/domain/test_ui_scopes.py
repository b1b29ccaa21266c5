"""The budget of a conversion: what is refused, and what is left to somebody else."""

from collections.abc import Callable

import pytest

from comfy_mcp.domain import ui_scopes
from comfy_mcp.domain.api_format import api_format
from comfy_mcp.domain.errors import InvalidGraph
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.ui_scopes import MAX_INPUTS, MAX_NODES, MAX_STEPS, MAX_TEXT, Budget, OverBudget

WORK: dict[str, Callable[[Budget], None]] = {
    "nodes": lambda budget: budget.open(MAX_NODES // 2, 0),
    "inputs": lambda budget: budget.open(0, MAX_INPUTS // 2),
    "steps": lambda budget: budget.spend(MAX_STEPS // 2),
    "characters": lambda budget: budget.write("x" * (MAX_TEXT // 2)),
}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_beyond_a_whole_budget_a_workflow_is_refused_and_beyond_a_share_left_alone(
    work: Callable[[Budget], None],
) -> None:
    work(Budget())
    with pytest.raises(OverBudget):
        work(Budget(share=0.25))


@pytest.mark.parametrize("kind", ["steps", "characters"])
def test_what_is_counted_adds_up(kind: str) -> None:
    budget = Budget()
    WORK[kind](budget)
    WORK[kind](budget)
    with pytest.raises(InvalidGraph):
        WORK[kind](budget)


def test_a_value_that_comes_out_again_counts_again_and_is_measured_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value = {"a": ["x" * (MAX_TEXT // 3), 1, None], "b": {"c": True}}
    budget = Budget()
    budget.write(value)
    monkeypatch.setattr(ui_scopes, "_length", lambda _: pytest.fail("measured again"))
    budget.write(value)
    with pytest.raises(InvalidGraph, match="characters"):
        budget.write(value)


def test_ids_of_subgraphs_in_subgraphs_have_a_longest() -> None:
    inside = {"id": "s", "nodes": [{"id": 1, "type": "A"}]}
    raw = {"nodes": [{"id": "i" * 3_000, "type": "s"}], "definitions": {"subgraphs": [inside]}}
    with pytest.raises(InvalidGraph, match="ids of the subgraphs"):
        api_format(raw, ObjectInfo.parse({"A": {"input": {}, "output": []}}))
