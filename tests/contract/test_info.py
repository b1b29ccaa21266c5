"""What an engine says of itself, its nodes and its models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comfy_mcp.embedded.nodes import NODE_TYPES
from tests.contract.graphs import Json
from tests.contract.harness import RECORDED, Engine, bare
from tests.support.real_comfyui_steps import version

OWN_NODES = {"BridgeSlowImage", "BridgeModelImage", "BridgeFail"}


def _facts(described: Json) -> Json:
    """What programs read of a class: all but the texts for people, and the files that happen to be there."""
    facts: Json = bare({key: value for key, value in described.items() if key != "description"})
    if described["name"] == "LoadImage":
        facts["input"]["required"]["image"][0] = []
    return facts


def test_the_record_covers_every_shared_node() -> None:
    assert set(NODE_TYPES) - OWN_NODES == set(json.loads((RECORDED / "object_info.json").read_text()))


async def test_classes_are_described_as_recorded_from_comfyui(engine: Engine) -> None:
    """Names, types, bounds, defaults and choices, from /object_info of 0.3.75."""
    recorded = json.loads((RECORDED / "object_info.json").read_text())
    described = await engine.get("/object_info")
    assert set(recorded) <= set(described)
    assert {name: _facts(described[name]) for name in recorded} == recorded or not engine.is_0_3_75


async def test_one_class_is_described_as_among_all(engine: Engine) -> None:
    described = await engine.get("/object_info")
    assert await engine.get("/object_info/EmptyImage") == {"EmptyImage": described["EmptyImage"]}
    assert await engine.get("/api/object_info/SaveImage") == {"SaveImage": described["SaveImage"]}


async def test_an_unknown_class_is_an_empty_object(engine: Engine) -> None:
    assert await engine.get("/object_info/NoSuch") == {}


async def test_load_image_offers_the_files_that_are_there(engine: Engine) -> None:
    (engine.base / "input" / "zz-offered.png").write_bytes(b"not looked into")
    described = await engine.get("/object_info/LoadImage")
    assert "zz-offered.png" in described["LoadImage"]["input"]["required"]["image"][0]


async def test_the_folders_of_models(engine: Engine) -> None:
    known = [
        "checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models", "clip_vision",
        "style_models", "embeddings", "diffusers", "vae_approx", "controlnet", "gligen", "upscale_models",
        "latent_upscale_models", "custom_nodes", "hypernetworks", "photomaker", "classifiers",
        "model_patches", "audio_encoders",
    ]  # fmt: skip
    folders = await engine.get("/models")
    assert folders == known or (not engine.is_0_3_75 and set(known) <= set(folders))
    described = await engine.get("/experiment/models")
    assert [entry["name"] for entry in described] == [
        name for name in folders if name not in {"configs", "custom_nodes"}
    ]
    assert str(engine.base / "models" / "loras") in described[1]["folders"]


async def test_the_models_in_a_folder(engine: Engine) -> None:
    folder = engine.base / "models" / "loras" / "style"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ink.safetensors").write_bytes(b"12345")
    (folder / "readme.txt").write_bytes(b"no model")
    assert await engine.get("/models/loras") == ["style/ink.safetensors"]
    (described,) = await engine.get("/experiment/models/loras")
    assert set(described) == {"name", "pathIndex", "modified", "created", "size"}
    assert (described["name"], described["pathIndex"], described["size"]) == ("style/ink.safetensors", 0, 5)


async def test_a_folder_without_models_is_empty_and_an_unknown_one_is_not_found(engine: Engine) -> None:
    assert await engine.get("/models/gligen") == []
    assert await engine.get("/experiment/models/gligen") == []
    for path in ("/models/nosuch", "/experiment/models/nosuch", "/models/gligen/"):
        answer = await engine.request("GET", path)
        assert (answer.status, answer.content) == (404, b"")


async def test_embeddings_are_named_without_their_suffix(engine: Engine) -> None:
    folder = engine.base / "models" / "embeddings"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mood.pt").write_bytes(b"")
    assert await engine.get("/embeddings") == ["mood"]


async def test_features(engine: Engine) -> None:
    features, known = (
        await engine.get("/features"),
        {"supports_preview_metadata": True, "max_upload_size": 104857600},
    )
    assert features | known == features
    assert features == known or not engine.is_0_3_75


async def test_system_stats_have_the_system_and_its_devices(engine: Engine) -> None:
    stats = await engine.get("/system_stats")
    assert set(stats) == {"system", "devices"}
    assert {
        "os", "ram_total", "ram_free", "comfyui_version", "required_frontend_version", "python_version",
        "installed_templates_version", "required_templates_version", "pytorch_version", "embedded_python",
        "argv",
    } <= set(stats["system"])  # fmt: skip
    assert stats["system"]["comfyui_version"].startswith(version() if engine.name == "real" else "0.3.75")
    assert stats["system"]["ram_total"] > stats["system"]["ram_free"] > 0
    (device,) = stats["devices"]
    assert set(device) == {
        "name", "type", "index", "vram_total", "vram_free", "torch_vram_total", "torch_vram_free",
    }  # fmt: skip
    assert device["type"] == "cpu"


async def test_only_comfyui_passes_for_comfyui(engine: Engine) -> None:
    """The one test whose answer must differ: the embedded engine says what it is, in three places."""
    system = (await engine.get("/system_stats"))["system"]
    if engine.name == "real":
        assert system["comfyui_version"] == version()
        assert "embedded_engine" not in system
        return
    assert system["comfyui_version"] == "0.3.75+comfy-bridge.embedded"
    assert system["embedded_engine"]["is_comfyui"] is False
    assert "not ComfyUI" in (await engine.request("GET", "/")).text


@pytest.mark.parametrize("path", ["/nosuch", "/api/nosuch", "/interrupt", "/queue/", "/api/jobs"])
async def test_unknown_pages_are_empty_404s(engine: Engine, path: str) -> None:
    answer = await engine.request("GET", path)
    if path == "/api/jobs" and not engine.is_0_3_75:  # since 0.5.1
        assert answer.status in {200, 404}
        return
    assert (answer.status, answer.content_type, answer.content) == (404, "application/octet-stream", b"")


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/queue"), ("POST", "/system_stats"), ("PUT", "/prompt"), ("POST", "/nosuch")],
)
async def test_other_methods_are_405s(engine: Engine, method: str, path: str) -> None:
    answer = await engine.request(method, path)
    assert (answer.status, answer.text) == (405, "405: Method Not Allowed")


async def test_options_are_answered_with_nothing(engine: Engine) -> None:
    answer = await engine.request("OPTIONS", "/prompt")
    assert (answer.status, answer.content) == (200, b"")


@pytest.mark.parametrize("body", [{}, {"unload_models": True}, {"free_memory": True}, {"no_such": 1}])
async def test_free_is_answered_with_nothing(engine: Engine, body: Any) -> None:
    answer = await engine.post("/free", body)
    assert (answer.status, answer.content) == (200, b"")
