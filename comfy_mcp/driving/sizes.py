"""Sizes of output files, asked of the engine after the job's end is written, so that no end waits."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from comfy_mcp.domain.catalog import Output, OutputFile, OutputFound
from comfy_mcp.domain.errors import EngineFault, StoreFault
from comfy_mcp.domain.ids import OutputId
from comfy_mcp.store import Store

log = structlog.get_logger(__name__)

AskSizes = Callable[[Sequence[OutputFile]], Awaitable[Mapping[OutputFile, int]]]
"""`Place.sizes`."""

MAX_WANTED = 4096
"""Files that wait to be asked for. Beyond it the size of a file stays unknown: it is a hint, not a record."""

PAUSE_S = 0.5
"""Between an end and the question: many short jobs make one question, and a client that reads an output at
once makes it needless. For a job of milliseconds a question costs as much as all the rest."""


class OutputSizes:
    """One engine's. Many ends make few questions, each with one write."""

    def __init__(self, ask: AskSizes, store: Store) -> None:
        self._ask = ask
        self._store = store
        self._wanted: dict[OutputId, OutputFile] = {}
        self._arrived = asyncio.Event()

    def want(self, outputs: Sequence[Output]) -> None:
        """Outputs that are recorded; those whose size is known need nothing."""
        for output in outputs:
            if output.size is None and output.file.filename and len(self._wanted) < MAX_WANTED:
                self._wanted[output.id] = output.file
                self._arrived.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            asked = dict(self._wanted)  # what comes during the pause is asked for after one of its own
            await asyncio.sleep(PAUSE_S)
            await self._fill(asked)

    async def fill(self) -> None:
        """Ask once for all that is wanted now."""
        await self._fill(dict(self._wanted))

    async def _fill(self, asked: Mapping[OutputId, OutputFile]) -> None:
        """A size is worth no retry: what is not known stays unknown."""
        try:
            unknown = await self._store.without_size(list(asked))
            sizes = await self._ask([asked[output_id] for output_id in unknown]) if unknown else {}
            found = [(output_id, sizes[file]) for output_id, file in asked.items() if file in sizes]
            await self._store.update_outputs([OutputFound(id=each, size=size) for each, size in found])
        except (EngineFault, StoreFault) as fault:
            log.debug("sizes_unknown", error=str(fault))
        except Exception:  # a size is worth no tenure
            log.exception("sizes_unknown")
        for output_id in asked:
            self._wanted.pop(output_id, None)
