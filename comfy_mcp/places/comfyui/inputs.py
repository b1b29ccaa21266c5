"""Brings the files that a graph names into the engine's input folder, each once, just before it is sent."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from comfy_mcp.domain.catalog import OutputFile, OutputKind
from comfy_mcp.domain.errors import EngineFault, ErrorCode, LimitExceeded, NotFound
from comfy_mcp.domain.file_inputs import FOLDER, placed, with_texts
from comfy_mcp.places.comfyui.client import ComfyUIClient
from comfy_mcp.places.protocol import InputSource, Locate

FORM_BYTES = 4096
"""The engine counts the form around an upload, too."""


class InputBringer:
    """`locate` finds the files; without it a graph goes as it is."""

    def __init__(self, client: ComfyUIClient, locate: Locate | None) -> None:
        self._client = client
        self._locate = locate

    async def brought(self, graph: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `Runner.prepare`."""
        names = placed(graph) if self._locate is not None else ()
        if not names:
            return graph
        return with_texts(graph, {name: await self._bring(name) for name in sorted(names)})

    async def _bring(self, value: str) -> str:
        """What the engine calls the file."""
        assert self._locate is not None
        source = await self._locate(value)
        if source.file is not None and source.engine == self._client.engine:
            return await self._own(source.file, source.size)
        there = OutputFile(kind=OutputKind.FILE, filename=source.name, subfolder=FOLDER, folder_type="input")
        size = await self._client.view_size(there)
        if size is not None and size == source.size:
            return f"{FOLDER}/{source.name}"
        return await self._upload(source)  # none, or what an upload left that broke off

    async def _own(self, file: OutputFile, size: int | None) -> str:
        """An output of this engine is read from where it lies."""
        found = await self._client.view_size(file)
        if found is None or size not in {None, found}:
            raise NotFound(
                f"The engine no longer has the output {file.filename!r}.",
                next_step="Run the workflow that made it again.",
                code=ErrorCode.OUTPUT_GONE,
            )
        path = f"{file.subfolder}/{file.filename}" if file.subfolder else file.filename
        return f"{path} [{file.folder_type}]"

    async def _upload(self, source: InputSource) -> str:
        limit = await self._client.upload_limit()
        if limit is not None and (source.size or 0) > limit - FORM_BYTES:
            raise LimitExceeded(
                f"The input file has {source.size} bytes; the engine takes {limit}.",
                next_step="Start ComfyUI with a larger --max-upload-size.",
                code=ErrorCode.TOO_LARGE,
            )
        async with source.open() as chunks:
            moving = _Moving(chunks, self._client.transport.timeout_s)
            try:
                async with moving.limit:
                    kept = await self._client.upload_image(
                        source.name, moving.chunks(), size=source.size, subfolder=FOLDER, overwrite=True
                    )
            except TimeoutError:
                what = f"it took nothing of an input file for {self._client.transport.timeout_s:.0f} s"
                raise self._client.transport.unreachable("POST /upload/image", what) from None
            except EngineFault:
                if moving.fault is not None:  # not this engine's: where the file comes from
                    raise moving.fault from None
                raise
        return f"{kept.subfolder}/{kept.name}"


class _Moving:
    """A file on its way: the engine reads each chunk within `limit_s`. `fault`: what reading it raised."""

    def __init__(self, source: AsyncIterator[bytes], limit_s: float) -> None:
        self.fault: Exception | None = None
        self.limit = asyncio.timeout(None)
        self._source = source
        self._limit_s = limit_s

    async def chunks(self) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        try:
            async for chunk in self._source:
                self.limit.reschedule(clock() + self._limit_s)
                yield chunk
                self.limit.reschedule(None)
        except Exception as error:
            self.fault = error
            raise
