"""save_to: the files are there when the call returns."""

from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.context import Caller
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import Settings
from tests.operations.conftest import CALLER, Bench
from tests.support.graphs import failing, picture, slow


@pytest.fixture
def root(settings: Settings) -> Path:
    (root,) = settings.workflow_roots
    root.mkdir()
    return root


async def test_a_submit_says_where_and_the_wait_writes(call: Bench, root: Path) -> None:
    submitted = await call("submit_workflow", workflow=picture("t/fox"), save_to="art/fox.png")
    for _ in range(2):  # the second wait finds the same file
        end = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=20)
        assert end.saved == [str(root / "art" / "fox.png")]
    content = await call("read_output", output_id=end.outputs[0].output_id)
    assert (root / "art" / "fox.png").read_bytes() == content.data
    assert [each.name for each in (root / "art").iterdir()] == ["fox.png"]
    assert f"Saved as {root / 'art' / 'fox.png'}." in end.text()


async def test_a_wait_may_say_where(call: Bench, root: Path) -> None:
    graph = picture("t/one") | {"3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}
    submitted = await call("submit_workflow", workflow=graph)
    end = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=20, saveTo="art")
    assert end.saved == [str(root / "art" / "one_00001_.png")]  # a preview is not what was wanted
    assert len(end.outputs) == 2


@pytest.mark.parametrize("when", ["submit", "wait"])
async def test_a_batch_saves_the_outputs_of_all_its_workflows(call: Bench, root: Path, when: str) -> None:
    place: dict[str, Any] = {"save_to": "art"}
    asked = place if when == "submit" else {}
    submitted = await call("submit_workflow", workflow=slow(steps=1, step_ms=1), variations=2, **asked)
    asked = place if when == "wait" else {}
    done = await call("wait_for_workflow", workflow_id=submitted.workflow_id, **asked)
    assert done.status == "completed", done.text()
    assert len(done.saved) == 2
    assert sorted(map(Path, done.saved)) == sorted((root / "art").iterdir())


async def test_a_name_that_is_too_long_is_refused(call: Bench, root: Path) -> None:
    submitted = await call("submit_workflow", workflow=picture())
    done = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    with pytest.raises(InvalidInput, match="can't be written"):
        await call("view_output", output_id=done.outputs[0].output_id, save_to=f"{'x' * 300}.png")


async def test_previews_are_saved_where_there_is_nothing_else(call: Bench, root: Path) -> None:
    graph = picture()
    graph["2"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    submitted = await call("submit_workflow", workflow=graph, save_to=".")
    end = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=20)
    assert len(end.saved) == 1


async def test_a_view_writes_the_whole_output(call: Bench, root: Path) -> None:
    submitted = await call("submit_workflow", workflow=picture("t/two", size=1000))
    end = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=20)
    assert end.saved == []
    view = await call("view_output", output_id=end.outputs[0].output_id, save_to="art/")
    assert view.saved == [str(root / "art" / "two_00001_.png")]
    assert Path(view.saved[0]).stat().st_size == (await call.sized(end.workflow_id))[0].size


async def test_what_has_not_ended_or_failed_writes_nothing(call: Bench, root: Path) -> None:
    waiting = await call("submit_workflow", workflow=slow(), save_to="art")
    state = await call("wait_for_workflow", workflow_id=waiting.workflow_id, timeout_s=0)
    await call("cancel_workflow", workflow_id=waiting.workflow_id)
    failed = await call("submit_workflow", workflow=failing(), save_to="art")
    end = await call("wait_for_workflow", workflow_id=failed.workflow_id, timeout_s=20)
    assert (state.saved, end.saved, end.status) == ([], [], "failed")
    assert not (root / "art").exists()


async def test_a_retry_saves_where_the_first_would_have(call: Bench, root: Path) -> None:
    first = await call("submit_workflow", workflow=slow(), save_to="art")
    await call("cancel_workflow", workflow_id=first.workflow_id)
    retried = await call("retry_workflow", workflow_id=first.workflow_id)
    kept = await call.services.store.get_graph(retried.workflow_id)
    assert kept is not None
    assert kept.submitted is not None
    assert kept.submitted.save_to == str(root / "art")
    await call("cancel_workflow", workflow_id=retried.workflow_id)


async def test_what_cannot_be_saved_is_a_warning_of_a_true_state(call: Bench, root: Path) -> None:
    (root / "file").touch()
    submitted = await call("submit_workflow", workflow=picture(), save_to="file/below")
    end = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=20)
    assert (end.status, end.saved) == ("completed", [])
    assert "can't be written" in end.warnings[-1]


@pytest.mark.parametrize("where", ["/etc", "../x"])
async def test_a_place_that_is_not_allowed_is_refused_at_once(call: Bench, root: Path, where: str) -> None:
    for name, arguments in (
        ("submit_workflow", {"workflow": picture()}),
        ("wait_for_workflow", {"workflow_id": "w"}),
        ("view_output", {"output_id": "o"}),
    ):
        with pytest.raises(InvalidInput) as caught:
            await call(name, save_to=where, **arguments)
        assert caught.value.code is ErrorCode.PATH_NOT_ALLOWED
        assert str(root) in caught.value.message


async def test_a_file_url_is_a_place_and_another_url_is_none(call: Bench, root: Path) -> None:
    submitted = await call("submit_workflow", workflow=picture("t/fox"), save_to=f"file://{root}/art%20s")
    end = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=20)
    assert end.saved == [str(root / "art s" / "fox_00001_.png")]
    with pytest.raises(InvalidInput, match=r"not 'https://example\.org/art'"):
        await call("submit_workflow", workflow=picture(), save_to="https://example.org/art")


async def test_over_http_nothing_is_written_here(call: Bench, root: Path) -> None:
    submitted = await call("submit_workflow", workflow=picture(), save_to="art")
    other = Bench(call.services, Caller(client=CALLER.client, surface="http", may_read_files=False))
    with pytest.raises(InvalidInput, match="save_to"):
        await other("wait_for_workflow", workflow_id=submitted.workflow_id, save_to="art")
    end = await other("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=20)
    assert (end.status, end.saved) == ("completed", [])
    assert not (root / "art").exists()


async def test_the_engines_own_file_is_named_where_it_can_be_read(settings: Settings, tmp_path: Path) -> None:
    here = settings.model_copy(update={"outputs_dir": tmp_path / "engine" / "output"})
    async with open_runtime(here) as services:
        call = Bench(services, CALLER)
        graph = picture("t/x") | {"3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}
        submitted = await call("submit_workflow", workflow=graph)
        end = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=20)
        paths = {each.folder: each.path for each in end.outputs}
        assert paths == {"output": str(tmp_path / "engine/output/t/x_00001_.png"), "temp": None}
        status = await call("workflow_status", workflow_id=submitted.workflow_id)
        assert status.outputs == end.outputs
        assert f"at {paths['output']}" in end.text()
        Path(str(paths["output"])).unlink()
        gone = await call("workflow_status", workflow_id=submitted.workflow_id)
        assert [each.path for each in gone.outputs] == [None, None]
        over_http = Bench(services, Caller(client=ClientId("tester"), surface="http", may_read_files=False))
        assert all(each.path is None for each in (await over_http("list_outputs")).outputs)


async def test_many_outputs_are_all_saved(call: Bench, root: Path) -> None:
    graph = picture(size=16)
    graph["1"]["inputs"]["batch_size"] = 201  # more than a page of them
    submitted = await call("submit_workflow", workflow=graph, save_to="many")
    end = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=60)
    assert len(end.saved) == len(list((root / "many").iterdir())) == 201
    assert "and 196 more" in end.text()


async def test_over_http_an_output_has_a_link(settings: Settings) -> None:
    here = settings.model_copy(update={"public_url": "https://host.example"})
    async with open_runtime(here) as services:
        call = Bench(services, Caller(client=CALLER.client, surface="http", may_read_files=False))
        submitted = await call("submit_workflow", workflow=picture())
        end = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=20)
        assert end.outputs[0].link.startswith(f"https://host.example{end.outputs[0].url}?expires=")
        assert f"at {end.outputs[0].link}" in end.text()
