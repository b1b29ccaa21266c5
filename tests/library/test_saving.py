"""Outputs as files: under their true names, whole, and never over another file."""

import errno
import os
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.catalog import Output, OutputFile, OutputKind
from comfy_mcp.domain.errors import BridgeError, ErrorCode, InvalidInput, NotFound
from comfy_mcp.domain.ids import EngineId, JobId, NodeId, OutputId
from comfy_mcp.library import OutputFiles, saving
from comfy_mcp.library.allowed_folders import AllowedFolders
from comfy_mcp.library.saving import Saver, plain_name, save_in
from comfy_mcp.settings import load_settings


def output(
    name: str, *, kind: OutputKind = OutputKind.IMAGE, text: str | None = None, node: str | None = "9",
    digest: str | None = None,
) -> Output:  # fmt: skip
    return Output(
        id=OutputId("o"),
        job_id=JobId("j"),
        attempt=1,
        engine=EngineId("e"),
        file=OutputFile(kind=kind, filename=name, text=text, node=None if node is None else NodeId(node)),
        created_at=0,
        sha256=digest,
    )


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    folder = tmp_path / "engine"
    folder.mkdir()
    return folder


@pytest.fixture
def files(engine: Path) -> OutputFiles:
    return OutputFiles(load_settings(engine_urls="e=http://127.0.0.1:9", outputs_dir=engine), engines={})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    return root


@pytest.fixture
def saver(files: OutputFiles, root: Path) -> Saver:
    return Saver(AllowedFolders((root,)), files)


@pytest.mark.parametrize(
    ("item", "name"),
    [
        (output("ComfyUI_00001_.png"), "ComfyUI_00001_.png"),
        (output("../../etc/passwd"), "_.._etc_passwd"),
        (output("C:\\x?.png"), "C__x_.png"),
        (output(".. "), "image-node9"),
        (output("CON.png"), "_CON.png"),
        (output("nul"), "_nul"),
        (output("lpt1.tar.gz"), "_lpt1.tar.gz"),
        (output("constant.png"), "constant.png"),
        (output("x.png:stream"), "x.png_stream"),
        (output("x.png. . "), "x.png"),
        (output("x" * 300 + ".png"), "x" * 196 + ".png"),
        (output("", kind=OutputKind.TEXT, text="words"), "text-node9.txt"),
        (output("", kind=OutputKind.TEXT, text="words", node="1:2"), "text-node1_2.txt"),
        (output("", kind=OutputKind.FILE, node=None), "file-node0"),
    ],
)
def test_a_name_is_plain(item: Output, name: str) -> None:
    assert plain_name(item) == name


@given(st.text(max_size=300))
def test_any_name_stays_in_the_folder(name: str) -> None:
    plain = plain_name(output(name))
    assert plain not in {"", ".", ".."}
    assert Path(plain).name == plain
    assert len(plain.encode()) <= 255
    assert not set(plain) & set('/\\\0:*?"<>|')


async def save(files: OutputFiles, engine: Path, folder: Path, data: bytes, name: str = "a.png") -> str:
    (engine / name).write_bytes(data)
    (path,) = await save_in(files, [output(name)], folder)
    assert path.read_bytes() == data
    return path.name


@pytest.mark.parametrize("links", [True, False])
async def test_other_bytes_get_a_new_name_and_the_same_bytes_do_not(
    files: OutputFiles, engine: Path, root: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "no links here")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refused)
    contents = (b"one", b"two", b"one", b"three", b"two")
    assert [await save(files, engine, root, data) for data in contents] == [
        "a.png", "a-2.png", "a.png", "a-3.png", "a-2.png",
    ]  # fmt: skip
    assert sorted(each.name for each in root.iterdir()) == ["a-2.png", "a-3.png", "a.png"]


async def test_a_link_of_that_name_is_not_followed(
    files: OutputFiles, engine: Path, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(b"mine")
    (root / "a.png").symlink_to(outside)
    (root / "a-2.png").symlink_to(tmp_path / "nowhere.png")
    assert await save(files, engine, root, b"x") == "a-3.png"
    assert outside.read_bytes() == b"mine"
    assert not (tmp_path / "nowhere.png").exists()


@pytest.mark.parametrize(
    ("where", "saved"),
    [
        ("art", ["art/a.png", "art/b.webp"]),
        ("art/", ["art/a.png", "art/b.webp"]),
        (".", ["a.png", "b.webp"]),
        ("art/v1.2", ["art/v1.2/a.png", "art/v1.2/b.webp"]),
        ("art/fox.png", ["art/fox.png", "art/fox.webp"]),
        ("there.png", ["there.png/a.png", "there.png/b.webp"]),
        ("new.png/", ["new.png/a.png", "new.png/b.webp"]),
    ],
)
async def test_where_outputs_go(saver: Saver, engine: Path, root: Path, where: str, saved: list[str]) -> None:
    (root / "there.png").mkdir()
    for name in ("a.png", "b.webp"):
        (engine / name).write_bytes(name.encode())
    paths = await saver.save([output("a.png"), output("b.webp")], where)
    assert [str(path.relative_to(root)) for path in paths] == saved
    assert [path.read_bytes() for path in paths] == [b"a.png", b"b.webp"]
    absolute = await saver.check(where)
    assert await saver.save([output("a.png"), output("b.webp")], absolute) == paths


async def test_several_of_one_kind_get_numbers(saver: Saver, engine: Path, root: Path) -> None:
    outputs = [output(f"{n}.jpg") for n in range(3)]
    for each in outputs:
        (engine / each.file.filename).write_bytes(each.file.filename.encode())
    text = output("", kind=OutputKind.TEXT, text="words")
    paths = await saver.save([*outputs, text], "fox.jpeg")
    assert [path.name for path in paths] == ["fox.jpeg", "fox-2.jpeg", "fox-3.jpeg", "fox.txt"]


@pytest.mark.parametrize("where", ["..", "../x", "/etc", "a/../../x", "out", "~root/x", "\0"])
async def test_a_place_outside_the_folders_is_refused(
    saver: Saver, engine: Path, root: Path, tmp_path: Path, where: str
) -> None:
    (root / "out").symlink_to(tmp_path)
    (engine / "a.png").write_bytes(b"x")
    with pytest.raises(InvalidInput) as caught:
        await saver.save([output("a.png")], where)
    assert caught.value.code is ErrorCode.PATH_NOT_ALLOWED
    assert not (tmp_path / "a.png").exists()


async def test_what_is_gone_or_another_leaves_nothing(saver: Saver, engine: Path, root: Path) -> None:
    with pytest.raises(BridgeError):
        await saver.save([output("a.png")], "art")
    (engine / "a.png").write_bytes(b"other")
    with pytest.raises(NotFound, match="another file has this name now"):
        await saver.save([output("a.png", digest=sha256(b"mine").hexdigest())], "art")
    assert list((root / "art").iterdir()) == []


async def test_a_folder_that_cannot_be_written_is_said(saver: Saver, engine: Path, root: Path) -> None:
    (engine / "a.png").write_bytes(b"x")
    (root / "file").touch()
    with pytest.raises(InvalidInput, match="can't be written") as caught:
        await saver.save([output("a.png")], "file/below")
    assert caught.value.code is ErrorCode.PATH_UNREADABLE


@pytest.mark.parametrize(
    ("number", "first"), [(errno.ENOSPC, "Free disk space"), (errno.EACCES, "Choose a folder that you may")]
)
async def test_where_nothing_more_can_be_written_the_outputs_are_kept(
    saver: Saver, engine: Path, root: Path, monkeypatch: pytest.MonkeyPatch, number: int, first: str
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    (engine / "a.png").write_bytes(b"x")
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(InvalidInput, match="can't be written") as caught:
        await saver.save([output("a.png")], "art/")
    assert caught.value.next_step.startswith(first)
    assert caught.value.next_step.endswith(", and save again: the outputs are kept.")


async def test_names_end(saver: Saver, engine: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "NUMBERS", 3)
    for number in range(2):
        (engine / "a.png").write_bytes(bytes([number]))
        await saver.save([output("a.png")], ".")
    (engine / "a.png").write_bytes(b"x")
    with pytest.raises(InvalidInput, match="can't be written"):
        await saver.save([output("a.png")], ".")
