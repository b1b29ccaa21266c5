"""GET and POST /userdata: the files that ComfyUI's page keeps for its user, such as saved workflows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from aiohttp import web

from comfy_mcp.embedded.directories import OutsideDirectory
from comfy_mcp.embedded.state import State


class UserRoutes:
    def __init__(self, state: State) -> None:
        self._directories = state.directories
        self._root = state.directories.base / "user" / "default"

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/userdata", self.list),
            web.get("/userdata/{file}", self.read),
            web.post("/userdata/{file}", self.write),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """The files of a folder, as paths below it, or with `full_info` with their sizes and times."""
        query = request.rel_url.query
        if not query.get("dir"):
            return web.Response(status=400, text="Directory not provided")
        folder = self._inside(query["dir"])
        if folder is None:
            return web.Response(status=403, text="Invalid directory")
        if not await asyncio.to_thread(folder.is_dir):
            return web.Response(status=404, text="Directory not found")
        deep, full = (query.get(name, "").lower() == "true" for name in ("recurse", "full_info"))
        return web.json_response(await asyncio.to_thread(_listed, folder, deep=deep, full=full))

    async def read(self, request: web.Request) -> web.StreamResponse:
        path = self._inside(request.match_info["file"])
        if path is None:
            return web.Response(status=403)
        return web.FileResponse(path) if await asyncio.to_thread(path.is_file) else web.Response(status=404)

    async def write(self, request: web.Request) -> web.Response:
        name = request.match_info["file"]
        path = self._inside(name)
        if path is None:
            return web.Response(status=403)
        content = await request.read()
        await asyncio.to_thread(_write, path, content)
        return web.json_response(name)

    def _inside(self, name: str) -> Path | None:
        try:
            return self._directories.inside(self._root, name)
        except OutsideDirectory:
            return None


def _listed(folder: Path, *, deep: bool, full: bool) -> list[Any]:
    files = sorted(path for path in folder.glob("**/*" if deep else "*") if path.is_file())
    if not full:
        return [path.relative_to(folder).as_posix() for path in files]
    return [
        {"path": path.relative_to(folder).as_posix(), "size": stat.st_size, "modified": stat.st_mtime}
        for path in files
        for stat in (path.stat(),)
    ]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
