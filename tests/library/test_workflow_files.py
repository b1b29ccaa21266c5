"""Workflow files: inside the allowed folders, regular, small, and strictly JSON."""

import os
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.library import WorkflowFiles, allowed_folders, parse_workflow_text
from comfy_mcp.library.path_guard import OpenFile, OutsideRoots, open_inside
from comfy_mcp.settings import Settings

LIMIT = 2048


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "allowed"
    folder.mkdir()
    return folder


@pytest.fixture
def files(root: Path) -> WorkflowFiles:
    return WorkflowFiles(Settings(workflow_roots=(root,), max_graph_bytes=LIMIT), timeout_s=30)


async def refusal(files: WorkflowFiles, path: str | Path) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        await files.read(path)
    return caught.value


async def test_reads_a_file_by_absolute_path(files: WorkflowFiles, root: Path) -> None:
    (root / "w.json").write_text('{"1": {"class_type": "EmptyImage"}}')
    assert await files.read(root / "w.json") == {"1": {"class_type": "EmptyImage"}}


async def test_a_relative_path_is_looked_for_under_each_root(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        (folder / "sub").mkdir(parents=True)
    (second / "sub" / "w.json").write_text('["second"]')
    files = WorkflowFiles(Settings(workflow_roots=(first, second)), timeout_s=30)
    assert await files.read("sub/w.json") == ["second"]
    (first / "sub" / "w.json").write_text('["first"]')
    assert await files.read("sub/w.json") == ["first"]


async def test_the_working_folder_is_the_default_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.json").write_text("{}")
    files = WorkflowFiles(Settings(), timeout_s=30)
    assert files.folders.roots == (tmp_path,)
    assert await files.read("w.json") == {}


async def test_a_link_that_stays_inside_is_followed(files: WorkflowFiles, root: Path) -> None:
    (root / "real.json").write_text("[1]")
    (root / "link.json").symlink_to(root / "real.json")
    assert await files.read("link.json") == [1]


async def test_a_root_may_itself_be_a_link(tmp_path: Path, root: Path) -> None:
    (root / "w.json").write_text("[2]")
    (tmp_path / "alias").symlink_to(root)
    files = WorkflowFiles(Settings(workflow_roots=(tmp_path / "alias",)), timeout_s=30)
    assert await files.read(tmp_path / "alias" / "w.json") == [2]
    assert await files.read(root / "w.json") == [2]


@pytest.mark.parametrize("path", ["../secret.json", "sub/../../secret.json", "/etc/passwd", "a\0b"])
async def test_a_path_out_of_the_roots_is_refused(files: WorkflowFiles, root: Path, path: str) -> None:
    (root.parent / "secret.json").write_text("{}")
    error = await refusal(files, path)
    assert error.code is ErrorCode.PATH_NOT_ALLOWED
    assert str(root) in error.message
    assert "COMFY_BRIDGE_WORKFLOW_ROOTS" in error.next_step


async def test_whether_a_file_outside_exists_is_not_told(files: WorkflowFiles, root: Path) -> None:
    (root.parent / "there.json").write_text("{}")
    there = await refusal(files, root.parent / "there.json")
    absent = await refusal(files, root.parent / "gone!.json")
    assert there.code is absent.code is ErrorCode.PATH_NOT_ALLOWED
    assert there.message.replace("there.json", "") == absent.message.replace("gone!.json", "")


async def test_a_link_out_of_the_roots_is_refused(files: WorkflowFiles, root: Path) -> None:
    (root.parent / "secret.json").write_text("{}")
    (root / "file.json").symlink_to(root.parent / "secret.json")
    (root / "folder").symlink_to(root.parent)
    for path in ("file.json", "folder/secret.json"):
        assert (await refusal(files, path)).code is ErrorCode.PATH_NOT_ALLOWED


async def test_a_loop_of_links_is_refused(files: WorkflowFiles, root: Path) -> None:
    (root / "a.json").symlink_to(root / "b.json")
    (root / "b.json").symlink_to(root / "a.json")
    assert (await refusal(files, "a.json")).code is ErrorCode.PATH_NOT_ALLOWED


async def test_a_folder_that_became_a_link_after_the_check_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The swap happens exactly between the check and the open."""
    (root / "sub").mkdir()
    (root / "sub" / "w.json").write_text('"inside"')
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "w.json").write_text('"secret"')
    real_open = os.open
    opened: list[int] = []

    def swap_then_open(path: str, flags: int) -> int:
        (root / "sub").rename(root.parent / "moved")
        (root / "sub").symlink_to(outside)
        opened.append(real_open(path, flags))
        return opened[0]

    monkeypatch.setattr(os, "open", swap_then_open)
    with pytest.raises(OutsideRoots):
        open_inside(root / "sub" / "w.json", (root,))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


async def test_a_name_too_long_is_unreadable_and_not_repeated_in_full(files: WorkflowFiles) -> None:
    error = await refusal(files, "x" * 5000)
    assert error.code is ErrorCode.PATH_UNREADABLE
    assert len(error.message) < 400


async def test_a_missing_file_is_unreadable(files: WorkflowFiles) -> None:
    error = await refusal(files, "none.json")
    assert error.code is ErrorCode.PATH_UNREADABLE
    assert "No such file" in error.message


async def test_a_pipe_does_not_hang(files: WorkflowFiles, root: Path) -> None:
    os.mkfifo(root / "pipe.json")
    error = await refusal(files, "pipe.json")
    assert error.code is ErrorCode.PATH_UNREADABLE
    assert "regular file" in error.message


async def test_folders_sockets_and_devices_are_not_read(
    files: WorkflowFiles, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "folder.json").mkdir()
    assert (await refusal(files, "folder.json")).code is ErrorCode.PATH_UNREADABLE
    monkeypatch.chdir(root)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.json")
        assert (await refusal(files, "s.json")).code is ErrorCode.PATH_UNREADABLE
    devices = WorkflowFiles(Settings(workflow_roots=(Path("/dev"),)), timeout_s=30)
    assert (await refusal(devices, "/dev/zero")).code is ErrorCode.PATH_UNREADABLE


async def test_a_file_over_the_limit_is_not_read(files: WorkflowFiles, root: Path) -> None:
    with (root / "huge.json").open("wb") as stream:
        stream.truncate(2**40)  # sparse: reading it would fill the memory
    error = await refusal(files, "huge.json")
    assert error.code is ErrorCode.TOO_LARGE
    assert error.details == {"size": 2**40, "limit": LIMIT}


async def test_a_file_that_grows_after_the_check_is_bounded(
    files: WorkflowFiles, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "grows.json"
    path.touch()

    def open_then_grow(wanted: Path, roots: Sequence[Path]) -> OpenFile:
        opened = open_inside(wanted, roots)
        path.write_bytes(b" " * (LIMIT + 1))
        return opened

    monkeypatch.setattr(allowed_folders, "open_inside", open_then_grow)
    error = await refusal(files, path)
    assert (error.code, error.details) == (ErrorCode.TOO_LARGE, {"limit": LIMIT})
    assert error.message == f"The workflow has more than {LIMIT} bytes, the limit."


@pytest.mark.parametrize(("head", "limit"), [(b"{", LIMIT), (b"\x89PNG\r\n\x1a\n", 3 * LIMIT)])
async def test_of_what_comes_in_parts_no_more_is_said_than_was_read(
    files: WorkflowFiles, head: bytes, limit: int
) -> None:
    asked = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal asked
        for part in (head, *[bytes(1000)] * 20):
            asked += 1
            yield part

    with pytest.raises(InvalidInput) as caught:
        await files.receive(parts(), 3 * LIMIT)
    assert asked == 2 + limit // 1000
    assert caught.value.message == f"The workflow has more than {limit} bytes, the limit."
    assert caught.value.details == {"limit": limit}


async def test_a_file_of_exactly_the_limit_is_read(files: WorkflowFiles, root: Path) -> None:
    (root / "fits.json").write_text('"' + "x" * (LIMIT - 2) + '"')
    assert await files.read("fits.json") == "x" * (LIMIT - 2)


async def test_broken_json_names_line_and_column(files: WorkflowFiles, root: Path) -> None:
    (root / "w.json").write_text('{\n  "1": }\n')
    error = await refusal(files, "w.json")
    assert error.code is ErrorCode.GRAPH_INVALID
    assert error.details == {"line": 2, "column": 8}
    assert "line 2, column 8" in error.message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "line 1"),
        ("<!DOCTYPE html>", "line 1"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "-Infinity"),
        ('{"a": 1e999}', "1e999"),
        ("\ud800", "Unicode"),
        (b'{"a": "\xff"}', "Unicode"),
        ("[" * 200_000, "nested"),
        ("9" * 5000, "digits"),
        ("{} {}", "Extra data"),
    ],
)
def test_what_is_not_json_is_refused(text: str | bytes, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as caught:
        parse_workflow_text(text, 10**6)
    assert caught.value.code is ErrorCode.GRAPH_INVALID


def test_the_text_is_measured_in_bytes() -> None:
    text = '"' + "ä" * 600 + '"'
    with pytest.raises(InvalidInput) as caught:
        parse_workflow_text(text, 1024)
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert parse_workflow_text(text, 1202) == "ä" * 600


def test_pairs_of_surrogates_a_byte_order_mark_and_duplicates_are_accepted(files: WorkflowFiles) -> None:
    assert files.parse('"\\ud83d\\ude00"') == "😀"
    assert files.parse(b"\xef\xbb\xbf[1.5]") == [1.5]
    assert files.parse('{"1": 1, "1": 2}') == {"1": 2}
