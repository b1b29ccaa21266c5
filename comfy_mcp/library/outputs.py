"""The bytes of outputs: from the engine's output folder where this machine can read it, else over HTTP."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

import structlog

from comfy_mcp.daemon_threads import Apart, on_daemon_thread
from comfy_mcp.domain.catalog import Output, OutputKind
from comfy_mcp.domain.errors import ErrorCode, InvalidInput, NotFound
from comfy_mcp.domain.ids import CLOUDS, ClientId, EngineId
from comfy_mcp.domain.media_types import HEAD_BYTES, media_type_of
from comfy_mcp.library.output_content import (
    FileServer,
    OutputContent,
    OutputData,
    Span,
    behind,
    content_of,
    cut_out,
    once,
    require_same,
    text_of,
)
from comfy_mcp.library.output_refusals import ANOTHER, gone, missing, refuse_traversal, too_large, too_slow
from comfy_mcp.library.path_guard import (
    NotRegular,
    OpenFile,
    OutsideRoots,
    TooLong,
    open_inside,
    read_inside,
    resolve_inside,
)
from comfy_mcp.library.previews import Preview, make_preview
from comfy_mcp.library.sending import FileRest, Rest
from comfy_mcp.library.verified import FileOnEngine, Verified
from comfy_mcp.settings import EngineSettings, Settings
from comfy_mcp.shares import Turns

T = TypeVar("T")

log = structlog.get_logger(__name__)

CHUNK_BYTES = 256 * 1024

MEMORY_BYTES = 512 * 2**20
"""Largest output that is read into memory, for a preview."""

TEXT_BYTES = 64 * 1024
"""Most bytes of a text file that are shown: more than an agent's context should hold."""

PREVIEW_PX = 768
"""Longest side of a preview: enough to judge a picture. A larger one costs an agent more tokens."""

PREVIEW_BYTES = 700_000
"""Largest preview. Claude Desktop accepts results of 1 MB, and base64 adds a third."""

FETCHES = 2
"""Outputs of one engine that are read for previews at once, each whole and in memory. One client has half."""

SMALL_BYTES = 16 * 2**20
"""Most outputs that have a preview are smaller."""

SMALL_FETCHES, LARGE_FETCHES = 32, 2
"""The same for all engines together: 512 MiB of small outputs, a GiB of larger ones and of unknown ones. What
is waited for here has nothing in memory yet."""

FETCH_S = 30.0
"""For one of them. MEMORY_BYTES in this time need a line of 150 Mbit/s."""

IMAGE_PIXELS = 100_000_000
"""Images with more pixels are not decoded: these take up to 400 MB of memory."""


class OutputFiles:
    """Opens outputs. Each engine has a folder of its own; the one that is for all is read for a single engine
    only, because two use the same names."""

    def __init__(
        self,
        settings: Settings,
        *,
        engines: Mapping[EngineId, FileServer],
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._of_all = settings.outputs_dir
        self._kept = {EngineId(lane): settings.kept_outputs_path for lane in CLOUDS}
        self.know(settings.engines)
        self._engines = engines
        self._limit = memory_bytes
        self._timeout_s = settings.request_timeout_s
        self._verified = Verified(timeout_s=self._timeout_s)
        self._disks: dict[Path, Apart] = {}
        self._fetching: defaultdict[EngineId, Turns] = defaultdict(lambda: Turns(FETCHES))
        self._small, self._large = Turns(SMALL_FETCHES), Turns(LARGE_FETCHES)
        self._decoding = Turns()  # a decoded picture takes up to 4 bytes a pixel

    def know(self, engines: Sequence[EngineSettings]) -> None:
        """These are the engines from now on."""
        self._shared = self._of_all if len(engines) == 1 else None
        self._folders = {engine.id: engine.outputs_dir or self._shared for engine in engines}
        self._only = next(iter(self._folders.values())) if len(self._folders) == 1 else None
        self._folders |= self._kept

    @asynccontextmanager
    async def open(self, output: Output, *, part: Span | None = None) -> AsyncIterator[OutputContent]:
        """The output's bytes, or a part of them, in chunks, for the time of the context.

        At most some hundred KiB are in memory at once. With a part, the media type goes by the name alone.

        Raises NotFound (output_gone) when the file is no longer there or another one has its name,
        InvalidInput (path_not_allowed) for a name that leads out of the folder, (output_unreadable) when
        the folder says no and the engine does not have the file, EngineFault.
        """
        if output.file.text is not None:
            data = text_of(output)
            wanted = data if part is None else data[part.start : part.stop]
            yield OutputContent(size=len(data), media_type="text/plain", chunks=once(wanted))
            return
        refuse_traversal(output.file)
        async with self._source(output, part) as content:
            if None not in (output.size, content.size) and output.size != content.size:
                raise gone(output, ANOTHER)
            yield content

    async def read(self, output: Output, *, limit: int | None = None) -> OutputData:
        """All bytes. Raises what `open` raises, and LimitExceeded (too_large)."""
        bound = self._limit if limit is None else limit
        async with self.open(output) as content:
            if content.size is not None and content.size > bound:
                raise too_large(output, bound)
            return await self._whole(output, content, bound)

    async def read_small(self, output: Output, *, limit: int) -> OutputData | None:
        """All bytes; None for an output of more than `limit`, or of unknown length.

        It costs a fraction of `read`: one trip to a thread, or one small request. Raises what `open` raises.
        """
        if output.size is not None and output.size > limit:
            return None
        found = await self._at_once(output, limit)
        if found is None or found[1] > limit:
            return None
        data, size = found
        if output.size not in (None, size):
            raise gone(output, ANOTHER)
        await require_same(output, data)
        if output.file.text is not None:
            return OutputData(data=data, media_type="text/plain")
        return OutputData(data=data, media_type=media_type_of(output.file.filename, data[:HEAD_BYTES]))

    async def _at_once(self, output: Output, limit: int) -> tuple[bytes, int] | None:
        """All bytes and how many there are, as far as who has them says; None for too many."""
        if output.file.text is not None:
            data = text_of(output)
            return data, len(data)
        refuse_traversal(output.file)
        try:
            kept, refused = await self._on_disk(output, partial(read_inside, limit=limit))
        except TooLong:
            return None
        if kept is not None:
            return kept, len(kept)
        server = self._server_of(output)
        try:
            return await server.read_file(output.file, limit=limit)
        except NotFound:
            raise missing(output, refused=refused) from None

    async def _whole(self, output: Output, content: OutputContent, bound: int) -> OutputData:
        pieces: list[bytes] = []
        total = 0
        async for chunk in content.chunks:
            total += len(chunk)
            if total > bound:
                raise too_large(output, bound)
            pieces.append(chunk)
        data = b"".join(pieces)
        await require_same(output, data)
        return OutputData(data=data, media_type=content.media_type)

    async def text(self, output: Output, *, limit: int = TEXT_BYTES) -> str:
        """The beginning of a text file, at most `limit` bytes of it. Raises what `open` raises."""
        head = b""
        async with self.open(output) as content:
            async for chunk in content.chunks:
                head += chunk[: limit - len(head)]
                if len(head) == limit:
                    break
        whole = content.size is not None and content.size <= limit
        return head.decode("utf-8-sig", "replace") + ("" if whole or len(head) < limit else "…")

    async def local_paths(self, files: Sequence[tuple[str, str, str]]) -> list[str | None]:
        """Where (folder, subfolder, name) lie in the engine's output folder; None for what is not there, and
        with several engines."""
        if (root := self._only) is None:
            return [None] * len(files)

        def look() -> list[str | None]:
            return [_local_path(root, *each) for each in files]

        try:
            return await self._disk(root).do(look)
        except TimeoutError:
            return [None] * len(files)

    async def size(self, output: Output) -> int | None:
        """Bytes of the whole output, without reading it. Raises what `open` raises."""
        if output.size is not None:
            return output.size
        async with self.open(output) as content:
            return content.size

    async def preview(
        self,
        output: Output,
        *,
        client: ClientId,
        max_px: int | None = None,
        box: tuple[int, int] | None = None,
    ) -> Preview:
        """A small picture of an image; at most PREVIEW_PX and PREVIEW_BYTES. Clients take turns.

        `box` is a width and height, in pixels, to fit into as well.

        Raises what `to_decode` and `make_preview` raise, InvalidInput (output_unreadable) for no image.
        """
        if output.file.kind is not OutputKind.IMAGE or output.file.is_written:
            kind = "an SVG" if output.file.kind is OutputKind.IMAGE else f"a {output.file.kind} output"
            raise InvalidInput(
                f"There is no preview of {kind}.",
                next_step="Fetch the file itself.",
                code=ErrorCode.OUTPUT_UNREADABLE,
            )
        async with self.to_decode(output, client) as data:
            return await asyncio.to_thread(
                make_preview,
                data,
                max_px=min(max_px or PREVIEW_PX, PREVIEW_PX),
                max_bytes=PREVIEW_BYTES,
                max_pixels=IMAGE_PIXELS,
                box=box,
            )

    @asynccontextmanager
    async def to_decode(self, output: Output, client: ClientId) -> AsyncIterator[bytes]:
        """All bytes of an output, in the client's turn to decode them.

        They are read beside what others read and decode: an engine that sends slowly delays its own outputs
        only, and those for one client at most half of that. Raises what `read` raises.
        """
        limit = min(SMALL_BYTES, self._limit)
        async with self._fetching[output.engine].turn(client):
            size = output.size
            if size is None:  # a moment after the end of its job nobody knows it yet
                async with self._small.turn(client):
                    found = await _in_time(output, self.read_small(output, limit=limit))
                    if found is not None:
                        async with self._decoding.turn(client):
                            yield found.data
                        return
            small = size is not None and size <= SMALL_BYTES
            async with (self._small if small else self._large).turn(client):
                data = (await _in_time(output, self.read(output, limit=limit if small else None))).data
                async with self._decoding.turn(client):
                    yield data

    @asynccontextmanager
    async def _source(self, output: Output, part: Span | None) -> AsyncIterator[OutputContent]:
        opened, refused = await self._on_disk(output, open_inside, OpenFile.close)
        if opened is None:
            async with self._open_on_engine(output, part, refused_on_disk=refused) as content:
                yield content
            return
        stream = opened.stream
        try:
            file = self._verified.opened(stream, opened.found)
            async with aclosing(self._chunks_of(stream, part)) as chunks:
                head, content = await content_of(output, opened.found.st_size, chunks, part)

                def rest() -> Rest:
                    start = len(head) if part is None else part.start
                    missing = gone(output, "it became shorter while it was sent")
                    return FileRest(stream, start, head, timeout_s=self._timeout_s, if_short=missing)

                yield replace(content, file=file, rest=rest)
        finally:  # a folder of a network may hang here, too
            on_daemon_thread(opened.close, name="outputs")

    def _disk(self, folder: Path) -> Apart:
        """One folder that hangs delays what lies in it, and nothing else."""
        if folder not in self._disks:
            self._disks[folder] = Apart("outputs", limit_s=self._timeout_s)
        return self._disks[folder]

    async def _on_disk(
        self,
        output: Output,
        read: Callable[[Path, Sequence[Path]], T],
        late: Callable[[Any], object] = lambda _: None,
    ) -> tuple[T | None, bool]:
        """What `read` makes of the file, None when the folder does not have it; and whether the folder may
        not be read. `late`, for what is made when nobody waits any more."""
        folder = self._folders.get(output.engine, self._shared)
        if folder is None or output.file.folder_type != "output":
            return None, False
        path = folder / output.file.subfolder.replace("\\", "/") / output.file.filename
        try:
            return await self._disk(folder).do(lambda: read(path, (folder,)), late=late), False
        except (FileNotFoundError, NotADirectoryError):
            return None, False
        except (OutsideRoots, NotRegular, OSError) as error:  # TimeoutError is an OSError
            # E.g. a link out of the folder: whether to serve that is the engine's decision.
            log.warning("output_not_read_from_disk", output_id=output.id, cause=type(error).__name__)
            return None, isinstance(error, PermissionError)

    async def _chunks_of(self, stream: FileIO, part: Span | None) -> AsyncGenerator[bytes, None]:
        if part is not None:
            stream.seek(part.start)
        left = None if part is None else len(part)
        while left != 0:
            async with asyncio.timeout(self._timeout_s):
                read = partial(stream.read, min(left or CHUNK_BYTES, CHUNK_BYTES))
                chunk = await on_daemon_thread(read, name="outputs")
            if not chunk:
                return
            left = None if left is None else left - len(chunk)
            yield chunk

    def _server_of(self, output: Output) -> FileServer:
        server = self._engines.get(output.engine)
        if server is None:
            raise gone(output, f"its engine {output.engine} is no longer configured")
        return server

    @asynccontextmanager
    async def _open_on_engine(
        self, output: Output, part: Span | None, *, refused_on_disk: bool
    ) -> AsyncIterator[OutputContent]:
        server = self._server_of(output)
        async with AsyncExitStack() as stack:
            byte_range = None if part is None else f"bytes={part.start}-{part.stop - 1}"
            try:
                served = await stack.enter_async_context(server.view(output.file, byte_range=byte_range))
            except NotFound:
                raise missing(output, refused=refused_on_disk) from None
            except InvalidInput:  # the part is inside the output as it was recorded
                raise gone(output, ANOTHER) from None
            if part is not None and served.status != 206:
                chunks = cut_out(served.chunks(), part)
                yield (await content_of(output, served.total_length, chunks, part))[1]
                return
            head, content = await content_of(output, served.total_length, served.chunks(), part)
            file = None
            if served.validator is not None:
                file = FileOnEngine(self._verified, output, served.validator, served.unchanged)
            yield replace(content, file=file, rest=lambda: behind(head, served))


async def _in_time(output: Output, fetching: Awaitable[T]) -> T:
    """Raises EngineUnreachable after FETCH_S."""
    try:
        async with asyncio.timeout(FETCH_S):
            return await fetching
    except TimeoutError:
        raise too_slow(output, FETCH_S) from None


def _local_path(root: Path, folder: str, subfolder: str, name: str) -> str | None:
    if folder != "output" or not name:
        return None
    try:
        path = resolve_inside(root / subfolder.replace("\\", "/") / name, (root,))
        return str(path) if path.is_file() else None
    except (OutsideRoots, OSError):
        return None
