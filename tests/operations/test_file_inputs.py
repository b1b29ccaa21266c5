"""Files that a submit names, in every spelling that agents try, and what the engine then reads."""

import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image

from comfy_mcp.domain.access import DEFAULT_KEY_RIGHTS
from comfy_mcp.domain.catalog import OutputFile, OutputKind
from comfy_mcp.domain.errors import BridgeError, EngineUnreachable, ErrorCode
from comfy_mcp.domain.file_inputs import FileInput
from comfy_mcp.domain.ids import ClientId, EngineId, JobId, NodeId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.file_inputs import MAX_RETRIES, _copied, _lists, newest_try
from comfy_mcp.operations.shapes import PreviewResult
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import Settings
from tests.operations.conftest import Bench
from tests.support.graphs import picture, slow, text

RED, BLUE = (200, 30, 30), (30, 30, 200)


def png(color: tuple[int, int, int] = RED, size: int = 8) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (size, size), color).save(stream, "PNG")
    return stream.getvalue()


def load(name: Any, **more: Any) -> dict[str, Any]:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "t/x"}},
        **more,
    }


@pytest.fixture
def root(settings: Settings) -> Path:
    (root,) = settings.workflow_roots
    root.mkdir()
    (root / "cat.png").write_bytes(png())
    return root


@pytest.fixture
async def web_url() -> AsyncIterator[str]:
    async def file(_: web.Request) -> web.Response:
        return web.Response(body=png(BLUE), content_type="image/png")

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<!DOCTYPE html><html>login</html>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/file", file)
    app.router.add_get("/page.png", page)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def ran(call: Bench, name: Any) -> tuple[Any, Any]:
    """(the submit's answer, the end), where the picture that came out is known."""
    submitted = await call("submit_workflow", workflow=load(name))
    end = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=20)
    return submitted, end


async def color(call: Bench, end: Any) -> tuple[int, ...]:
    assert end.status == "completed", end.error
    content = await call("read_output", output_id=end.outputs[0].output_id)
    with Image.open(io.BytesIO(content.data)) as image:
        pixel = image.convert("RGB").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel


async def refusal(call: Bench, name: Any) -> BridgeError:
    return await refused(call, load(name))


async def refused(call: Bench, workflow: dict[str, Any]) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        await call("submit_workflow", workflow=workflow)
    queue = await call("queue")
    assert (queue.running, queue.queued) == ([], [])
    return caught.value


@pytest.mark.parametrize(
    "spelling",
    [
        "{root}/cat.png",
        "./cat.png",
        "cat.png",
        "'cat.png'",
        "file://{root}/cat.png",
        "sub/../cat.png",
        " cat.png ",
    ],
)
async def test_a_path_is_read_in_the_spellings_that_agents_try(
    call: Bench, root: Path, spelling: str
) -> None:
    submitted, end = await ran(call, spelling.format(root=root))
    assert await color(call, end) == RED
    assert submitted.warnings == []


async def test_the_copy_is_the_jobs_own(call: Bench, root: Path, tmp_path: Path) -> None:
    """What becomes of the file after the submit is of no matter, and the engine gets it once."""
    submitted = await call("submit_workflow", workflow=load("cat.png"))
    (root / "cat.png").unlink()
    end = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=20)
    assert await color(call, end) == RED
    graph = (await call("workflow_graph", workflow_id=submitted.workflow_id)).graph
    name = graph["1"]["inputs"]["image"]
    assert [each.name for each in (tmp_path / "engine/input/bridge-files").iterdir()] == [
        name.rpartition("/")[2]
    ]
    _, end = await ran(call, name)  # as a retry does, or who takes the graph of a job
    assert await color(call, end) == RED


async def test_equal_files_are_one(call: Bench, root: Path) -> None:
    (root / "same.jpg").write_bytes(png())
    first, second = [
        (await call("workflow_graph", workflow_id=(await ran(call, name))[0].workflow_id)).graph["1"]
        for name in ("cat.png", "same.jpg")  # by its content it is a PNG
    ]
    assert first == second


@pytest.mark.parametrize(
    "spelling",
    [
        "output:{id}", "{id}", "output:{short}", "comfy://outputs/{id}", "/v1/comfyui/output/{id}",
        "http://127.0.0.1:9090/v1/comfyui/output/{id}", "outputs://{id}", "{name}", "{name} [output]",
        "t/{name}", "t/{name} [output]", "output:{name}", "output:t/{name}",
    ],
)  # fmt: skip
async def test_an_earlier_output_is_an_input(call: Bench, root: Path, spelling: str) -> None:
    _, made = await ran(call, "cat.png")
    output = made.outputs[0]
    name = spelling.format(id=output.output_id, short=output.output_id[:8], name=output.filename)
    submitted, end = await ran(call, name)
    assert await color(call, end) == RED
    guessed = "{name}" in spelling and not spelling.startswith("t/{name} ")
    assert any(f"output:{output.output_id}" in each for each in submitted.warnings) == guessed


async def test_a_name_that_several_outputs_have_is_no_choice(call: Bench, root: Path) -> None:
    for prefix in ("one/same", "two/same"):
        submitted = await call("submit_workflow", workflow=picture(prefix))
        await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=20)
    error = await refusal(call, "same_00001_.png")
    assert "output:ID" in error.next_step
    assert (await refusal(call, "output:same_00001_.png")).code is ErrorCode.NOT_FOUND


async def test_of_a_batch_it_has_to_be_said_which_output(call: Bench, root: Path) -> None:
    batch = await call("submit_workflow", workflow=slow(steps=1, step_ms=1), variations=5)
    await call("wait_for_workflow", workflow_id=batch.workflow_id, timeout_s=20)
    for name in (f"output:{batch.workflow_id}", {"$output": batch.workflow_id, "index": 1}):
        error = await refusal(call, name)
        assert f"{batch.workflow_id} is a batch of 5 workflows." in error.message
        named = ", ".join(f"output:{each}" for each in batch.workflow_ids[:4])
        assert error.next_step == f"Name one of them: {named} …."
    for name in (f"output:{batch.workflow_id}", {"$output": batch.workflow_id}):
        other = Caller(client=ClientId("o"), surface="http", may_read_files=False, rights=DEFAULT_KEY_RIGHTS)
        assert (await refusal(Bench(call.services, other), name)).code in {
            ErrorCode.NOT_FOUND,
            ErrorCode.WORKFLOW_NOT_FOUND,
        }


async def test_a_file_that_was_just_uploaded_is_no_doubt(call: Bench, tmp_path: Path) -> None:
    (tmp_path / "engine/input/first.png").write_bytes(png())
    submitted, _ = await ran(call, "first.png")  # the list is read, and is fresh
    assert submitted.warnings == []
    (tmp_path / "engine/input/later.png").write_bytes(png(BLUE))
    submitted, end = await ran(call, "later.png")
    assert submitted.warnings == []
    assert await color(call, end) == BLUE


async def test_an_output_of_another_kind_is_refused(call: Bench, root: Path) -> None:
    submitted = await call("submit_workflow", workflow=text())
    end = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=20)
    error = await refusal(call, f"output:{end.outputs[0].output_id}")
    assert "is text; the input reads image" in error.message
    assert error.message.startswith("Node 1 (LoadImage), input 'image'")


async def test_an_output_that_is_gone_fails_the_job_with_the_reason(
    call: Bench, root: Path, tmp_path: Path
) -> None:
    _, made = await ran(call, "cat.png")
    output = made.outputs[0]
    (tmp_path / "engine/output" / output.subfolder / output.filename).unlink()
    _, end = await ran(call, f"output:{output.output_id}")
    assert (end.status, end.failure.kind) == ("failed", "missing_input")
    assert output.filename in end.failure.message


async def test_data_is_an_input(call: Bench) -> None:
    uri = f"data:image/png;base64,{base64.b64encode(png(BLUE)).decode()}"
    submitted, end = await ran(call, uri)
    assert await color(call, end) == BLUE
    graph = (await call("workflow_graph", workflow_id=submitted.workflow_id)).graph
    assert graph["1"]["inputs"]["image"].startswith("bridge-files/")


async def test_a_url_is_an_input_where_it_is_allowed(settings: Settings, web_url: str) -> None:
    async with open_runtime(settings.model_copy(update={"private_urls": True})) as services:
        call = Bench(services, Caller(client=ClientId("tester"), surface="test"))
        _, end = await ran(call, f"{web_url}/file")
        assert await color(call, end) == BLUE
        page = await refusal(call, f"{web_url}/page.png")
        assert "web page" in page.message


async def test_a_private_address_is_refused(call: Bench, web_url: str) -> None:
    error = await refusal(call, f"{web_url}/file")
    assert error.code is ErrorCode.PATH_NOT_ALLOWED
    assert "COMFY_BRIDGE_PRIVATE_URLS" in error.next_step


async def test_a_marker_is_judged_in_every_input(call: Bench, root: Path) -> None:
    """Whatever names what the bridge keeps is resolved where the job is sent: so it is judged here."""
    graph = picture()
    graph["2"]["inputs"]["filename_prefix"] = "bridge-files/output-00000000-0000-0000-0000-000000000000"
    with pytest.raises(BridgeError, match="not found"):
        await call("submit_workflow", workflow=graph)


async def test_a_prompt_may_look_like_a_file(call: Bench, root: Path) -> None:
    for value in ("https://example.org/a.png", "cat.png", "output:1234", "./cat.png"):
        graph = {
            "1": {"class_type": "PrimitiveString", "inputs": {"value": value}},
            "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
        }
        submitted = await call("submit_workflow", workflow=graph)
        end = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=20)
        assert end.outputs[0].content == value


async def test_a_node_that_nothing_needs_is_left_alone(call: Bench) -> None:
    stray = {"9": {"class_type": "LoadImage", "inputs": {"image": "nope.png"}}}
    submitted = await call("submit_workflow", workflow=picture() | stray)
    assert submitted.status == "queued"


async def test_one_workflow_names_some_files_only(call: Bench, root: Path) -> None:
    graph = picture()
    for number in range(65):
        (root / f"{number}.png").write_bytes(png((number, 0, 0)))
        graph[f"l{number}"] = {"class_type": "LoadImage", "inputs": {"image": f"./{number}.png"}}
        graph[f"s{number}"] = {
            "class_type": "SaveImage",
            "inputs": {"images": [f"l{number}", 0], "filename_prefix": "t/x"},
        }
    with pytest.raises(BridgeError, match="more than 64 files"):
        await call("submit_workflow", workflow=graph)


async def test_without_an_engine_a_path_is_copied_all_the_same(
    call_without_engine: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = call_without_engine
    for name in ("cat.png", "https://[::1"):
        graph = load(name)
        if name.startswith("https"):
            with pytest.raises(BridgeError, match="can't be read"):
                await call("submit_workflow", workflow=graph)
            continue
        submitted = await call("submit_workflow", workflow=graph)
        kept = (await call("workflow_graph", workflow_id=submitted.workflow_id)).graph
        assert kept == graph  # nobody can say whether the engine has it
    uri = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    submitted = await call("submit_workflow", workflow=load(uri))
    kept = (await call("workflow_graph", workflow_id=submitted.workflow_id)).graph
    assert kept["1"]["inputs"]["image"].startswith("bridge-files/")


async def test_one_file_for_two_nodes_is_copied_once(call: Bench, root: Path, tmp_path: Path) -> None:
    graph = load("cat.png")
    graph["3"] = {"class_type": "LoadImage", "inputs": {"image": "cat.png"}}
    graph["4"] = {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "t/y"}}
    submitted = await call("submit_workflow", workflow=graph)
    end = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=20)
    assert (end.status, len(end.outputs)) == ("completed", 2)
    assert len(list((tmp_path / "state/inputs").iterdir())) == 1


async def test_a_file_that_can_t_be_copied_from_its_engine_is_left_to_the_engine_that_has_it() -> None:
    """Also measured: coverage does not see what follows an await through which an exception was thrown."""

    class Files:
        async def keep_served(self, *_: object) -> str:
            raise EngineUnreachable("down", next_step="")

    class Served:
        def view(self, _: object) -> None:
            return None

    a, b = EngineId("a"), EngineId("b")
    services = SimpleNamespace(engines=SimpleNamespace(pool={a: Served()}), input_files=Files())
    context: Any = SimpleNamespace(services=services, caller=SimpleNamespace(share=None))
    file = OutputFile(kind=OutputKind.FILE, filename="x.png", subfolder="", folder_type="input")
    found = FileInput(node=NodeId("1"), class_type="LoadImage", name="image", value="x.png")
    assert await _copied(context, file, {a: True, b: False}, found, frozenset({a, b})) is None
    assert await _copied(context, file, {a: True, b: False}, found, frozenset({a})) is None


@pytest.mark.parametrize("listed", [True, False])
def test_whether_another_engine_lists_a_file(listed: bool) -> None:
    options = ["cat.png"] if listed else ["dog.png"]
    declared = {"LoadImage": {"input": {"required": {"image": [options]}}, "output": []}}
    found: Any = SimpleNamespace(class_type="LoadImage", name="image", value="cat.png")
    assert _lists(ObjectInfo.parse(declared), found) is listed
    assert _lists(ObjectInfo.parse({}), found)


async def test_a_chain_of_retries_is_followed_so_far() -> None:
    asked: list[str] = []

    async def get_job(job_id: str) -> Any:
        asked.append(job_id)
        return SimpleNamespace(client="me", retried_by=f"{job_id}x", status=JobStatus.FAILED)

    services = SimpleNamespace(store=SimpleNamespace(get_job=get_job))
    context: Any = SimpleNamespace(services=services, caller=SimpleNamespace(may_see=lambda _client: True))
    assert await newest_try(context, JobId("a")) is not None
    assert len(asked) == MAX_RETRIES


def test_a_preview_says_whose_it_is() -> None:
    shown = PreviewResult(workflow_id="a1", media_type="image/png", data=b"")
    assert shown.text() == "A preview of workflow a1."


@pytest.mark.parametrize(
    "name",
    [
        "./cat.png", "cat.png", "sub/there.png", "new.png", "made_00001_.png [output]", "made_00001_.png",
        "output:{made}", "bridge-files/output-{made}",
    ],
)  # fmt: skip
async def test_a_file_that_is_there_is_not_asked_for_when_other_inputs_are_set(
    call: Bench, root: Path, tmp_path: Path, name: str
) -> None:
    """The list of an engine has no folders, and is older than a file that came just now."""
    await call.services.engines.node_lists()
    made = await call("submit_workflow", workflow=picture(prefix="made"))
    made = await call("wait_for_workflow", workflow_id=made.workflow_id, timeout_s=20)
    (tmp_path / "engine/input/sub").mkdir(parents=True)
    for each in ("sub/there.png", "new.png"):
        (tmp_path / "engine/input" / each).write_bytes(png())
    graph = load(name.format(made=made.outputs[0].output_id))
    first = await call("submit_workflow", workflow=graph, inputs={"filename_prefix": "first"})
    end = await call("wait_for_workflow", workflow_id=first.workflow_id, timeout_s=20)
    assert end.outputs[0].filename.startswith("first")
    described = await call("describe_workflow", name=f"job:{first.workflow_id}")
    needed = [each.name for each in described.parameters if each.needed]
    assert not needed or name == "new.png"
    again = f"job:{first.workflow_id}"
    many = await call("submit_workflow", workflow=again, matrix={"filename_prefix": ["a", "b"]})
    state = await call("wait_for_workflow", workflow_id=many.workflow_id, timeout_s=20)
    assert (state.status, state.output_count) == ("completed", 2)
