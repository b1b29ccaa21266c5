"""What is said of a workflow, and how much work that is."""

from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.graph_checks import check_graph
from comfy_mcp.domain.nearest import MAX_COMPARED, Hints
from comfy_mcp.domain.object_info import ObjectInfo
from tests.domain.test_budgets import INFO, judged, node


def test_a_list_of_options_is_not_looked_through_for_each_node() -> None:
    compared = 0

    class Name(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other) if isinstance(other, str) else False

        __hash__ = str.__hash__

    options = [Name(f"model{at}.safetensors") for at in range(2_000)]
    declared = {"required": {"name": [options]}}
    info = ObjectInfo.parse(
        {"Load": {"input": declared, "output": [], "output_node": True, "python_module": "nodes"}}
    )
    compared = 0
    raw = {str(at): node("Load", name="folder/model1999.safetensors") for at in range(100)}
    judged(raw, info)
    assert compared <= 2_000


def test_hints_end_when_a_report_has_compared_enough() -> None:
    hints = Hints()
    known = [f"model{at}" for at in range(MAX_COMPARED // 4)]
    assert [bool(hints.nearest("modell", known)) for _ in range(5)] == [True, True, True, True, False]


def test_a_problem_with_a_name_of_megabytes_is_told_in_short() -> None:
    raw = {
        "1" * 100_000: node("x" * 100_000, **{"y" * 100_000: 1}),
        "2": node("PreviewAny", source=["z" * 9_999, 0]),
    }
    error = check_graph(parse_graph(raw), INFO).error()
    assert error is not None
    told = [error.message, *(text for each in error.problems for text in (each.message, each.node_id or ""))]
    assert max(map(len, told)) < 5_000
