"""A job goes to an engine that can run it, whichever was asked first."""

import asyncio
from typing import Any

import pytest

from comfy_mcp.domain.errors import InvalidGraph
from tests.fleet.conftest import Open
from tests.support.graphs import picture, slow

RARE = frozenset({"BridgeSlowImage"})


def with_model(model: str, *, step_ms: int = 10, load_ms: int = 0) -> dict[str, Any]:
    graph = slow(steps=1)
    seed = graph["1"]["inputs"]["seed"]
    graph["1"] = {
        "class_type": "BridgeModelImage",
        "inputs": {
            "model": model, "width": 64, "height": 64, "load_ms": load_ms, "step_ms": step_ms, "seed": seed,
        },
    }  # fmt: skip
    return graph


@pytest.mark.parametrize("rare_first", [True, False])
async def test_a_graph_runs_where_its_classes_are(open_fleet: Open, rare_first: bool) -> None:
    options: dict[str, Any] = {"plain": {"without": RARE}, "rare": {}}
    ordered = dict(sorted(options.items(), reverse=rare_first))
    async with open_fleet(**ordered) as fleet:
        for _ in range(5):
            async with asyncio.TaskGroup() as group:
                runs = [group.create_task(fleet.run(slow(steps=1, step_ms=1))) for _ in range(4)]
            ended = [run.result() for run in runs]
            assert {(each.status, each.engine) for each in ended} == {("completed", "rare")}
        assert (await fleet.run(picture())).status == "completed"


@pytest.mark.parametrize("first", ["a", "b"])
async def test_a_graph_runs_where_its_model_file_is(open_fleet: Open, first: str) -> None:
    names = [first, *({"a", "b"} - {first})]
    async with open_fleet(**{name: {"models": [f"{name}.safetensors"]} for name in names}) as fleet:
        for name in "abba":
            ended = await fleet.run(with_model(f"{name}.safetensors"))
            assert (ended.status, ended.engine) == ("completed", name)


async def test_a_graph_that_no_engine_can_run_is_refused_with_what_each_lacks(open_fleet: Open) -> None:
    async with open_fleet(a={"without": RARE}, b={"without": frozenset({"ImageInvert"})}) as fleet:
        graph = slow(steps=1)
        graph["3"] = {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}}
        graph["2"]["inputs"]["images"] = ["3", 0]
        with pytest.raises(InvalidGraph) as refused:
            await fleet("submit_workflow", workflow=graph)
        assert "Engine a: The workflow can't run: this engine lacks 1 class: BridgeSlowImage" in str(
            refused.value
        )
        assert "Engine b lacks node class ImageInvert." in str(refused.value)


async def test_two_jobs_run_on_two_engines_at_once(open_fleet: Open) -> None:
    async with open_fleet(a={}, b={}) as fleet:
        jobs = [await fleet("submit_workflow", workflow=slow(steps=20, step_ms=20)) for _ in range(2)]
        ended = [await fleet.end(job.workflow_id) for job in jobs]
        assert {each.engine for each in ended} == {"a", "b"}
