"""The verdict on a prompt; its words are compared with ComfyUI's in tests/contract."""

from pathlib import Path

from comfy_mcp.embedded.directories import Directories
from comfy_mcp.embedded.nodes import NODE_TYPES
from comfy_mcp.embedded.validation import MOST_BLAMED, validate


def test_a_wrong_node_is_blamed_for_each_output_but_not_without_end(tmp_path: Path) -> None:
    wrong = {str(at): {"class_type": "PreviewAny", "inputs": {"source": ["0", 0]}} for at in range(1, 5_000)}
    few = {"0": {"class_type": "PreviewAny", "inputs": {}}, **dict(list(wrong.items())[:3])}
    found = validate(few, NODE_TYPES, Directories(tmp_path)).node_errors
    assert [each["dependent_outputs"] for each in found.values()] == [
        ["0", "1", "2", "3"],
        ["1", "2", "3"],
        ["2", "3"],
        ["3"],
    ]
    many = validate({"0": few["0"], **wrong}, NODE_TYPES, Directories(tmp_path))
    assert many.error is not None
    assert sum(len(each["dependent_outputs"]) for each in many.node_errors.values()) == MOST_BLAMED
