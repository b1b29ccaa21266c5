"""Workflows are found by words, judged by what the engine has, and described."""

import json
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.errors import NotFound
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.domain.needs import needs_of
from comfy_mcp.domain.workflow_entries import WorkflowEntry, WorkflowOrigin
from comfy_mcp.embedded import EmbeddedEngine
from comfy_mcp.operations import finder, finding
from comfy_mcp.operations.context import Caller
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from tests.operations.conftest import CALLER, Bench
from tests.support.fake_engine import FakeEngine, reply
from tests.support.graphs import picture, text

LOADER = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "brought.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}
LACKING = {
    "1": {"class_type": "NoSuchNode", "inputs": {}, "_meta": {"cnr_id": "some-pack"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}


def save(folder: Path, **workflows: Any) -> None:
    target = folder / "engine" / "user" / "default" / "workflows"
    target.mkdir(parents=True, exist_ok=True)
    for name, workflow in workflows.items():
        (target / f"{name}.json").write_text(workflow if isinstance(workflow, str) else json.dumps(workflow))


async def test_what_runs_here_comes_first_and_the_rest_says_what_it_lacks(
    tmp_path: Path, call: Bench
) -> None:
    save(tmp_path, fox_lacking=LACKING, fox_loader=LOADER, fox_broken="{")
    found = await call("find_workflow", query="fox")
    by_name = {each.name: each for each in found.workflows}
    assert found.workflows[0].name == "fox_loader"
    assert by_name["fox_loader"].inputs[0] == "image (image, needed)"
    assert by_name["fox_lacking"].missing.text() == "lacks NoSuchNode (pack some-pack)"
    assert by_name["fox_broken"].runnable is False
    assert by_name["fox_broken"].missing.other
    assert "fox_loader [saved]" in found.text()
    assert "Can't run here (lacks NoSuchNode (pack some-pack))" in found.text()


async def test_without_words_there_is_everything_and_jobs_are_there_too(tmp_path: Path, call: Bench) -> None:
    save(tmp_path, poster=picture())
    job = await call("submit_workflow", workflow=text("words of a poem"), name="A poem")
    await call("wait_for_workflow", workflow_id=job.workflow_id)
    found = await call("find_workflow")
    assert [(each.name, each.origin) for each in found.workflows] == [
        ("poster", "saved"),
        ("upscale", "starter"),
        (f"job:{job.workflow_id}", "job"),
    ]
    assert f"job:{job.workflow_id} (A poem) [job]" in found.text()
    assert found.next_step == 'Call submit_workflow(workflow="poster", inputs={"width": …}).'
    assert [each.name for each in (await call("find_workflow", kind="video")).workflows] == ["poster"]
    for words, is_found in (("poem", True), ("poster", False)):
        by_name = await call("find_workflow", query=words)
        assert (f"job:{job.workflow_id}" in {each.name for each in by_name.workflows}) is is_found


async def test_a_hit_says_what_such_workflows_needed_of_memory(
    tmp_path: Path, call: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def need(_store: object, shape: str) -> int | None:
        return 20 * 2**30 if shape == needs_of(parse_graph(picture())).shape else None

    monkeypatch.setattr(type(call.services.store), "vram_need", need)
    save(tmp_path, poster=picture())
    measured, other = (await call("find_workflow")).workflows
    assert (measured.name, measured.peak_vram_bytes, other.peak_vram_bytes) == ("poster", 20 * 2**30, None)
    assert measured.text().endswith("Needed 20.0 GiB of VRAM before.")
    assert (await call("describe_workflow", name="poster")).workflow.peak_vram_bytes == 20 * 2**30


async def test_words_that_nothing_has_show_what_there_is(call: Bench) -> None:
    found = await call("find_workflow", query="zebra crossing")
    assert found.workflows
    assert found.warnings == ["Nothing fits 'zebra crossing'; these exist."]


async def test_without_an_engine_and_without_workflows_there_is_nothing(call_without_engine: Bench) -> None:
    found = await call_without_engine("find_workflow", query="fox")
    assert found.workflows == []
    assert found.text().endswith("\nNo workflow.")
    assert found.text().startswith("No engine answers: what runs here is not known")
    assert "No engine answers" in found.warnings[-1]


async def test_without_an_engine_nothing_is_said_to_run_here(tmp_path: Path) -> None:
    (tmp_path / "poster.json").write_text(json.dumps(picture()))
    settings = load_settings(
        engine_urls="http://127.0.0.1:9",
        state_dir=tmp_path / "state",
        workflows=tmp_path,
        connect_timeout_s=2.0,
    )
    async with open_runtime(settings) as services:
        call = Bench(services, CALLER)
        found = await call("find_workflow")
        assert [(each.name, each.runnable) for each in found.workflows] == [("poster", None)]
        assert found.text().startswith("No engine answers")
        assert found.next_step is None
        described = await call("describe_workflow", name="poster")
        assert (described.workflow.runnable, described.next_step) == (None, None)
        assert "No engine answers" in described.warnings[0]


async def test_of_two_with_one_name_the_user_s_is_meant(tmp_path: Path, call: Bench) -> None:
    save(tmp_path, upscale=picture())
    names = [each.name for each in (await call("find_workflow")).workflows]
    assert names == ["upscale", "starter:upscale"]
    assert (await call("describe_workflow", name="upscale")).workflow.origin == "saved"
    described = await call("describe_workflow", name="starter:upscale")
    assert described.workflow.origin == "starter"
    assert [each.name for each in described.parameters][:2] == ["image", "scale"]


async def test_a_description_has_types_ranges_choices_and_values(tmp_path: Path, call: Bench) -> None:
    save(tmp_path, poster=picture(), scaled=LOADER)
    described = await call("describe_workflow", name="Poster.json")
    width = described.parameters[0]
    assert (width.name, width.type, width.value, width.minimum) == ("width", "integer", 64, 1)
    assert width.nodes == ["1.width"]
    assert "width (Blank): integer 1 to 16384 = 64" in described.text()
    needed = (await call("describe_workflow", name="scaled")).text()
    assert "image: image" in needed
    assert ", needed" in needed


async def test_the_workflow_of_a_job_is_described_by_the_beginning_of_its_id(call: Bench) -> None:
    job = await call("submit_workflow", workflow=picture(), name="Blank")
    described = await call("describe_workflow", name=f"job:{job.workflow_id[:8]}")
    assert described.workflow.label == "Blank"
    assert described.workflow.runnable
    with pytest.raises(NotFound):
        await call("describe_workflow", name="job:")


async def test_a_file_that_is_no_workflow_is_described_as_one_that_can_t_run(
    tmp_path: Path, call: Bench
) -> None:
    save(tmp_path, empty={})
    described = await call("describe_workflow", name="empty")
    assert described.workflow.runnable is False
    assert described.workflow.missing.other == "The workflow has no nodes."
    assert described.next_step is None


async def test_a_bounded_number_of_verdicts_is_kept(
    tmp_path: Path, call: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finder, "KEPT", 1)
    info = await call.services.engines.node_lists()
    for name in ("a", "b", "b"):
        entry = WorkflowEntry(name=name, origin=WorkflowOrigin.TEMPLATE, title=name)
        assert (await call.services.finder.verdict(entry, picture(), info)).runnable
    assert call.services.finder.known_verdict(entry, info) is not None
    first = WorkflowEntry(name="a", origin=WorkflowOrigin.TEMPLATE, title="a")
    assert call.services.finder.known_verdict(first, info) is None


async def test_a_job_that_is_forgotten_meanwhile_is_not_found(
    call: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await call("submit_workflow", workflow=picture())

    async def gone(_: object) -> None:
        return None

    monkeypatch.setattr(call.services.store, "get_graph", gone)
    with pytest.raises(NotFound):
        await call("describe_workflow", name=f"job:{job.workflow_id}")


async def test_clients_that_are_kept_apart_see_no_workflows_of_people(
    tmp_path: Path, engine: EmbeddedEngine
) -> None:
    save(tmp_path, poster=picture())
    settings = load_settings(engine_urls=engine.url, state_dir=tmp_path / "state", isolate_clients=True)
    async with open_runtime(settings) as services:
        alone = Caller(client=ClientId("a"), surface="test", rights=CALLER.rights - {_ADMIN})
        listed = await Bench(services, alone)("find_workflow")
        assert [each.name for each in listed.workflows] == ["upscale"]
        assert len((await Bench(services, CALLER)("find_workflow")).workflows) == 2


async def test_templates_of_the_engine_are_judged_within_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "word " * 60
    listed = [
        {"name": f"t{at}", "title": f"Fox {at}", "description": words, "mediaType": "image", "usage": at}
        for at in range(30)
    ]
    async with FakeEngine() as engine:
        engine.answers["GET /templates/index.json"] = reply([{"templates": listed}])
        engine.answers["GET /templates/t3.json"] = reply(LACKING)
        engine.answers["GET /object_info"] = reply({"SaveImage": {"input": {}, "output_node": True}})
        settings = load_settings(engine_urls=engine.url, state_dir=tmp_path / "state", connect_timeout_s=2.0)
        async with open_runtime(settings) as services:
            call = Bench(services, CALLER)
            found = await call("find_workflow", query="fox", limit=30)
            assert found.total == 30
            states = {each.name: each.runnable for each in found.workflows}
            assert states["t3"] is False
            assert list(states.values()).count(None) == 30 - finding.JUDGED
            assert all(len(each.about) == finding._ABOUT for each in found.workflows)
            again = await call("find_workflow", query="fox", limit=3)
            assert len(again.workflows) == 3
            described = await call("describe_workflow", name="t3")
            assert described.workflow.missing.classes[0].name == "NoSuchNode"
            with pytest.raises(NotFound, match="has gone"):
                await call("describe_workflow", name="t5")
            monkeypatch.setattr(finding, "JUDGE_S", 0.0)
            services.finder._verdicts.clear()
            late = await call("find_workflow", query="fox", limit=3)
            assert [each.runnable for each in late.workflows] == [None] * 3


async def test_templates_of_custom_nodes_are_found_and_run_by_name(tmp_path: Path) -> None:
    async with FakeEngine() as engine:
        engine.answers["GET /workflow_templates"] = reply({"Fox-Pack": ["red fox"], "Gone": ["old fox"]})
        engine.answers["GET /api/workflow_templates/Fox-Pack/red fox.json"] = reply(LACKING)
        engine.answers["GET /object_info"] = reply({"SaveImage": {"input": {}, "output_node": True}})
        settings = load_settings(engine_urls=engine.url, state_dir=tmp_path / "state", connect_timeout_s=2.0)
        async with open_runtime(settings) as services:
            call = Bench(services, CALLER)
            found = await call("find_workflow", query="red fox of the fox pack")
            assert [each.name for each in found.workflows][:1] == ["Fox-Pack/red fox"]
            assert found.workflows[0].about == "Example of the custom nodes Fox-Pack"
            described = await call("describe_workflow", name="fox-pack/red fox")
            assert described.workflow.missing.classes[0].name == "NoSuchNode"
            with pytest.raises(NotFound, match="has gone"):
                await call("describe_workflow", name="Gone/old fox")


_ADMIN = next(right for right in CALLER.rights if right.value == "admin")
