"""What messages call a node: by its class, and where it stands in which subgraph."""

from typing import Any

import pytest

from comfy_mcp.domain.errors import InvalidGraph
from comfy_mcp.domain.ui_format import UiNode
from comfy_mcp.domain.ui_labels import Labels
from tests.domain.ui_files import converted, image

LOST = {"inputs": [{"name": "width", "type": "INT", "link": 9}]}
UUID = "9fe6c1d2-7b1a-4c8e-9d55-0a1b2c3d4e5f"


def hosting(host: dict[str, Any], *inside: dict[str, Any]) -> dict[str, Any]:
    subgraph = {"id": UUID, "name": "Upscale", "nodes": list(inside), "links": []}
    subgraph["inputs"] = [{"name": "width", "type": "INT"}]
    return {"nodes": [{"id": 7, "type": UUID, **host}], "links": [], "definitions": {"subgraphs": [subgraph]}}


@pytest.mark.parametrize(
    ("host", "title"), [({}, "Upscale"), ({"title": "Twice as large"}, "Twice as large")]
)
def test_a_node_of_a_subgraph_is_named_with_the_title(host: dict[str, Any], title: str) -> None:
    _, warnings = converted(hosting({**host, **LOST}, image(12, 8, 8, **LOST)))
    assert {text.partition(": ")[0] for text in warnings} == {
        f"Node 7 (subgraph {title!r}), input 'width'",
        f"Node 7:12 (EmptyImage in subgraph {title!r}), input 'width'",
    }


def test_a_subgraph_that_the_file_does_not_define_is_called_one() -> None:
    lost = {"id": 7, "type": UUID, "title": "Upscale"}
    graph, warnings = converted({"nodes": [image(1, 8, 8), lost], "links": []})
    assert list(graph) == ["1"]
    (warning,) = warnings
    assert warning.startswith("Node 7 (subgraph 'Upscale'): the file has no definition of it; it is left out")
    bare = UiNode(id="7", type=UUID, title=None, mode=0, inputs=(), output_types=(), values=None)
    assert Labels({"definitions": 7}).place("7", bare) == f"Node 7 (subgraph {UUID!r})"


def test_a_subgraph_that_contains_itself_is_named_by_its_own_node() -> None:
    for inside in (7, 12):  # a second 7 gets another id
        with pytest.raises(InvalidGraph, match="Node 7 is a subgraph that contains itself") as caught:
            converted(hosting({}, {"id": inside, "type": UUID}))
        assert caught.value.problems[0].node_id == "7"
