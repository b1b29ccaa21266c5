"""view_output: one output or several, whatever they are."""

import asyncio
import base64
import contextlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfy_mcp.domain.access import DEFAULT_KEY_RIGHTS
from comfy_mcp.domain.catalog import Output, OutputFile, OutputKind
from comfy_mcp.domain.errors import BridgeError, EngineUnreachable, InvalidInput, NotFound
from comfy_mcp.domain.ids import ClientId, OutputId
from comfy_mcp.operations import views
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.shapes import ViewResult
from comfy_mcp.operations.views import can_be_shown
from comfy_mcp.server.results import tool_result
from tests.library.test_moving import TONE, animated, riff, sound, video
from tests.operations.conftest import Bench
from tests.support.graphs import picture, slow, text


async def ended(call: Bench, graph: dict[str, Any]) -> Any:
    submitted = await call("submit_workflow", workflow=graph)
    return await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=20)


def also(prefix: str) -> dict[str, Any]:
    return {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}}


async def made(call: Bench, folder: Path, name: str, kind: OutputKind, data: bytes) -> str:
    """The id of an output whose file is `data`."""
    end = await ended(call, picture())
    output = await call.services.store.get_output(end.outputs[0].output_id)
    assert output is not None
    (folder / "engine/output" / name).write_bytes(data)
    file = OutputFile(kind=kind, filename=name)
    other = Output(
        id=OutputId(call.services.new_id()), job_id=output.job_id, attempt=1, engine=output.engine, file=file,
        created_at=output.created_at,
    )  # fmt: skip
    call.extra[other.id] = other  # type: ignore[attr-defined]
    return other.id


@pytest.fixture
def with_files(call: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Outputs that no node of the embedded engine makes are known all the same."""
    call.extra = {}  # type: ignore[attr-defined]
    find = call.services.store.get_output

    async def get_output(output_id: OutputId) -> Output | None:
        return call.extra.get(output_id) or await find(output_id)  # type: ignore[attr-defined]

    monkeypatch.setattr(call.services.store, "get_output", get_output)
    return call


def opened(view: ViewResult) -> Image.Image:
    assert view.preview is not None
    image = Image.open(io.BytesIO(view.preview))
    image.load()
    return image


@pytest.mark.parametrize(
    ("name", "kind", "data", "said"),
    [
        ("a.gif", OutputKind.IMAGE, animated("GIF"), "2.4 s, 12 frames, 40x30"),
        ("a.webp", OutputKind.IMAGE, animated("WEBP"), "2.4 s, 12 frames, 40x30"),
        ("a.mp4", OutputKind.VIDEO, video(), "2.0 s, 12 frames a second, 64x48, no sound"),
        ("a.wav", OutputKind.AUDIO, riff(1, 16, TONE.tobytes()), "1.0 s, 8000 Hz, mono"),
        ("a.flac", OutputKind.AUDIO, sound("flac", "flac"), "2.0 s, 48000 Hz, mono"),
    ],
)
async def test_what_moves_or_sounds_is_shown_with_its_length(
    with_files: Bench, tmp_path: Path, name: str, kind: OutputKind, data: bytes, said: str
) -> None:
    view = await with_files("view_output", output_id=await made(with_files, tmp_path, name, kind, data))
    assert opened(view).width >= 200
    assert said in str(view.note)
    result = tool_result(view)
    assert said in result.content[0].text  # type: ignore[union-attr]
    assert said in str(result.structured_content)
    assert base64.b64decode(result.content[1].data) == view.preview  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "kind", "data", "said"),
    [
        ("a.mp4", OutputKind.VIDEO, b"broken", "can't be decoded"),
        ("a.latent", OutputKind.LATENT, b"x", "no picture of this type (latent)"),
        ("a.glb", OutputKind.MODEL3D, b"x", "no picture of this type (3d)"),
    ],
)
async def test_what_cannot_be_shown_says_so_and_leads_nowhere(
    with_files: Bench, tmp_path: Path, name: str, kind: OutputKind, data: bytes, said: str
) -> None:
    view = await with_files("view_output", output_id=await made(with_files, tmp_path, name, kind, data))
    assert view.preview is None
    assert said in str(view.note)
    assert "view_output" not in view.text()


def test_a_broken_hint_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"a.mp4": OutputKind.VIDEO, "a.flac": OutputKind.AUDIO, "a.wav": OutputKind.AUDIO}
    files = [OutputFile(kind=kind, filename=name) for name, kind in kinds.items()]
    assert all(map(can_be_shown, files))
    monkeypatch.setattr(views, "_decodes", lambda: False)
    assert [can_be_shown(each) for each in files] == [False, False, True]
    assert not can_be_shown(OutputFile(kind=OutputKind.LATENT, filename="a.latent"))


@pytest.mark.parametrize("how", ["commas", "list", "workflow", "short", "uris"])
async def test_several_are_one_numbered_sheet(call: Bench, how: str) -> None:
    graph = picture()
    for number in (3, 4, 5):
        graph[str(number)] = also(f"n{number}")
    end = await ended(call, graph)
    assert len(end.outputs) == 4
    assert (
        end.next_step
        == f'Call view_output(output_id="{end.workflow_id}") to look at all of them on one sheet.'
    )
    ids = [each.output_id for each in end.outputs]
    given: dict[str, Any] = {
        "commas": ", ".join(ids),
        "list": ids,
        "workflow": end.workflow_id,
        "short": ",".join(each[:8] for each in ids),
        "uris": [each.uri for each in end.outputs],
    }
    view = await call("view_output", output_id=given[how])
    assert [each.output_id for each in view.outputs] == ids
    assert view.output == view.outputs[0]
    assert opened(view).size == (512, 512)
    assert f"4. image {end.outputs[3].filename}" in view.text()
    result = tool_result(view)
    assert [part.type for part in result.content].count("image") == 1


async def test_the_preview_of_a_batch_is_that_of_one_that_runs(call: Bench) -> None:
    graph = slow(steps=200)
    batch = await call("submit_workflow", workflow=graph, variations=2)
    found = None
    async with asyncio.timeout(30):
        while found is None:
            with contextlib.suppress(NotFound):
                found = await call("workflow_preview", workflow_id=batch.workflow_id)
    assert (found.workflow_id, found.media_type) == (batch.workflow_ids[0], "image/jpeg")
    await call("cancel_workflow", workflow_id=batch.workflow_id)
    with pytest.raises(NotFound, match=f"no preview of workflow {batch.workflow_id} now"):
        await call("workflow_preview", workflow_id=batch.workflow_id)
    with pytest.raises(NotFound, match="Workflow nobody's not found"):
        await call("workflow_preview", workflow_id="nobody's")


async def test_outputs_of_several_workflows_are_one_sheet(call: Bench) -> None:
    one, two, words = [await ended(call, graph) for graph in (picture(), picture(), text("four"))]
    ids = [one.workflow_id, two.outputs[0].output_id, words.workflow_id]
    view = await call("view_output", output_id=",".join(ids))
    assert len(view.outputs) == 3
    assert "3: There is no picture of this type (text)" in str(view.note)
    assert "four" in str(view.outputs[2].content)


async def test_outputs_of_which_none_can_be_shown_have_no_sheet(call: Bench) -> None:
    one, two = [await ended(call, text(words)) for words in ("four", "five")]
    view = await call("view_output", output_id=f"{one.workflow_id},{two.workflow_id}")
    assert view.preview is None
    assert str(view.note).startswith("1: There is no picture of this type (text)")
    assert "2: " in str(view.note)


async def test_a_sheet_is_bounded_and_says_so(call: Bench) -> None:
    graph = picture(size=16)
    for number in range(3, 21):
        graph[str(number)] = also(f"n{number}")
    end = await ended(call, graph)
    view = await call("view_output", output_id=end.workflow_id)
    assert len(view.outputs) == 16
    assert "first 16 of 19" in str(view.note)


async def test_a_file_that_is_gone_is_an_empty_tile_among_others(call: Bench, tmp_path: Path) -> None:
    graph = picture("t/one")
    graph["3"] = also("t/two")
    end = await ended(call, graph)
    (tmp_path / "engine/output/t/two_00001_.png").unlink()
    view = await call("view_output", output_id=end.workflow_id)
    assert view.preview is not None
    assert str(view.note).startswith("2: The file of output")


async def test_an_output_is_found_by_the_name_of_its_file(call: Bench) -> None:
    end = await ended(call, picture("t/named"))
    for name in ("named_00001_.png", "t/named_00001_.png"):
        view = await call("view_output", output_id=name)
        assert view.output.output_id == end.outputs[0].output_id
    with pytest.raises(NotFound):
        await call("view_output", output_id="named_00009_.png")


async def test_ids_that_are_none_are_refused(call: Bench) -> None:
    for given in (" , ", ",".join(["a"] * 65)):
        with pytest.raises(InvalidInput, match="1 to 64 ids"):
            await call("view_output", output_id=given)
    end = await ended(call, picture())
    other = Caller(client=ClientId("other"), surface="http", rights=DEFAULT_KEY_RIGHTS)
    for given in ("nothing", end.workflow_id, end.outputs[0].output_id, end.outputs[0].filename):
        with pytest.raises(NotFound):
            await Bench(call.services, other)("view_output", output_id=given)


async def test_a_look_at_a_workflow_without_outputs_says_what_to_do(call: Bench) -> None:
    batch = (await call("submit_workflow", workflow=slow(), variations=2)).workflow_id
    with pytest.raises(NotFound, match=f"Workflow {batch} has no outputs yet") as raised:
        await call("view_output", output_id=batch)
    assert raised.value.next_step == f'Call wait_for_workflow(workflow_id="{batch}").'
    await call("cancel_workflow", workflow_id=batch)
    await call("wait_for_workflow", workflow_id=batch)
    with pytest.raises(NotFound, match=f"Workflow {batch} has no outputs") as raised:
        await call("view_output", output_id=batch)
    assert raised.value.next_step == f'Call workflow_status(workflow_id="{batch}").'


async def test_an_engine_that_is_gone_is_an_error_of_the_sheet(
    call: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = await ended(call, picture())
    again = await ended(call, picture())

    async def down(*_: Any, **__: Any) -> Any:
        raise EngineUnreachable("It is down.", next_step="Start it.")

    for way in ("read", "read_small"):
        monkeypatch.setattr(call.services.outputs, way, down)
    with pytest.raises(BridgeError, match="It is down"):
        await call("view_output", output_id=f"{end.workflow_id},{again.workflow_id}")


async def test_no_look_is_offered_at_what_cannot_be_shown(call: Bench) -> None:
    end = await ended(call, picture())
    job = await call.services.store.get_job(end.workflow_id)
    output = await call.services.store.get_output(end.outputs[0].output_id)
    assert job is not None
    assert output is not None
    latent = replace(output, file=OutputFile(kind=OutputKind.LATENT, filename="a.latent"))
    assert views.next_step(job, [latent]) is None
    assert str(views.next_step(job, [latent, output])).startswith(
        f'Call view_output(output_id="{output.id}")'
    )
