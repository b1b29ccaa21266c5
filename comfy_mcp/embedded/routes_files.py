"""GET /view and POST /upload/image: files in, files out, never outside their folders."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import mimetypes
import os
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from comfy_mcp.embedded.directories import OutsideDirectory, content_hash, split_annotation
from comfy_mcp.embedded.state import State

_PREVIEW_FORMATS = ("webp", "jpeg")
_DEFAULT_QUALITY = 90
_ACTIVE_CONTENT = frozenset(
    {"text/html", "text/html-sandboxed", "application/xhtml+xml", "text/javascript", "text/css"}
)


class FileRoutes:
    def __init__(self, state: State) -> None:
        self._directories = state.directories

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/view", self.view),
            web.post("/upload/image", self.upload_image),
            web.post("/upload/mask", self.upload_mask),
        ]

    async def view(self, request: web.Request) -> web.StreamResponse:
        """A file, or a preview of it, or one kind of its channels. Empty bodies on refusal, as in ComfyUI."""
        query = request.rel_url.query
        if "filename" not in query:
            return web.Response(status=404)
        name, annotated_kind = split_annotation(query["filename"])
        root = self._directories.of(annotated_kind or str(query.get("type", "output")))
        if not name or name.startswith("/") or ".." in name or root is None:
            return web.Response(status=400)
        try:
            folder = self._directories.inside(root, query.get("subfolder", ""))
        except OutsideDirectory:
            return web.Response(status=403)
        path = folder / Path(name).name
        if not await asyncio.to_thread(os.path.isfile, path):  # False too where it may not look
            return web.Response(status=404)
        headers = {"Content-Disposition": f'filename="{path.name}"'}
        channel = query.get("channel", "rgba")
        if "preview" in query:
            wanted, _, quality = query["preview"].partition(";")
            kind = wanted if wanted in _PREVIEW_FORMATS else "webp"
            level = int(quality) if quality.isdigit() else _DEFAULT_QUALITY
            body = await asyncio.to_thread(_preview, path, kind, level, keep_alpha="a" in channel)
            return web.Response(body=body, content_type=f"image/{kind}", headers=headers)
        if channel in {"rgb", "a"}:
            body = await asyncio.to_thread(_channel, path, channel)
            return web.Response(body=body, content_type="image/png", headers=headers)
        content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        if content_type in _ACTIVE_CONTENT:
            content_type = "application/octet-stream"  # A stored page must not run in this origin.
        return web.FileResponse(path, headers={**headers, "Content-Type": content_type})

    async def upload_image(self, request: web.Request) -> web.Response:
        form = await request.post()
        upload = form.get("image")
        if not isinstance(upload, web.FileField):
            return web.Response(status=400)
        return await self._store(form, upload.filename, upload.file.read())

    async def upload_mask(self, request: web.Request) -> web.Response:
        """Give an image that is already here the transparency of the uploaded one.

        Without such an image the upload is stored as it is, as in ComfyUI.
        """
        form = await request.post()
        upload = form.get("image")
        if not isinstance(upload, web.FileField):
            return web.Response(status=400)
        content = upload.file.read()
        original = self._original(json.loads(str(form["original_ref"])))
        if original is not None:
            content = await asyncio.to_thread(_with_alpha, original, content)
        return await self._store(form, upload.filename, content)

    def _original(self, reference: Mapping[str, str]) -> Path | None:
        name, annotated_kind = split_annotation(reference["filename"])
        root = self._directories.of(annotated_kind or reference.get("type", "output"))
        if not name or name.startswith("/") or ".." in name or root is None:
            return None
        try:
            path = self._directories.inside(root, reference.get("subfolder", "")) / Path(name).name
        except OutsideDirectory:
            return None
        return path if path.is_file() else None

    async def _store(
        self, form: Mapping[str, str | bytes | bytearray | web.FileField], name: str, content: bytes
    ) -> web.Response:
        kind = form.get("type", "input")
        root = self._directories.of(str(kind))
        if root is None:
            raise ValueError(f"There is no folder of type {kind!r}.")  # ComfyUI answers 500.
        subfolder = str(form.get("subfolder", ""))
        if not name or Path(name).name != name:
            return web.Response(status=400)
        try:
            folder = self._directories.inside(root, subfolder)
        except OutsideDirectory:
            return web.Response(status=400)
        overwrite = str(form.get("overwrite", "")) in {"true", "1"}
        stored = await asyncio.to_thread(_write, folder, name, content, overwrite=overwrite)
        return web.json_response({"name": stored, "subfolder": subfolder, "type": kind})


def _write(folder: Path, name: str, content: bytes, *, overwrite: bool) -> str:
    """Store bytes under the name or, if other bytes have it, under `name (1)`. The name used."""
    folder.mkdir(parents=True, exist_ok=True)
    if overwrite:
        (folder / name).write_bytes(content)
        return name
    digest = hashlib.sha256(content).hexdigest()
    stem, suffix = Path(name).stem, Path(name).suffix
    candidate, count = name, 0
    while (folder / candidate).exists():
        if content_hash(folder / candidate) == digest:
            return candidate
        count += 1
        candidate = f"{stem} ({count}){suffix}"
    (folder / candidate).write_bytes(content)
    return candidate


def _preview(path: Path, kind: str, quality: int, *, keep_alpha: bool) -> bytes:
    with Image.open(path) as image:
        stream = io.BytesIO()
        plain = kind == "jpeg" or not keep_alpha
        (image.convert("RGB") if plain else image).save(stream, format=kind, quality=quality)
        return stream.getvalue()


def _channel(path: Path, channel: str) -> bytes:
    """The colours without transparency, or the transparency alone as the alpha of a black image."""
    with Image.open(path) as image:
        stream = io.BytesIO()
        if channel == "rgb":
            image.convert("RGB").save(stream, format="PNG")
        else:
            alpha = image.getchannel("A") if "A" in image.getbands() else Image.new("L", image.size, 255)
            shown = Image.new("RGBA", image.size)
            shown.putalpha(alpha)
            shown.save(stream, format="PNG")
        return stream.getvalue()


def _with_alpha(original: Path, mask: bytes) -> bytes:
    with Image.open(original) as base, Image.open(io.BytesIO(mask)) as shape:
        info = PngInfo()
        for key, value in getattr(base, "text", {}).items():
            info.add_text(key, value)
        result = base.convert("RGBA")
        result.putalpha(shape.convert("RGBA").getchannel("A"))
        stream = io.BytesIO()
        result.save(stream, format="PNG", compress_level=4, pnginfo=info)
        return stream.getvalue()
