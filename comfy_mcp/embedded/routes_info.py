"""What the engine is and has: nodes, models, statistics, features."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

from comfy_mcp.embedded.config import COMPATIBLE_WITH
from comfy_mcp.embedded.state import State

ENGINE_NAME = "comfy-mcp-bridge embedded engine"
ENGINE_VERSION = f"{COMPATIBLE_WITH}+comfy-bridge.embedded"

MODEL_FOLDERS = (
    "checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models", "clip_vision",
    "style_models", "embeddings", "diffusers", "vae_approx", "controlnet", "gligen", "upscale_models",
    "latent_upscale_models", "custom_nodes", "hypernetworks", "photomaker", "classifiers",
    "model_patches", "audio_encoders",
)  # fmt: skip
_NOT_MODELS = frozenset({"configs", "custom_nodes"})
_MODEL_SUFFIXES = frozenset({".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"})


class InfoRoutes:
    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/object_info", self.object_info),
            web.get("/object_info/{node_class}", self.object_info_of),
            web.get("/models", self.models),
            web.get("/models/{folder}", self.models_in),
            web.get("/experiment/models", self.experiment_models),
            web.get("/experiment/models/{folder}", self.experiment_models_in),
            web.get("/embeddings", self.embeddings),
            web.get("/extensions", self.extensions),
            web.get("/system_stats", self.system_stats),
            web.get("/features", self.features),
            web.post("/free", self.free),
        ]

    async def object_info(self, _: web.Request) -> web.Response:
        recorded = self._state.config.object_info
        if recorded is not None:
            return web.json_response(recorded)
        nodes = self._state.nodes.values()
        return web.json_response({node.name: node.describe(self._state.directories) for node in nodes})

    async def object_info_of(self, request: web.Request) -> web.Response:
        """One class, or an empty object for a class that there is not."""
        name, recorded = request.match_info["node_class"], self._state.config.object_info
        if recorded is not None:
            return web.json_response({name: recorded[name]} if name in recorded else {})
        node = self._state.nodes.get(name)
        return web.json_response({} if node is None else {node.name: node.describe(self._state.directories)})

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response(list(MODEL_FOLDERS))

    async def models_in(self, request: web.Request) -> web.Response:
        folder = request.match_info["folder"]
        if folder not in MODEL_FOLDERS:
            return web.Response(status=404)
        return web.json_response([name for name, _ in self._model_files(folder)])

    async def experiment_models(self, _: web.Request) -> web.Response:
        root = self._state.directories.models
        folders = [name for name in MODEL_FOLDERS if name not in _NOT_MODELS]
        return web.json_response([{"name": name, "folders": [str(root / name)]} for name in folders])

    async def experiment_models_in(self, request: web.Request) -> web.Response:
        folder = request.match_info["folder"]
        if folder not in MODEL_FOLDERS:
            return web.Response(status=404)
        return web.json_response([_described(name, path) for name, path in self._model_files(folder)])

    async def embeddings(self, _: web.Request) -> web.Response:
        return web.json_response(
            [str(Path(name).with_suffix("")) for name, _ in self._model_files("embeddings")]
        )

    async def extensions(self, _: web.Request) -> web.Response:
        return web.json_response([])

    async def system_stats(self, _: web.Request) -> web.Response:
        """ComfyUI's shape, and three places that say that this is not ComfyUI."""
        total, free = _memory()
        device = {
            "name": "none (embedded engine: no models, no GPU)",
            "type": "cpu",
            "index": None,
            "vram_total": total,
            "vram_free": free,
            "torch_vram_total": total,
            "torch_vram_free": free,
        }
        system = {
            "os": os.name,
            "ram_total": total,
            "ram_free": free,
            "comfyui_version": ENGINE_VERSION,
            "required_frontend_version": None,
            "installed_templates_version": None,
            "required_templates_version": None,
            "python_version": sys.version,
            "pytorch_version": "none",
            "embedded_python": False,
            "argv": ["comfy_mcp.embedded"],
            "embedded_engine": {"name": ENGINE_NAME, "version": ENGINE_VERSION, "is_comfyui": False},
        }
        return web.json_response({"system": system, "devices": [device]})

    async def features(self, _: web.Request) -> web.Response:
        return web.json_response(self._state.hub.features)

    async def free(self, request: web.Request) -> web.Response:
        """free_memory empties the cache of node outputs; there are no models to unload."""
        body = await request.json()
        if body.get("free_memory"):
            self._state.queue.set_flag("free_memory")
        return web.Response()

    def _model_files(self, folder: str) -> list[tuple[str, Path]]:
        root = self._state.directories.models / folder
        found = (
            path for path in root.rglob("*") if path.suffix.lower() in _MODEL_SUFFIXES and path.is_file()
        )
        return sorted((path.relative_to(root).as_posix(), path) for path in found)


def _described(name: str, path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {
        "name": name,
        "pathIndex": 0,
        "modified": stat.st_mtime,
        "created": stat.st_ctime,
        "size": stat.st_size,
    }


def _memory() -> tuple[int, int]:
    """(total, available) bytes of RAM; zeros where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0, 0
    values = dict(line.split(":", 1) for line in lines)
    return tuple(int(values[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))  # type: ignore[return-value]
