"""Models from folders and from engines: types, names, pages."""

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from comfy_mcp.domain.catalog import Model
from comfy_mcp.domain.errors import (
    BridgeError,
    EngineUnreachable,
    ErrorCode,
    InvalidInput,
    LimitExceeded,
    NotFound,
)
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.library import ModelLibrary, model_disk
from comfy_mcp.library.model_files import Scan, scan_models
from comfy_mcp.settings import Settings

FIVE = ("checkpoints", "loras", "vae", "controlnet", "upscale")


@dataclass
class FakeEngine:
    """An engine's model lists. `fault` is raised by everything; `hangs`: no answer at all."""

    folders: Mapping[str, Sequence[Model]] = field(default_factory=dict)
    fault: BridgeError | None = None
    hangs: bool = False
    asked: list[str] = field(default_factory=list)

    async def model_folders(self) -> Sequence[str]:
        self.asked.append("*")
        await self._fail()
        return list(self.folders)

    async def experiment_models(self, folder: str) -> Sequence[Model]:
        self.asked.append(folder)
        await self._fail()
        if folder not in self.folders:
            raise NotFound("no such folder", next_step="", code=ErrorCode.NOT_FOUND)
        return self.folders[folder]

    async def _fail(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault


def down() -> EngineUnreachable:
    return EngineUnreachable("refused", next_step="start it")


def offered(folder: str, *names: str, size: int | None = 10) -> tuple[Model, ...]:
    return tuple(Model(name=name, type=folder, size=size, modified_at=5_000) for name in names)


def library_of(
    models_dir: Path | None = None,
    folders: Mapping[str, Path] | None = None,
    timeout_s: float = 30,
    **engines: FakeEngine,
) -> ModelLibrary:
    named = {f"models_{kind}": folder for kind, folder in (folders or {}).items()}
    return ModelLibrary(
        Settings(models_dir=models_dir, **named),
        timeout_s=timeout_s,
        engines={EngineId(name): each for name, each in engines.items()},
    )


def write(path: Path, data: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


async def names_of(library: ModelLibrary, kind: str | None = None) -> list[str]:
    page = await library.list(type=kind, limit=1000)
    return [f"{model.type}:{model.name}" for model in page.items]


# ---------------------------------------------------------------------------- folders


async def test_names_are_what_a_loader_node_takes(tmp_path: Path) -> None:
    write(tmp_path / "checkpoints" / "sd15.safetensors", b"12345")
    write(tmp_path / "checkpoints" / "sub" / "deep" / "xl.CKPT")
    write(tmp_path / "checkpoints" / "notes.txt")
    write(tmp_path / "checkpoints" / "put_checkpoints_here")
    write(tmp_path / "checkpoints" / ".git" / "blob.bin")
    page = await library_of(tmp_path).list(type="checkpoints")
    assert [model.name for model in page.items] == ["sd15.safetensors", "sub/deep/xl.CKPT"]
    first = page.items[0]
    assert (first.type, first.size, first.sha256) == ("checkpoints", 5, None)
    modified = (tmp_path / "checkpoints" / "sd15.safetensors").stat().st_mtime_ns
    assert first.modified_at == modified // 1_000_000
    assert (page.total, page.next_cursor) == (2, None)


async def test_every_folder_is_a_type_and_the_contracts_five_always_are(tmp_path: Path) -> None:
    for folder in ("upscale_models", "embeddings", "custom_nodes", "configs", ".cache", "unet", "clip"):
        write(tmp_path / folder / "a.pt")
    write(tmp_path / "stray.safetensors")
    library = library_of(tmp_path)
    assert await library.types() == (*FIVE, "diffusion_models", "embeddings", "text_encoders")
    assert await names_of(library) == [
        "diffusion_models:a.pt",
        "embeddings:a.pt",
        "text_encoders:a.pt",
        "upscale:a.pt",
    ]


@pytest.mark.parametrize(
    "asked", ["upscale", "upscale_models", "upscale_model", "upscales", " Upscale ", "UPSCALE_MODELS"]
)
async def test_a_type_may_be_asked_for_by_its_folders_name_and_as_one_or_many(
    tmp_path: Path, asked: str
) -> None:
    write(tmp_path / "upscale_models" / "4x.pth")
    assert await names_of(library_of(tmp_path), asked) == ["upscale:4x.pth"]


async def test_old_and_new_folder_of_a_type_are_one_and_a_name_counts_once(tmp_path: Path) -> None:
    for path in ("unet/a.gguf", "unet/both.sft", "diffusion_models/both.sft", "diffusion_models/b.sft"):
        write(tmp_path / path)
    for asked in ("unet", "diffusion_models"):
        assert await names_of(library_of(tmp_path), asked) == [
            "diffusion_models:a.gguf",
            "diffusion_models:b.sft",
            "diffusion_models:both.sft",
        ]


async def test_a_type_of_the_contract_without_a_folder_is_empty(tmp_path: Path) -> None:
    assert (await library_of(tmp_path).list(type="vae")).items == ()


@pytest.mark.parametrize("asked", ["nosuch", "../loras", "", "configs", "custom_nodes"])
async def test_an_unknown_type_is_refused_with_those_there_are(tmp_path: Path, asked: str) -> None:
    write(tmp_path / "embeddings" / "a.pt")
    with pytest.raises(InvalidInput) as caught:
        await library_of(tmp_path).list(type=asked)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert caught.value.next_step == f"Use one of: {', '.join((*FIVE, 'embeddings'))}."


async def test_a_folder_of_its_own_takes_the_place_of_the_usual_one(tmp_path: Path) -> None:
    write(tmp_path / "models" / "loras" / "usual.safetensors")
    write(tmp_path / "models" / "vae" / "v.safetensors")
    write(tmp_path / "elsewhere" / "mine.safetensors")
    library = library_of(tmp_path / "models", {"loras": tmp_path / "elsewhere"})
    assert await names_of(library) == ["loras:mine.safetensors", "vae:v.safetensors"]


async def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    write(tmp_path / "store" / "real.safetensors")
    loras = tmp_path / "models" / "loras"
    (loras / "a" / "b").mkdir(parents=True)
    (loras / "file.safetensors").symlink_to(tmp_path / "store" / "real.safetensors")
    (loras / "folder").symlink_to(tmp_path / "store")
    (loras / "a" / "b" / "up").symlink_to(loras)
    (loras / "self").symlink_to(loras / "self")
    (loras / "nowhere.safetensors").symlink_to(tmp_path / "gone.safetensors")
    assert await names_of(library_of(tmp_path / "models")) == [
        "loras:file.safetensors",
        "loras:folder/real.safetensors",
    ]


async def test_what_is_no_file_or_has_no_unicode_name_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "loras" / "folder.safetensors").mkdir(parents=True)
    os.mkfifo(tmp_path / "loras" / "pipe.safetensors")
    (tmp_path / "loras" / os.fsdecode(b"\xff.safetensors")).touch()
    assert await names_of(library_of(tmp_path)) == []


async def test_a_change_shows_without_a_watcher_once_the_scan_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "vae" / "a.pt")
    library = library_of(tmp_path)
    assert await names_of(library) == ["vae:a.pt"]
    write(tmp_path / "vae" / "b.pt")
    assert await names_of(library) == ["vae:a.pt"]
    monkeypatch.setattr(model_disk, "UNWATCHED_TTL_S", 0.0)
    assert await names_of(library) == ["vae:a.pt", "vae:b.pt"]


async def test_a_disk_that_does_not_answer_says_so_and_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = 0
    release = threading.Event()

    def slow_scan(models_dir: Path | None, folders: Mapping[str, Path]) -> Scan:
        nonlocal scans
        scans += 1
        release.wait(60)
        return scan_models(models_dir, folders)

    write(tmp_path / "vae" / "a.pt")
    monkeypatch.setattr(model_disk, "scan_models", slow_scan)
    library = library_of(tmp_path, timeout_s=0.01)
    for _ in range(3):
        with pytest.raises(LimitExceeded) as caught:
            await library.list()
        assert caught.value.code is ErrorCode.PATH_UNREADABLE
        assert caught.value.retryable
    assert scans == 1
    release.set()
    async with asyncio.timeout(60):
        found: list[str] = []
        while not found:
            try:
                found = await names_of(library)
            except LimitExceeded:
                continue
    assert found == ["vae:a.pt"]
    assert scans == 1


# ---------------------------------------------------------------------------- pages


async def test_pages_join_to_the_whole_in_order(tmp_path: Path) -> None:
    for number in range(7):
        write(tmp_path / "loras" / f"ü{number}.safetensors")
        write(tmp_path / "vae" / f"v{number}.pt")
    library = library_of(tmp_path)
    whole = await names_of(library)
    joined: list[str] = []
    cursor = None
    pages = 0
    while True:
        page = await library.list(limit=4, cursor=cursor)
        assert page.total == 14
        joined += [f"{model.type}:{model.name}" for model in page.items]
        cursor = page.next_cursor
        pages += 1
        if cursor is None:
            break
    assert joined == whole == sorted(whole)
    assert pages == 4


async def test_a_page_goes_on_where_it_ended_although_files_came_and_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_disk, "UNWATCHED_TTL_S", 0.0)
    for name in "bdf":
        write(tmp_path / "vae" / f"{name}.pt")
    library = library_of(tmp_path)
    first = await library.list(limit=2)
    (tmp_path / "vae" / "d.pt").unlink()
    write(tmp_path / "vae" / "a.pt")
    write(tmp_path / "vae" / "e.pt")
    second = await library.list(limit=2, cursor=first.next_cursor)
    assert [model.name for model in second.items] == ["e.pt", "f.pt"]


async def test_the_search_is_a_part_of_the_name_in_any_case(tmp_path: Path) -> None:
    for name in ("SDXL/base.safetensors", "sdxl-vae.pt", "flux.sft"):
        write(tmp_path / "vae" / name)
    page = await library_of(tmp_path).list(search="sdxl", limit=1)
    assert ([model.name for model in page.items], page.total) == (["SDXL/base.safetensors"], 2)


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "!!!", "bm90IGpzb24", "WzFd", "WyJhIiwxXQ", "eyJhIjoxfQ", "ä", "W1tbW1s"],
)
async def test_a_cursor_of_someone_elses_is_refused(tmp_path: Path, cursor: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await library_of(tmp_path).list(cursor=cursor)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_page_of_nothing_is_refused(tmp_path: Path, limit: int) -> None:
    with pytest.raises(InvalidInput, match="limit"):
        await library_of(tmp_path).list(limit=limit)


# ---------------------------------------------------------------------------- engines
