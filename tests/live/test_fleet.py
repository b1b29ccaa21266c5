"""A real ComfyUI among four embedded engines: each gets what it can run."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.errors import InvalidGraph
from tests.fleet.conftest import Fleet, fleet_of
from tests.fleet.test_unlike_engines import RARE
from tests.support.graphs import picture, slow
from tests.support.real_comfyui import RealComfyUI

pytestmark = pytest.mark.live

TXT2IMG = json.loads(
    (Path(__file__).parents[1] / "data" / "workflows" / "txt2img_tiny_ksampler.json").read_text()
)
EMBEDDED = {"plain", "slow", "fast", "eu"}


def txt2img() -> dict[str, Any]:
    """Its classes and its model file are the real one's alone."""
    graph: dict[str, Any] = json.loads(json.dumps(TXT2IMG))
    graph["5"]["inputs"]["seed"] = random.getrandbits(32)
    return graph


async def test_each_gets_what_it_can_run(tmp_path: Path, real_comfyui: RealComfyUI) -> None:
    options: dict[str, dict[str, Any]] = {
        "plain": {"without": RARE},
        "comfyui": {"url": real_comfyui.url},
        "slow": {},
        "fast": {"speed": 8.0},
        "eu": {"labels": ["eu"], "speed": 2.0},
    }
    async with fleet_of(tmp_path, **options) as fleet:
        await fleet.connected()
        kinds: list[tuple[dict[str, Any], dict[str, Any], set[str]]] = [
            (txt2img(), {}, {"comfyui"}),
            (slow(steps=4, step_ms=50), {}, EMBEDDED - {"plain"}),
            (picture(), {}, {*options}),
            (picture(), {"engine": "ComfyUI"}, {"comfyui"}),
            (picture(), {"labels": ["EU"]}, {"eu"}),
            (picture(), {"not_on": sorted(EMBEDDED)}, {"comfyui"}),
        ]
        jobs = [
            ((await fleet("submit_workflow", workflow=graph, **wish)).workflow_id, able)
            for graph, wish, able in kinds * 3
        ]
        for job, able in jobs:
            ended = await fleet.end(job)
            assert (ended.status, ended.attempt) == ("completed", 1), ended.error
            assert ended.engine in able
        await says_which_engine_would_have_it(fleet)
        await waits_while_the_only_one_is_drained(fleet)


async def says_which_engine_would_have_it(fleet: Fleet) -> None:
    with pytest.raises(InvalidGraph, match="Engines that have it: comfyui"):
        await fleet("submit_workflow", workflow=txt2img(), labels=["eu"])
    with pytest.raises(InvalidGraph, match="Engines that have it: slow, fast, eu"):
        await fleet("submit_workflow", workflow=slow(), engine="comfyui")


async def waits_while_the_only_one_is_drained(fleet: Fleet) -> None:
    await fleet("drain_engine", engine="comfyui")
    job = await fleet("submit_workflow", workflow=txt2img())
    state = await fleet("workflow_status", workflow_id=job.workflow_id)
    assert "Engine comfyui is drained." in state.waiting_for.message
    assert "Engine plain lacks node class" in state.waiting_for.message
    await fleet("resume_engine", engine="comfyui")
    ended = await fleet.end(job.workflow_id)
    assert (ended.status, ended.engine) == ("completed", "comfyui")
