"""A workflow is converted, described and checked by the engine that fits; searches go over all."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.node_lists import NodeLists
from comfy_mcp.driving import engines
from comfy_mcp.places.comfyui import node_list
from tests.fleet.conftest import Open
from tests.fleet.test_unlike_engines import RARE, with_model
from tests.support.fake_engine import FakeEngine
from tests.support.graphs import picture, slow

PLAIN_FIRST: dict[str, Any] = {"plain": {"without": RARE}, "rare": {}}


def in_ui_format() -> dict[str, Any]:
    """`slow()` as the editor saves it."""
    slow_node = {"id": 1, "type": "BridgeSlowImage", "inputs": [], "widgets_values": [64, 64, 2, 1, 0]}
    slow_node["outputs"] = [{"name": "IMAGE", "type": "IMAGE", "links": [1]}]
    save = {"id": 2, "type": "SaveImage", "widgets_values": ["x"], "outputs": []}
    save["inputs"] = [{"name": "images", "type": "IMAGE", "link": 1}]
    return {"nodes": [slow_node, save], "links": [[1, 1, 0, 2, 0, "IMAGE"]], "version": 0.4}


async def test_a_workflow_is_converted_by_the_engine_that_has_its_classes(open_fleet: Open) -> None:
    async with open_fleet(**PLAIN_FIRST) as fleet:
        given = json.dumps(in_ui_format()).encode()
        converted = await fleet("convert_workflow", content=given)
        assert converted.graph["1"]["class_type"] == "BridgeSlowImage"
        assert converted.graph["1"]["inputs"]["width"] == 64
        submitted = await fleet("submit_workflow", workflow=in_ui_format())
        assert (await fleet.end(submitted.workflow_id)).engine == "rare"


async def test_classes_and_choices_of_every_engine_are_found(open_fleet: Open) -> None:
    async with open_fleet(
        a={"without": RARE, "models": ["a.safetensors"]}, b={"models": ["b.safetensors"]}
    ) as fleet:
        assert (await fleet("find_nodes", name="BridgeSlowImage")).total == 1
        loader = await fleet("find_nodes", name="BridgeModelImage.model")
        assert loader.nodes[0].inputs[0].choices == ["a.safetensors", "b.safetensors"]


async def test_a_job_s_workflow_is_described_and_given_inputs_by_the_engine_that_fits(
    open_fleet: Open,
) -> None:
    async with open_fleet(**PLAIN_FIRST) as fleet:
        job = await fleet.run(slow(steps=1, step_ms=1))
        name = f"job:{job.workflow_id}"
        described = await fleet("describe_workflow", name=name)
        assert described.workflow.runnable
        assert {"seed", "width"} & {each.name for each in described.parameters}
        assert (await fleet.run(name, inputs={"seed": 7})).engine == "rare"  # type: ignore[arg-type]


async def test_a_matrix_may_name_what_different_engines_have(open_fleet: Open) -> None:
    async with open_fleet(a={"models": ["a.safetensors"]}, b={"models": ["b.safetensors"]}) as fleet:
        batch = await fleet(
            "submit_workflow",
            workflow=with_model("a.safetensors"),
            matrix={"model": ["a.safetensors", "b.safetensors"]},
        )
        await fleet.end(batch.workflow_id)
        engines = {(await fleet("workflow_status", workflow_id=job)).engine for job in batch.workflow_ids}
        assert engines == {"a", "b"}


def reading(name: str) -> dict[str, Any]:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "read"}},
    }


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154"
    "789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)


@pytest.mark.parametrize("engine", ["a", "b"])
async def test_an_upload_goes_to_the_engine_that_runs_the_job(open_fleet: Open, engine: str) -> None:
    async with open_fleet(a={}, b={}) as fleet:
        uploaded = await fleet("upload_input", filename="photo.png", content=PNG)
        name = f"{uploaded.subfolder}/{uploaded.name}"
        assert (await fleet.run(reading(name), engine=engine)).status == "completed"


@pytest.mark.parametrize("listed", [True, False])
async def test_a_file_in_one_engine_s_folder_is_read_on_any(
    open_fleet: Open, tmp_path: Path, listed: bool
) -> None:
    async with open_fleet(a={}, b={}) as fleet:
        if not listed:
            await fleet.run(picture())  # the node lists are read before the file is there
        (tmp_path / "a" / "input" / "photo.png").write_bytes(PNG)
        for engine in ("b", "a"):
            ended = await fleet.run(reading("photo.png"), engine=engine)
            assert (ended.status, ended.engine) == ("completed", engine), ended.error


async def test_no_graph_is_refused_before_every_engine_has_given_a_list(
    open_fleet: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ComfyUI with many node packs needs some seconds for its first."""
    monkeypatch.setattr(engines, "OTHERS_S", 0.0)
    monkeypatch.setattr(node_list, "FIRST_LIST_S", 60.0)
    go_on = asyncio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        await go_on.wait()
        return web.json_response({"Rare": {"input": {"required": {}}, "output_node": True}})

    async with FakeEngine() as late, open_fleet(a={}, late={"url": late.url}) as fleet:
        late.answers["GET /object_info"] = slow
        await fleet.services.engines.pool[EngineId("a")].nodes()
        look = fleet.services.engines.node_lists

        async def looked(*, max_age_s: float | None = None) -> NodeLists:
            if max_age_s is not None:
                go_on.set()
            return await look(max_age_s=max_age_s)

        monkeypatch.setattr(fleet.services.engines, "node_lists", looked)
        graph = {"1": {"class_type": "Rare", "inputs": {}}}
        checked = await fleet("submit_workflow", workflow=graph, dry_run=True)
        assert checked.node_count == 1
        assert go_on.is_set()
