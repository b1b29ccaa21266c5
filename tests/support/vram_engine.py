"""The embedded engine with a GPU that only its /system_stats knows of: what is free there is the test's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

from comfy_mcp.embedded.routes_info import InfoRoutes
from tests.support.gpus import GIB


@dataclass
class Vram:
    """GiB: all there is, what other programs use, what the engine's own torch holds. `asked` counts."""

    total: int = 24
    others: int = 0
    held: int = 1
    name: str = "Fake A"
    asked: int = 0

    def stats(self) -> dict[str, Any]:
        """ComfyUI's shape. Nothing of what torch holds is free again."""
        self.asked += 1
        device = {
            "name": f"cuda:0 {self.name} : cudaMallocAsync",
            "type": "cuda",
            "index": 0,
            "vram_total": self.total * GIB,
            "vram_free": (self.total - self.others - self.held) * GIB,
            "torch_vram_total": self.held * GIB,
            "torch_vram_free": 0,
        }
        return {"system": {"comfyui_version": "0.0.0"}, "devices": [device]}

    def play(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every embedded engine that is opened from now on speaks of it."""

        async def system_stats(_routes: InfoRoutes, _request: web.Request) -> web.Response:
            return web.json_response(self.stats())

        monkeypatch.setattr(InfoRoutes, "system_stats", system_stats)


def play_each(monkeypatch: pytest.MonkeyPatch, gpus: Mapping[str, Vram]) -> None:
    """Engines with unlike GPUs, by the names of their folders."""

    async def system_stats(routes: InfoRoutes, _request: web.Request) -> web.Response:
        name = routes._state.directories.base.name
        return web.json_response(gpus[name].stats())

    monkeypatch.setattr(InfoRoutes, "system_stats", system_stats)
