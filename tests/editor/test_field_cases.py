"""Small files in the form that people save, each with what the editor sends (frontend 1.32.9 with the packs'
own scripts; F217 is 1.58.1, F218 by hand). Classes of packs are declared here as far as a file needs them.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.api_format import api_format
from comfy_mcp.domain.errors import InvalidGraph
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.graph_checks import check_graph
from comfy_mcp.domain.missing import model_links
from comfy_mcp.domain.object_info import ObjectInfo
from tests.editor.recorded import differences, load

CASES = Path(__file__).parents[1] / "data" / "field_cases"
WITH_ORACLE = sorted(path.parent.name for path in CASES.glob("*/oracle.json"))
MISSING = "F204-what-is-missing"

_TEXT = ["STRING", {"default": "", "multiline": False}]
PACKS: dict[str, Any] = {
    "VHS_VideoCombine": {
        "input": {
            "required": {
                "images": ["IMAGE"],
                "frame_rate": ["FLOAT", {"default": 8}],
                "loop_count": ["INT", {"default": 0}],
                "filename_prefix": ["STRING", {"default": "AnimateDiff"}],
                "format": [["image/gif", "video/h264-mp4"]],
                "pingpong": ["BOOLEAN", {"default": False}],
                "save_output": ["BOOLEAN", {"default": True}],
            },
            "optional": {"audio": ["AUDIO"], "meta_batch": ["VHS_BatchManager"], "vae": ["VAE"]},
        },
        "output": ["VHS_FILENAMES"],
        "output_node": True,
    },
    "CR Text Replace": {
        "input": {
            "required": {"text": ["STRING", {"forceInput": True}]},
            "optional": dict.fromkeys(("find1", "replace1", "find2", "replace2", "find3", "replace3"), _TEXT),
        },
        "output": ["STRING"],
    },
}


def nodes() -> ObjectInfo:
    return ObjectInfo.parse(load("object_info_0.33.0.json.gz") | PACKS)


def case(name: str) -> Any:
    return json.loads((CASES / name / "workflow.json").read_text())


@pytest.mark.parametrize("name", [name for name in WITH_ORACLE if name != MISSING])
def test_a_file_becomes_what_the_editor_sends(name: str) -> None:
    graph, warnings = api_format(case(name), nodes())
    oracle = json.loads((CASES / name / "oracle.json").read_text())
    assert isinstance(graph, dict)
    assert list(differences(graph, oracle, nodes())) == []
    assert warnings == ()


def test_what_is_missing_is_named_once_and_whole() -> None:
    raw, info = case(MISSING), nodes()
    graph, _ = api_format(raw, info)
    report = check_graph(parse_graph(graph), info, model_links(raw))
    assert [(each.name, each.pack) for each in report.missing.classes] == [
        ("ACN_AdvancedControlNetApply", "comfyui-advanced-controlnet"),
        ("IPAdapterAdvanced", "comfyui_ipadapter_plus"),
        ("FaceDetailer", "ltdrdata/ComfyUI-Impact-Pack"),
    ]
    error = report.error()
    assert isinstance(error, InvalidGraph)
    assert all(each.name in error.message for each in report.missing.classes)
    assert (
        "does not list 1 model file: flux1-dev.safetensors (node 10, input unet_name; "
        "folder diffusion_models; from https://models.example/flux1-dev.safetensors)."
    ) in error.message


def test_the_graph_of_a_runpod_body_runs() -> None:
    graph, _ = api_format(case("F212-runpod-body"), nodes())
    assert check_graph(parse_graph(graph), nodes()).runnable
