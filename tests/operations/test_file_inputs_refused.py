"""What a submit names that is no input: refused before the job is queued, with the node and the reason."""

import os
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.access import DEFAULT_KEY_RIGHTS
from comfy_mcp.domain.errors import ErrorCode, InvalidGraph, InvalidInput
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.library import allowed_folders
from comfy_mcp.library.path_guard import OpenFile, open_inside
from comfy_mcp.operations import ids
from comfy_mcp.operations.context import Caller
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import Settings
from tests.operations.conftest import Bench
from tests.operations.test_file_inputs import load, ran, refusal, refused, root

__all__ = ["root"]


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("nope.png", ErrorCode.GRAPH_INVALID, "no file 'nope.png'"),
        ("nope.png [output]", ErrorCode.GRAPH_INVALID, "no file 'nope.png [output]'"),
        ("s3://bucket/cat.png", ErrorCode.GRAPH_INVALID, "s3://"),
        ("/etc/hostname", ErrorCode.PATH_NOT_ALLOWED, "outside the allowed folders"),
        ("../outside.png", ErrorCode.PATH_NOT_ALLOWED, "outside the allowed folders"),
        ("C:\\Users\\ann\\cat.png", ErrorCode.PATH_UNREADABLE, "can't be read"),
        ("./nope.png", ErrorCode.PATH_UNREADABLE, "can't be read"),
        ("./notes.txt", ErrorCode.INVALID_ARGUMENT, "text/plain; the input reads image"),
        ("./empty.png", ErrorCode.INVALID_ARGUMENT, "is empty"),
        ("./no.png", ErrorCode.INVALID_ARGUMENT, "is no image/png: its first bytes are b'hello'"),
        ("data:image/png;base64,aGVsbG8=", ErrorCode.INVALID_ARGUMENT, "is no image/png"),
        ("data:x/y;base64,aGVsbG8=", ErrorCode.INVALID_ARGUMENT, "is no image that is known here"),
        ("./a\x00b.png", ErrorCode.PATH_NOT_ALLOWED, "has a NUL character"),
        ("output:zzzz", ErrorCode.NOT_FOUND, "Output zzzz not found"),
        ("http:///cat.png", ErrorCode.PATH_UNREADABLE, "http:///cat.png can't be read: it is no URL"),
        ("data:image/png;base64,?", ErrorCode.INVALID_ARGUMENT, "can't be read"),
        ("data:image/png", ErrorCode.INVALID_ARGUMENT, "can't be read"),
        ("output:00000000-0000-0000-0000-000000000000", ErrorCode.NOT_FOUND, "not found"),
        (f"bridge-files/{'0' * 64}.png", ErrorCode.OUTPUT_GONE, "no longer kept"),
        ("bridge-files/../x.png", ErrorCode.GRAPH_INVALID, "no file"),
        ("COM1", ErrorCode.GRAPH_INVALID, "no file"),
        ("a\x00b.png", ErrorCode.GRAPH_INVALID, "no file"),
    ],
)
async def test_what_is_no_file_is_refused_before_it_is_queued(
    call: Bench, root: Path, name: str, code: ErrorCode, said: str
) -> None:
    (root / "notes.txt").write_text("hello")
    (root / "no.png").write_text("hello")
    (root / "empty.png").touch()
    error = await refusal(call, name)
    assert (error.code, said in error.message) == (code, True), error
    assert error.message.startswith("Node 1 (LoadImage), input 'image': ")
    assert error.next_step


async def test_a_file_beyond_a_limit_is_named_with_its_node(settings: Settings, root: Path) -> None:
    async with open_runtime(settings.model_copy(update={"max_upload_bytes": 10})) as services:
        call = Bench(services, Caller(client=ClientId("tester"), surface="test"))
        error = await refusal(call, "./cat.png")
    assert error.code is ErrorCode.TOO_LARGE
    assert error.message.startswith("Node 1 (LoadImage), input 'image'")


async def test_all_files_that_cannot_be_used_are_named_at_once(call: Bench, root: Path) -> None:
    graph = load("nope.png")
    for number in range(3, 40, 2):
        graph |= {
            str(number): {
                "class_type": "LoadImage",
                "inputs": {"image": f"./{'x' * 99}{number}.png", "odd": 1},
            },
            f"{number}s": {"class_type": "PreviewImage", "inputs": {"images": [str(number), 0]}},
        }
    with pytest.raises(InvalidInput) as caught:
        await call("submit_workflow", workflow=graph)
    error = caught.value
    assert error.message.startswith("Node 1 (LoadImage), input 'image'")
    told = error.message.count("Node ")
    assert 2 < told < 20
    assert error.message.endswith(f" And {20 - told} more.")
    assert isinstance(error, InvalidGraph)
    assert [(each.node_id, each.input_name) for each in error.problems] == [
        (str(number), "image") for number in range(1, 40, 2)
    ]
    assert not any("not in the list" in text for text in error.warnings), "the fault says it"
    assert len(error.warnings) >= 19, "the other warnings are there: the inputs that the class does not have"
    two = {**load("nope.png"), "3": load("./a.png")["1"], "4": load("")["2"]}
    two["4"]["inputs"]["images"] = ["3", 0]
    with pytest.raises(InvalidInput, match=r"Node 1 .*no file 'nope.png'.* Node 3 .*can't be read") as caught:
        await call("submit_workflow", workflow=two)
    assert "more" not in caught.value.message
    broken = {**load("nope.png"), "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 9]}}}
    assert "Output node 3 will not run" in (await refused(call, broken)).warned


def other(class_type: str, **inputs: Any) -> dict[str, Any]:
    """Nodes that are wrong."""
    return {
        "8": {"class_type": class_type, "inputs": inputs},
        "9": {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}},
    }


@pytest.mark.parametrize(
    "wrong",
    [
        other("NoSuchClass"),
        other("LoadImage", image="nope.png"),
        {"2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 9]}}},
    ],
    ids=["a class", "a file", "a link"],
)
async def test_a_file_that_is_there_is_not_doubted_beside_another_mistake(
    call: Bench, root: Path, wrong: dict[str, Any]
) -> None:
    error = await refused(call, {**load("cat.png"), **wrong})
    assert "cat.png" not in f"{error} {error.warned}", error.warned
    error = await refused(call, {**load("gone.png"), **wrong})
    assert "gone.png" in f"{error} {error.warned}"


async def test_over_http_a_path_is_refused_with_what_works_there(call: Bench, root: Path) -> None:
    caller = Caller(client=ClientId("h"), surface="http", may_read_files=False)
    call = Bench(call.services, caller)
    for name in ("./cat.png", "cat.png"):
        error = await refusal(call, name)
        assert "POST /v1/comfyui/inputs" in error.next_step
        assert str(root) not in str(error)


async def test_another_clients_output_is_not_found(call: Bench, root: Path) -> None:
    _, made = await ran(call, "cat.png")
    other = Caller(client=ClientId("o"), surface="http", may_read_files=False, rights=DEFAULT_KEY_RIGHTS)
    for name in ("output:{}", "bridge-files/output-{}"):
        error = await refusal(Bench(call.services, other), name.format(made.outputs[0].output_id))
        assert error.code is ErrorCode.NOT_FOUND


async def test_an_empty_name_is_the_engines_to_refuse(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=load(""))
    end = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=20)
    assert (end.status, end.failure.kind) == ("failed", "validation")


async def test_part_of_an_id_that_several_outputs_have_is_no_choice(
    call: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def two(*_: Any) -> list[str]:
        return ["3902308d-1", "3902308d-2"]

    monkeypatch.setattr(ids, "_starting", two)
    error = await refusal(call, "output:3902308d")
    assert "several ids start with" in error.message


@pytest.mark.parametrize("breaks", [OSError(5, "Input/output error"), TimeoutError()])
async def test_a_path_that_breaks_off_while_it_is_read_is_the_callers_to_know(
    call: Bench, root: Path, monkeypatch: pytest.MonkeyPatch, breaks: OSError
) -> None:
    class Breaks(FileIO):
        def read(self, *_: Any) -> Any:
            raise breaks

    def opens(*arguments: Any) -> OpenFile:
        file = open_inside(*arguments)
        with file.stream as stream:
            return OpenFile(Breaks(os.dup(stream.fileno())), file.found)

    monkeypatch.setattr(allowed_folders, "open_inside", opens)
    with pytest.raises(InvalidInput) as caught:
        await call("submit_workflow", workflow=load("./cat.png"))
    assert caught.value.code is ErrorCode.PATH_UNREADABLE
    assert "can't be read: " in caught.value.message
