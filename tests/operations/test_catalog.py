"""Models and outputs, through the registry."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfy_mcp.domain.catalog import Output, OutputFile, OutputKind
from comfy_mcp.domain.errors import ErrorCode, InvalidInput, LimitExceeded, NotFound
from comfy_mcp.domain.ids import OutputId
from comfy_mcp.library.outputs import PREVIEW_BYTES
from comfy_mcp.operations import catalog
from comfy_mcp.operations.shapes import OutputItem
from comfy_mcp.store import Store
from tests.operations.conftest import Bench
from tests.support import graphs


class Renamed:
    """A store in which an output has another file."""

    def __init__(self, store: Store, output: Output) -> None:
        self._store = store
        self._output = output

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def get_output(self, output_id: OutputId) -> Output:
        return self._output


async def made(call: Bench, graph: dict[str, object]) -> list[OutputItem]:
    submitted = await call("submit_workflow", workflow=graph)
    done = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    assert done.status == "completed", done.text()
    outputs: list[OutputItem] = done.outputs
    return outputs


async def test_outputs_are_listed_newest_first_by_job_type_time_and_page(call: Bench) -> None:
    (first,) = await made(call, graphs.picture())
    (text,) = await made(call, graphs.text())
    (last,) = await made(call, graphs.picture())
    listed = (await call("list_outputs")).outputs
    assert [item.output_id for item in listed] == [last.output_id, text.output_id, first.output_id]
    page = await call("list_outputs", limit=2)
    rest = await call("list_outputs", limit=2, cursor=page.next_cursor)
    assert [item.output_id for item in rest.outputs] == [first.output_id]
    assert "cursor" in page.text()
    assert [item.output_id for item in (await call("list_outputs", type="text")).outputs] == [text.output_id]
    by_job = await call("list_outputs", workflow_id=first.workflow_id)
    assert [item.output_id for item in by_job.outputs] == [first.output_id]
    assert (await call("list_outputs", since=last.created_at + 60_000)).outputs == []
    assert "No outputs" in (await call("list_outputs", type="video")).text()


async def test_an_image_is_viewed_as_a_small_preview_and_read_in_full(call: Bench) -> None:
    (output,) = await made(call, graphs.picture(size=1024))
    view = await call("view_output", output_id=output.output_id, max_px=100)
    assert (view.width, view.height) == (100, 100)
    assert Image.open(io.BytesIO(view.preview)).size == (100, 100)
    assert len(view.preview) <= PREVIEW_BYTES
    assert "preview 100x100" in view.text()
    assert "preview" not in view.model_dump()
    full = await call("read_output", output_id=output.output_id)
    (sized,) = await call.sized(output.workflow_id)
    assert (full.media_type, len(full.data)) == ("image/png", sized.size)
    assert full.data.startswith(b"\x89PNG")
    assert output.filename in full.text()


async def test_an_output_that_is_too_large_to_be_given_whole_is_refused(
    call: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (output,) = await made(call, graphs.picture())
    monkeypatch.setattr(catalog, "READ_BYTES", 10)
    with pytest.raises(LimitExceeded, match="larger than 10 bytes") as caught:
        await call("read_output", output_id=output.output_id)
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.TOO_LARGE, False)


async def test_a_text_output_is_shown_as_itself(call: Bench) -> None:
    (output,) = await made(call, graphs.text("a poem"))
    view = await call("view_output", output_id=output.output_id)
    assert view.preview is None
    assert "a poem" in view.note
    assert output.content is not None
    assert (await call("read_output", output_id=output.output_id)).data.decode() == output.content
    assert output.media_type == "text/plain"


async def test_a_text_file_and_a_drawing_are_shown_as_text(call: Bench, tmp_path: Path) -> None:
    """No class of the embedded engine writes such files: an output is given another file."""
    for name, kind, text in (("a.txt", OutputKind.TEXT, "some notes"), ("b.svg", OutputKind.IMAGE, "<svg/>")):
        (picture,) = await made(call, graphs.picture())
        file = OutputFile(kind=kind, filename=name, subfolder=picture.subfolder)
        (tmp_path / "engine" / "output" / picture.subfolder / name).write_text(text)
        found = await call.services.store.get_output(OutputId(picture.output_id))
        assert found is not None
        store = Renamed(call.services.store, replace(found, file=file, size=None, sha256=None))
        with_file = Bench(replace(call.services, store=store), call.caller)  # type: ignore[arg-type]
        view = await with_file("view_output", output_id=picture.output_id)
        assert (view.preview, view.note) == (None, text)
        assert view.output.media_type == ("text/plain" if kind is OutputKind.TEXT else "image/svg+xml")


async def test_an_output_whose_file_is_gone_says_so(call: Bench, tmp_path: Path) -> None:
    (output,) = await made(call, graphs.picture())
    (tmp_path / "engine" / "output" / output.subfolder / output.filename).unlink()
    for name in ("view_output", "read_output"):
        with pytest.raises(NotFound) as caught:
            await call(name, output_id=output.output_id)
        assert caught.value.code is ErrorCode.OUTPUT_GONE


async def test_an_unknown_output_is_not_found(call: Bench) -> None:
    for name in ("view_output", "read_output"):
        with pytest.raises(NotFound) as caught:
            await call(name, output_id="nope")
        assert caught.value.code is ErrorCode.NOT_FOUND


async def test_models_are_listed_by_type_with_pages_and_search(call: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "engine" / "models" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a.safetensors", "b.safetensors"):
        (folder / name).write_bytes(b"x" * 7)
    listed = await call("list_models", type="checkpoints")
    assert [(item.name, item.type, item.size, item.hash) for item in listed.models] == [
        ("a.safetensors", "checkpoints", 7, None),
        ("b.safetensors", "checkpoints", 7, None),
    ]
    assert "a.safetensors" in listed.text()
    page = await call("list_models", type="checkpoints", limit=1)
    assert page.next_cursor is not None
    assert {"checkpoints", "loras", "vae", "controlnet", "upscale"} <= set(page.types)
    assert (await call("list_models", type="checkpoints", search="B.safe")).models[0].name == "b.safetensors"
    assert "No models" in (await call("list_models", type="checkpoints", search="zzz")).text()
    with pytest.raises(InvalidInput) as caught:
        await call("list_models", type="no-such-type")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("operation", ["list_outputs", "list_workflows"])
async def test_a_time_that_no_database_takes_is_refused(call: Bench, operation: str) -> None:
    with pytest.raises(InvalidInput, match="since"):
        await call(operation, since=2**63)


async def test_a_workflow_that_does_not_exist_has_no_outputs_and_a_warning(call: Bench) -> None:
    missing = await call("list_outputs", workflow_id="nope")
    assert (missing.outputs, missing.warnings) == ([], ["Workflow nope not found."])
    waiting = await call("submit_workflow", workflow=graphs.slow())
    listed = await call("list_outputs", workflow_id=waiting.workflow_id)
    yet = [f"Workflow {waiting.workflow_id} has not ended yet."]
    assert (listed.outputs, listed.warnings) == ([], yet)
    await call("cancel_workflow", workflow_id=waiting.workflow_id)
    await call("wait_for_workflow", workflow_id=waiting.workflow_id)
    assert (await call("list_outputs", workflow_id=waiting.workflow_id)).warnings == []
