"""Sizes of output files, asked of the engine after the job's end is written, so that no end waits."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from comfy_mcp.domain.catalog import Output, OutputFile
from comfy_mcp.domain.errors import EngineFault, StoreFault
from comfy_mcp.domain.ids import OutputId
from comfy_mcp.store import Store

log = structlog.get_logger(__name__)

AskSizes = Callable[[Sequence[OutputFile]], Awaitable[Mapping[OutputFile, int]]]
"""`Place.sizes`."""

MAX_WANTED = 4096
"""Files that wait to be asked for. Beyond it the size of a file stays unknown: it is a hint, not a record."""


class OutputSizes:
    """One engine's. Many ends make few questions: what comes while one is under way goes with the next."""

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
            await self.fill()

    async def fill(self) -> None:
        """Ask once for all that is wanted now. A size is worth no retry: what is not known stays unknown."""
        asked = dict(self._wanted)
        try:
            sizes = await self._ask(list(asked.values())) if asked else {}
            for output_id, file in asked.items():
                if (size := sizes.get(file)) is not None:
                    await self._store.update_output(output_id, size=size)
        except (EngineFault, StoreFault) as fault:
            log.debug("sizes_unknown", error=str(fault))
        for output_id in asked:
            self._wanted.pop(output_id, None)
