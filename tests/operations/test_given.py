"""The workflow of a submit: inline, by name, of a job, by path, as text; with inputs set."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from comfy_mcp.domain.errors import ErrorCode, InvalidGraph, InvalidInput, NotFound
from comfy_mcp.domain.ids import ClientId, EngineId
from comfy_mcp.domain.node_lists import NodeLists
from comfy_mcp.operations.context import Caller
from tests.operations.conftest import Bench
from tests.operations.test_finding import save
from tests.support.graphs import picture


def ui_file() -> dict[str, Any]:
    """EmptyImage → SaveImage, as the editor saves it."""
    return {
        "nodes": [
            {
                "id": 1, "type": "EmptyImage", "mode": 0, "inputs": [], "properties": {},
                "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
                "widgets_values": [64, 32, 1, 0],
            },
            {
                "id": 2, "type": "SaveImage", "mode": 0, "outputs": [], "properties": {},
                "inputs": [{"name": "images", "type": "IMAGE", "link": 1}], "widgets_values": ["ui"],
            },
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"]],
        "version": 0.4,
    }  # fmt: skip


async def test_no_workflow_at_all_says_how_to_find_one(call: Bench) -> None:
    with pytest.raises(InvalidInput, match="No workflow was given") as caught:
        await call("submit_workflow")
    assert "find_workflow(" in caught.value.next_step
    with pytest.raises(InvalidInput, match="not both"):
        await call("submit_workflow", workflow=picture(), path="x.json")


async def test_a_nul_in_a_path_is_named(call: Bench) -> None:
    with pytest.raises(InvalidInput, match="NUL character"):
        await call("submit_workflow", workflow="./a\0b.json")
    with pytest.raises(InvalidInput, match="NUL character"):
        await call("submit_workflow", path="a\0b.json")


@pytest.mark.parametrize("argument", ["workflow", "path"])
@pytest.mark.parametrize("url", ["https://a.example/w.json", "HTTP://a.example/picture.png?x=1"])
async def test_a_workflow_is_not_fetched(call: Bench, argument: str, url: str) -> None:
    given: dict[str, Any] = {argument: url}
    with pytest.raises(InvalidInput, match="not fetched from a URL") as raised:
        await call("submit_workflow", **given)
    assert raised.value.next_step == "Download the file, and pass the graph in it as workflow."


@pytest.mark.parametrize("argument", ["workflow", "path"])
async def test_the_url_of_a_file_is_its_path(tmp_path: Path, call: Bench, argument: str) -> None:
    folder = tmp_path / "workflows"
    file = folder / "a b.json"
    folder.mkdir(exist_ok=True)
    file.write_text(json.dumps(picture()))
    given: dict[str, Any] = {argument: f"file://{folder}/a%20b.json"}
    done = await call("submit_workflow", dry_run=True, **given)
    assert done.node_count == 2


SETTINGS = "a cat\nNegative prompt: ugly\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x768"


async def test_the_settings_of_a_program_without_nodes_are_named(tmp_path: Path, call: Bench) -> None:
    folder = tmp_path / "workflows"
    folder.mkdir(exist_ok=True)
    kept = PngInfo()
    kept.add_text("parameters", SETTINGS)
    Image.new("RGB", (8, 8)).save(folder / "a.png", pnginfo=kept)
    both: list[dict[str, Any]] = [{"workflow": SETTINGS}, {"path": str(folder / "a.png")}]
    for given in both:
        with pytest.raises(InvalidInput, match="the settings of a program without nodes") as raised:
            await call("submit_workflow", **given)
        assert 'find_workflow(query="text to image")' in raised.value.next_step


async def test_a_name_is_one_line(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=picture(), name=" two\nlines\x1b[31m\u2028of \x00it ")
    assert submitted.name == "two lines [31m of it"
    nothing = await call("submit_workflow", workflow=picture(), name="\n")
    assert nothing.name == "picture"


async def graph_of(call: Bench, **submit: Any) -> dict[str, Any]:
    return dict((await call("submit_workflow", dry_run=True, **submit)).graph)


async def test_a_saved_file_runs_with_the_inputs_that_are_set(tmp_path: Path, call: Bench) -> None:
    save(tmp_path, **{"My poster": ui_file()})
    for spelled in ("My poster", "my poster", "My poster.json", "saved:My poster"):
        graph = await graph_of(call, workflow=spelled, inputs={"width": "128", "2.filename_prefix": "p"})
        assert graph["1"]["inputs"]["width"] == 128
        assert graph["2"]["inputs"]["filename_prefix"] == "p"
    assert (await graph_of(call, workflow="My poster"))["1"]["inputs"]["width"] == 64


async def test_the_editor_s_file_is_not_sent_with_other_values(tmp_path: Path, call: Bench) -> None:
    save(tmp_path, poster=ui_file())
    same = await call("submit_workflow", workflow="poster")
    assert (await call("workflow_graph", workflow_id=same.workflow_id)).file is not None
    changed = await call(
        "submit_workflow",
        workflow={"prompt": ui_file(), "extra_data": {"extra_pnginfo": {"workflow": ui_file(), "note": 1}}},
        inputs={"width": 16},
    )
    kept = await call("workflow_graph", workflow_id=changed.workflow_id)
    assert kept.graph["1"]["inputs"]["width"] == 16
    assert kept.file is not None
    assert kept.file["extra_data"] == {"extra_pnginfo": {"note": 1}}
    bare = await call(
        "submit_workflow",
        workflow={"prompt": picture(), "extra_data": {"preview_method": "none"}},
        inputs={"width": 16},
    )
    assert (await call("workflow_graph", workflow_id=bare.workflow_id)).file is not None


async def test_a_name_is_no_path_and_a_path_is_no_name(tmp_path: Path, call: Bench) -> None:
    folder = tmp_path / "workflows"
    folder.mkdir()
    (folder / "mine.json").write_text(json.dumps(picture()))
    for spelled in ("mine.json", str(folder / "mine.json")):
        made = await call("submit_workflow", workflow=spelled)
        assert made.name == "mine"
    with pytest.raises(NotFound):
        await call("submit_workflow", workflow="mine")
    with pytest.raises(InvalidInput):
        await call("submit_workflow", workflow="none.json")
    remote = Caller(client=ClientId("tester"), surface="rest", may_read_files=False)
    with pytest.raises(NotFound):
        await Bench(call.services, remote)("submit_workflow", workflow="mine.json")
    with pytest.raises(InvalidInput, match="can't read workflow files"):
        await Bench(call.services, remote)("submit_workflow", workflow="./mine.json")


@pytest.mark.parametrize("text", ["{", "[]", "```json\n{}\n```", "two\nlines", "", "x" * 301])
async def test_what_can_be_no_name_is_read_as_json(call: Bench, text: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        await call("submit_workflow", workflow=text)
    assert isinstance(raised.value, InvalidGraph) or raised.value.code.value in {
        "graph_invalid",
        "invalid_argument",
    }


async def test_a_seed_may_be_random_and_two_submits_under_one_key_are_one(call: Bench) -> None:
    workflow = picture() | {
        "3": {"class_type": "PrimitiveInt", "inputs": {"value": 1}, "_meta": {"title": "Seed"}}
    }
    graphs = [await graph_of(call, workflow=workflow, inputs={"seed": "random"}) for _ in range(2)]
    seeds = [graph["3"]["inputs"]["value"] for graph in graphs]
    assert seeds[0] != seeds[1]
    made = [
        await call("submit_workflow", workflow=workflow, inputs={"seed": -1}, idempotency_key="one")
        for _ in range(2)
    ]
    assert made[0].workflow_id == made[1].workflow_id


async def test_the_name_of_a_job(tmp_path: Path, call: Bench) -> None:
    save(tmp_path, poster=picture())
    assert (await call("submit_workflow", workflow=picture(), name="Given")).name == "Given"
    assert (await call("submit_workflow", workflow="poster")).name == "poster"
    assert (await call("submit_workflow", workflow=picture(prefix="fox"))).name == "fox"
    made = await call("submit_workflow", workflow="poster", name="Other")
    assert (await call("workflow_status", workflow_id=made.workflow_id)).name == "Other"
    assert "(Other)" in (await call("list_workflows")).text()


async def test_a_file_that_nobody_gave_is_asked_for(tmp_path: Path, call: Bench) -> None:
    save(tmp_path, cat={
        "1": {"class_type": "LoadImage", "inputs": {"image": "gone.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    })  # fmt: skip
    for inputs in ({}, {"filename_prefix": "y"}):
        with pytest.raises(InvalidInput, match="cat needs image") as raised:
            await call("submit_workflow", workflow="cat", inputs=inputs)
        assert "output:ID" in raised.value.next_step


async def test_a_saved_file_that_is_no_workflow_is_refused(tmp_path: Path, call: Bench) -> None:
    save(tmp_path, note='"only text"')
    with pytest.raises(InvalidInput):
        await call("submit_workflow", workflow="note", inputs={"a": 1})


async def test_a_list_is_no_workflow_even_if_it_names_an_output(tmp_path: Path, call: Bench) -> None:
    (tmp_path / "workflows").mkdir(exist_ok=True)
    (tmp_path / "workflows" / "list.json").write_text('[{"$output": "0123"}]')
    with pytest.raises(InvalidInput) as raised:
        await call("submit_workflow", workflow="list.json")
    assert raised.value.code is ErrorCode.GRAPH_INVALID


async def test_a_starter_that_needs_a_checkpoint_says_so(
    call: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.domain.test_starters import engine as node_list_with

    async def known(**_: Any) -> Any:
        return NodeLists({EngineId("e"): node_list_with()})

    monkeypatch.setattr(call.services.engines, "node_lists", known)
    with pytest.raises(InvalidInput, match="needs a checkpoint"):
        await call("submit_workflow", workflow="text-to-image", inputs={"prompt": "a fox"})
    found = await call("find_workflow", query="a picture from a text")
    (first,) = [each for each in found.workflows if each.name == "text-to-image"]
    assert first.runnable is False
    assert "needs a checkpoint" in first.text()


async def test_a_starter_gets_a_seed_each_time(call: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.domain.test_starters import engine as node_list_with

    async def known(**_: Any) -> Any:
        return NodeLists({EngineId("e"): node_list_with("a.ckpt", "b_xl.ckpt")})

    async def sent(**submit: Any) -> dict[str, Any]:
        job = (await call("submit_workflow", workflow="text-to-image", **submit)).workflow_id
        return dict((await call("workflow_graph", workflow_id=job)).graph)

    monkeypatch.setattr(call.services.engines, "node_lists", known)
    first, second = [await sent(inputs={"prompt": "x"}) for _ in range(2)]
    assert first["sampler"]["inputs"]["seed"] != second["sampler"]["inputs"]["seed"]
    chosen = await sent(inputs={"checkpoint": "b_xl.ckpt", "seed": 3})
    assert chosen["sampler"]["inputs"]["seed"] == 3
    assert chosen["size"]["inputs"]["width"] == 1024
    bare = await sent()
    assert bare["ckpt"]["inputs"]["ckpt_name"] == "a.ckpt"
