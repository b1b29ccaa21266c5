"""Graphs that are kept between their submit and their claim."""

import pytest

from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.graph_checks import check_graph
from comfy_mcp.domain.ids import JobId
from comfy_mcp.driving import checked
from comfy_mcp.driving.checked import Checked, CheckedGraphs

A, B, C = JobId("a"), JobId("b"), JobId("c")


def of_nodes(count: int) -> Checked:
    graph = parse_graph({str(node): {"class_type": "A", "inputs": {}} for node in range(count)})
    return Checked(graph=graph, report=check_graph(graph, None))


def test_each_is_taken_once() -> None:
    kept, one = CheckedGraphs(), of_nodes(1)
    kept.put(A, one)
    assert kept.take(A) is one
    assert kept.take(A) is None


def test_the_oldest_go_when_there_are_too_many_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "MAX_NODES", 5)
    kept, of_two = CheckedGraphs(), of_nodes(2)
    for job_id in (A, B, C):
        kept.put(job_id, of_two)
    assert (kept.take(A), kept.take(B), kept.take(C)) == (None, of_two, of_two)
    kept.put(A, of_nodes(6))
    assert kept.take(A) is None
    kept.put(B, of_two)
    assert kept.take(B) is of_two


def test_one_that_is_put_again_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "MAX_NODES", 5)
    kept, of_two = CheckedGraphs(), of_nodes(2)
    for job_id in (A, A, A, B):
        kept.put(job_id, of_two)
    assert (kept.take(A), kept.take(B)) == (of_two, of_two)
