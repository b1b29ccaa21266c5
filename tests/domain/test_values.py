"""Catalog and GPU values."""

import pytest

from comfy_mcp.domain.catalog import V1_MODEL_FOLDERS, OutputFile, OutputKind, Page, kind_of_file
from comfy_mcp.domain.gpu import GpuDevice, GpuSample, GpuSource


@pytest.mark.parametrize(
    ("filename", "kind"),
    [
        ("a_00001_.png", OutputKind.IMAGE),
        ("anim.WEBP", OutputKind.IMAGE),
        ("clip.mp4", OutputKind.VIDEO),
        ("song.flac", OutputKind.AUDIO),
        ("x.latent", OutputKind.LATENT),
        ("notes.txt", OutputKind.TEXT),
        ("shape.glb", OutputKind.MODEL3D),
        ("archive.tar.gz", OutputKind.FILE),
        ("no_suffix", OutputKind.FILE),
        ("", OutputKind.FILE),
        ("ends.with.", OutputKind.FILE),
    ],
)
def test_a_files_kind_is_read_off_its_suffix(filename: str, kind: OutputKind) -> None:
    assert kind_of_file(filename) is kind


def test_the_contracts_five_model_types_name_comfyuis_folders() -> None:
    assert set(V1_MODEL_FOLDERS) == {"checkpoints", "loras", "vae", "controlnet", "upscale"}
    assert V1_MODEL_FOLDERS["upscale"] == "upscale_models"


def test_output_files_are_values() -> None:
    one = OutputFile(kind=OutputKind.IMAGE, filename="a.png")
    assert len({one, OutputFile(kind=OutputKind.IMAGE, filename="a.png")}) == 1
    assert one.folder_type == "output"


def test_the_last_page_has_no_cursor() -> None:
    assert Page(items=(1, 2)).next_cursor is None


def test_no_gpu_is_a_sample_like_any_other() -> None:
    nothing = GpuSample(source=GpuSource.NONE, devices=(), at_ms=1, reason="no driver")
    assert not nothing.available
    device = GpuDevice(index=0, name="card")
    assert GpuSample(source=GpuSource.NVML, devices=(device,), at_ms=1).available
