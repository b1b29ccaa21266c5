"""GET /v1/comfyui/models."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract_v1.shapes import assert_problem
from tests.support.sidecar import Sidecar, open_sidecar

MODELS = "/v1/comfyui/models"
TYPES = ("checkpoints", "loras", "vae", "controlnet", "upscale")
MANY = 260
"""More than any page of ours: the contract knows no pages."""


@pytest.fixture
async def v1(tmp_path: Path) -> AsyncIterator[Sidecar]:
    """A models folder as ComfyUI has it; upscalers are in `upscale_models` there."""
    for kind in TYPES:
        folder = tmp_path / "models" / ("upscale_models" if kind == "upscale" else kind)
        folder.mkdir(parents=True)
        (folder / f"{kind}.safetensors").write_bytes(kind.encode())
    for number in range(MANY):
        (tmp_path / "models" / "loras" / f"many-{number:03}.safetensors").write_bytes(b"x")
    async with open_sidecar(tmp_path, models_dir=tmp_path / "models") as sidecar:
        yield sidecar


@pytest.mark.parametrize("kind", TYPES)
async def test_each_type_lists_its_models_with_name_type_size_and_hash(v1: Sidecar, kind: str) -> None:
    answer = await v1("GET", f"{MODELS}?type={kind}")
    assert answer.status == 200
    [model] = [item for item in answer.body["models"] if not item["name"].startswith("many-")]
    assert set(model) >= {"name", "type", "size", "hash"}
    assert (model["name"], model["type"], model["size"]) == (f"{kind}.safetensors", kind, len(kind))
    assert model["hash"] in {None, hashlib.sha256(kind.encode()).hexdigest()}, "null until it is computed"


async def test_without_a_type_all_are_listed(v1: Sidecar) -> None:
    models = (await v1("GET", MODELS)).body["models"]
    assert {item["type"] for item in models} == set(TYPES)
    assert len(models) == MANY + len(TYPES)


async def test_a_list_is_never_cut_unless_a_limit_was_given(v1: Sidecar) -> None:
    assert len((await v1("GET", f"{MODELS}?type=loras")).body["models"]) == MANY + 1
    assert len((await v1("GET", f"{MODELS}?type=loras&limit=2")).body["models"]) == 2


@pytest.mark.parametrize("kind", ["nope", "..", "checkpoints/x", "%00", "x" * 500])
async def test_a_type_that_does_not_exist_is_400(v1: Sidecar, kind: str) -> None:
    assert_problem(await v1("GET", MODELS, params={"type": kind}), 400, "Bad Request")
