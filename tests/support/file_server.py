"""An engine's files without an engine, and outputs that name them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO

from PIL import Image

from comfy_mcp.domain.catalog import Output, OutputFile, OutputKind
from comfy_mcp.domain.errors import EngineUnreachable, InvalidInput, NotFound
from comfy_mcp.domain.ids import EngineId, JobId, OutputId

ENGINE = EngineId("one")


@dataclass
class Served:
    total_length: int | None
    data: bytes
    status: int = 200
    step: int = 7
    validator: str | None = None

    def take_over(self) -> None:
        return None

    async def unchanged(self) -> bool | None:
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.data), self.step):
            yield self.data[start : start + self.step]


@dataclass
class FakeServer:
    """An engine's /view over a dictionary. `tells_size` False: an answer without Content-Length.

    `knows_ranges` False: it always sends the whole file.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    tells_size: bool = True
    knows_ranges: bool = True
    down: bool = False
    asked: list[OutputFile] = field(default_factory=list)
    open_now: int = 0

    @asynccontextmanager
    async def view(self, file: OutputFile, *, byte_range: str | None = None) -> AsyncIterator[Served]:
        self.asked.append(file)
        if self.down:
            raise EngineUnreachable("down", next_step="start it")
        data = self.files.get(f"{file.folder_type}/{file.subfolder}/{file.filename}")
        if data is None:
            raise NotFound("no such file", next_step="")
        served = Served(len(data) if self.tells_size else None, data)
        if byte_range is not None and self.knows_ranges:
            first, last = (int(edge) for edge in byte_range.removeprefix("bytes=").split("-"))
            if first >= len(data):
                raise InvalidInput("outside", next_step="")
            served = replace(served, data=data[first : last + 1], status=206)
        self.open_now += 1
        try:
            yield served
        finally:
            self.open_now -= 1

    async def read_file(self, file: OutputFile, *, limit: int) -> tuple[bytes, int] | None:
        async with self.view(file) as served:
            size = served.total_length
            return None if size is None or size > limit else (served.data, size)


def output_of(
    name: str, *, subfolder: str = "", folder: str = "output", kind: OutputKind = OutputKind.IMAGE
) -> Output:
    return Output(
        id=OutputId("out-1"),
        job_id=JobId("job-1"),
        attempt=1,
        engine=ENGINE,
        file=OutputFile(kind=kind, filename=name, subfolder=subfolder, folder_type=folder),
        created_at=1,
    )


def png(size: tuple[int, int] = (40, 20)) -> bytes:
    stream = BytesIO()
    Image.new("RGB", size, "red").save(stream, "PNG")
    return stream.getvalue()
