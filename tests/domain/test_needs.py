"""What a workflow needs of a place."""

from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.needs import needs_of
from comfy_mcp.domain.object_info import ObjectInfo

GRAPH = parse_graph(
    {
        "1": {"class_type": "Loader", "inputs": {"name": "sd\\\\a.safetensors", "more": [{"lora": "b.pt"}]}},
        "2": {"class_type": "Save", "inputs": {"images": ["1", 0], "text": "v1.0 of it"}},
        "3": {"class_type": "Save", "inputs": {"images": ["1", 0]}},
    }
)


def test_classes_and_model_files_are_named_once_and_sorted() -> None:
    needs = needs_of(GRAPH)
    assert needs.node_classes == ("Loader", "Save")
    assert needs.models == ("b.pt", "sd//a.safetensors")
    assert len(needs.shape) == 32


def test_an_engine_fits_that_has_the_classes_or_has_told_none() -> None:
    needs = needs_of(GRAPH)
    assert needs.met_by(None)
    assert needs.met_by(ObjectInfo.parse({"Loader": {}, "Save": {}, "More": {}}))
    assert not needs.met_by(ObjectInfo.parse({"Loader": {}}))
