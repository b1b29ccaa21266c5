"""Files that workflows read: copied when the job is submitted, found again when a place sends it.

What could vanish meanwhile (a path, a URL, bytes in the workflow itself) is copied into the spool. An output
is read from where it lies.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from io import FileIO
from typing import Protocol
from urllib.parse import unquote_to_bytes

from comfy_mcp.daemon_threads import Apart
from comfy_mcp.domain.catalog import Output, OutputFile, lasting
from comfy_mcp.domain.errors import BridgeError, ErrorCode, InvalidInput, NotFound, file_too_large
from comfy_mcp.domain.file_inputs import (
    FOLDER,
    SUFFIXES,
    Reference,
    Source,
    kept_in,
    reference,
    suffix_for,
    suffix_of,
)
from comfy_mcp.domain.ids import ClientId, EngineId, JobId, OutputId
from comfy_mcp.domain.media_types import UNKNOWN, is_no_such_type, media_type_of
from comfy_mcp.library.allowed_folders import AllowedFolders, unreadable
from comfy_mcp.library.outputs import CHUNK_BYTES, OutputFiles
from comfy_mcp.library.spool import Received, Spool, copy_unreadable, why
from comfy_mcp.shares import Shares

WHAT, ADVICE = "input file", "give a URL or an earlier output (output:ID)"

DOWNLOADS = 64
"""Files that are fetched from URLs at once: each holds a connection and a file open, for 45 s if its server
is slow."""

_SHOWN_BYTES = 12
_PAGES = (b"<!doctype html", b"<html")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSource:
    """A file that a workflow reads. `name`: what it is called on an engine that does not have it.

    An output says where it lies already: `file`, on `engine`.
    """

    name: str
    size: int | None
    open: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]] = field(repr=False)
    engine: EngineId | None = None
    file: OutputFile | None = None


class Downloaded(Protocol):
    """A file on its way. `name` ends like the file, where that is known."""

    @property
    def name(self) -> str: ...
    def chunks(self) -> AsyncIterator[bytes]: ...


class Served(Protocol):
    """A file that an engine sends."""

    def chunks(self) -> AsyncIterator[bytes]: ...


Download = Callable[[str, int, ClientId | None], AbstractAsyncContextManager[Downloaded]]
"""The file behind a URL, its maximum size in bytes, and for whom it is."""


class InputFiles:
    """`find_output` gives an output by its id, `outputs_of` those of a job, `download` the file of a URL."""

    def __init__(
        self,
        spool: Spool,
        folders: AllowedFolders,
        outputs: OutputFiles,
        *,
        find_output: Callable[[OutputId], Awaitable[Output | None]],
        outputs_of: Callable[[JobId], Awaitable[Sequence[Output]]],
        download: Download,
        kept: Callable[[], Awaitable[set[str]]],
        limit: int,
        timeout_s: float,
    ) -> None:
        """`kept`: the copies that are needed beside those that jobs name."""
        self._spool = spool
        self._folders = folders
        self._outputs = outputs
        self._find_output = find_output
        self._outputs_of = outputs_of
        self._download = download
        self._kept = kept
        self._limit = limit
        self._disk = Apart("input files", limit_s=timeout_s)
        self._copies = Apart("input copies", limit_s=timeout_s)
        self._downloads = Shares(
            DOWNLOADS,
            "downloads from URLs",
            next_step="Submit it again in a minute, or upload the file.",
        )

    @property
    def folders(self) -> str:
        """The folders from which paths are read, for a sentence."""
        return self._folders.named()

    async def has_path(self, path: str) -> bool:
        """Not where the disk does not answer."""
        try:
            return await self._disk.do(lambda: self._folders.has(path))
        except TimeoutError:
            return False

    async def keep_path(self, path: str, media: frozenset[str], share: ClientId | None) -> str:
        """Copy the file; the name of the copy. `media`: the main media types that may be (none: any).
        `share`: whose share of the room the copy takes (None: nobody's).

        Raises InvalidInput (path_not_allowed, path_unreadable, invalid_argument), LimitExceeded, StoreFault.
        """

        def fault(error: OSError) -> BridgeError:
            return unreadable(path, WHAT, ADVICE, why(error))

        try:
            async with self._disk.opened(lambda: self._folders.open(path, WHAT, ADVICE)) as file:
                if file.found.st_size > self._limit:
                    raise file_too_large(self._limit)
                return await self._keep(_chunks(self._disk, file.stream, fault), path, media, share)
        except TimeoutError as error:
            raise fault(error) from None

    async def keep_url(self, url: str, media: frozenset[str], share: ClientId | None) -> str:
        """The same for what is behind a URL."""
        with self._downloads.place(share):
            async with self._download(url, self._limit, share) as downloaded:
                return await self._keep(downloaded.chunks(), downloaded.name, media, share)

    async def keep_data(self, uri: str, media: frozenset[str], share: ClientId | None) -> str:
        """The same for a `data:` URI."""
        head, comma, text = uri.partition(",")
        kind, *options = head[len("data:") :].split(";")
        data = await asyncio.to_thread(_unpacked, text, packed="base64" in options)
        if not comma or not data:
            raise InvalidInput(
                "The data: URI can't be read.",
                next_step="Write data:image/png;base64,… with whole base64, or give a path or URL.",
            )
        name = SUFFIXES.get(kind.strip().lower(), "")
        return await self._keep(_once(data), name, media, share)

    async def keep_upload(self, content: AsyncIterable[bytes], name: str, share: ClientId | None) -> str:
        """The same for bytes that come with a call. `name`: what the caller calls the file."""
        return await self._keep(content, name, frozenset(), share)

    async def keep_served(
        self,
        served: AbstractAsyncContextManager[Served],
        name: str,
        media: frozenset[str],
        share: ClientId | None,
    ) -> str:
        """The same for a file that an engine has. Raises EngineFault and NotFound too."""
        async with served as file:
            return await self._keep(file.chunks(), name, media, share)

    async def is_kept(self, name: str) -> bool:
        """Whether there is a copy with this name, as a graph has it."""
        return await self._spool.touch(name)

    async def locate(self, value: str) -> InputSource:
        """The file that a graph names by `value`. Raises NotFound (output_gone), StoreFault."""
        wanted = reference(value)
        if wanted.source is Source.KEPT:
            return await self._copy(wanted.text)
        output = await self._output(wanted)
        if output is None:
            raise _gone(value)
        return InputSource(
            name=f"output-{output.id}{suffix_of(output.file.filename) or '.txt'}",
            size=output.size,
            open=lambda: self._open_output(output),
            engine=output.engine if output.file.text is None else None,
            file=output.file,
        )

    async def _output(self, wanted: Reference) -> Output | None:
        match wanted.source:
            case Source.OUTPUT:
                return await self._find_output(OutputId(wanted.text))
            case Source.MADE:
                made = lasting(await self._outputs_of(JobId(wanted.text)))
                if wanted.index < len(made):
                    return made[wanted.index]
                raise NotFound(
                    f"Workflow {wanted.text} made {len(made)} output(s), and this one takes number "
                    f"{wanted.index + 1}.",
                    next_step="Take an earlier one, or run a workflow that makes more.",
                    code=ErrorCode.OUTPUT_GONE,
                )
            case _:
                return None

    async def sweep(self, graphs_with: Callable[[str], AsyncIterator[str]]) -> int:
        """Delete the copies that no job and no asset names any more; how many went.

        `graphs_with` gives the graphs of all jobs in which a text stands, as JSON. It is asked only when
        there are copies that nobody has used for an hour.
        """
        old = await self._spool.unused()
        if not old:
            return 0
        named = await self._kept()
        async for text in graphs_with(f"{FOLDER}/"):
            named |= kept_in(text)
        return await self._spool.sweep(old, named)

    async def _copy(self, name: str) -> InputSource:
        copy = await self._spool.open(name)
        if copy is None:
            raise _gone(name)
        stream, size = copy
        stream.close()
        return InputSource(name=name, size=size, open=lambda: self._open_copy(name))

    @asynccontextmanager
    async def _open_copy(self, name: str) -> AsyncIterator[AsyncIterator[bytes]]:
        copy = await self._spool.open(name)
        if copy is None:
            raise _gone(name)
        with copy[0] as stream:
            yield _chunks(self._copies, stream, copy_unreadable)

    @asynccontextmanager
    async def _open_output(self, output: Output) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._outputs.open(output) as content:
            yield content.chunks

    async def _keep(
        self, chunks: AsyncIterable[bytes], name: str, media: frozenset[str], share: ClientId | None
    ) -> str:
        async with self._spool.receive(chunks, limit=self._limit, client=share) as received:
            return await self._spool.keep(received, _judged(received, name, media))


async def _chunks(
    disk: Apart, stream: FileIO, fault: Callable[[OSError], BridgeError]
) -> AsyncIterator[bytes]:
    while True:
        try:
            chunk = await disk.do(partial(stream.read, CHUNK_BYTES))
        except OSError as error:  # TimeoutError is one
            raise fault(error) from None
        if not chunk:
            return
        yield chunk


def _judged(received: Received, name: str, media: frozenset[str]) -> str:
    """The suffix that the file gets. Raises InvalidInput where it is not what the input reads."""
    kind = media_type_of(f"x{suffix_of(name)}", received.head)
    if not received.size or received.head.lstrip().lower().startswith(_PAGES):
        what = "is a web page" if received.size else "is empty"
        raise InvalidInput(f"The file {what}.", next_step="Give the path or the address of the file itself.")
    if media and (is_no_such_type(f"x{suffix_of(name)}", received.head) or _says_nothing(name, kind)):
        what = f"no {kind}" if kind != UNKNOWN else f"no {' or '.join(sorted(media))} that is known here"
        raise InvalidInput(
            f"The file is {what}: its first bytes are {received.head[:_SHOWN_BYTES]!r}.",
            next_step="Give the file itself, whole and not encoded, under a name that ends like its type.",
        )
    if media and kind != UNKNOWN and kind.partition("/")[0] not in media:
        raise InvalidInput(
            f"The file is {kind}; the input reads {' or '.join(sorted(media))}.",
            next_step="Give another file, or use a node that reads this type.",
        )
    return suffix_for(name, received.head)


def _unpacked(text: str, *, packed: bool) -> bytes:
    """What a data: URI holds; empty where it can't be read. Seconds for megabytes, so it is for a thread."""
    try:
        data = unquote_to_bytes(text)
        return base64.b64decode(b"".join(data.split()), validate=True) if packed else data
    except binascii.Error:
        return b""


def _says_nothing(name: str, kind: str) -> bool:
    """Neither its name nor its bytes say what it is."""
    return kind == UNKNOWN and not suffix_of(name)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _gone(name: str) -> NotFound:
    return NotFound(
        f"The input file {name} is no longer kept.",
        next_step="Submit the workflow again with the file itself: a path, a URL or output:ID.",
        code=ErrorCode.OUTPUT_GONE,
    )
