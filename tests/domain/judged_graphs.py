"""A good graph, changes of it, and the checks of it against a real engine's classes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfy_mcp.domain.errors import GraphProblem
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.graph_checks import GraphReport, check_graph
from comfy_mcp.domain.object_info import ObjectInfo

DATA = Path(__file__).parents[1] / "data"
EXCERPT: dict[str, Any] = json.loads((DATA / "object_info_excerpt.json").read_text(encoding="utf-8"))
INFO = ObjectInfo.parse(EXCERPT)

TXT2IMG: dict[str, Any] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "tiny-random-sd15.ckpt"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a lighthouse"}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurry"}},
    "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "5": {
        "class_type": "KSampler",
        "inputs": {
            "model": ["1", 0],
            "seed": 1,
            "steps": 4,
            "cfg": 7.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "positive": ["2", 0],
            "negative": ["3", 0],
            "latent_image": ["4", 0],
            "denoise": 1.0,
        },
    },
    "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
    "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "x"}},
}


def report(raw: Mapping[str, Any], info: ObjectInfo | None = INFO) -> GraphReport:
    return check_graph(parse_graph(raw), info)


def changed(node: str, name: str, value: object) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(TXT2IMG))
    copy[node]["inputs"][name] = value
    return copy


def the_problem(raw: Mapping[str, Any], info: ObjectInfo | None = INFO) -> GraphProblem:
    found = report(raw, info)
    assert not found.runnable
    (problem,) = found.problems
    assert found.problem_count == 1
    return problem


def custom(declaration: object, *, module: str = "custom_nodes.pack") -> ObjectInfo:
    return ObjectInfo.parse(
        {
            **EXCERPT,
            "Custom": {
                "input": {"required": {"x": declaration}},
                "output": ["IMAGE"],
                "output_node": True,
                "python_module": module,
            },
        }
    )
