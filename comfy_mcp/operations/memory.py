"""What is said of GPU memory: to who submits, and in the overview. The rule is domain/vram.py's."""

import asyncio

from comfy_mcp.domain.gpu import GpuSample
from comfy_mcp.domain.vram import gib, rooms_of, warning_of
from comfy_mcp.operations.services import Services

ANSWER_S = 1.0
"""A submit waits no longer for what the GPUs do: a warning is worth less than its answer."""


async def memory_warnings(services: Services, need: int | None) -> tuple[str, ...]:
    """For the submitter of a graph that needs so much. Asks the GPUs only where that is known."""
    if need is None:
        return ()
    try:
        async with asyncio.timeout(ANSWER_S):
            rooms = rooms_of(await services.gpu.sample())
    except TimeoutError:
        return ()
    warning = warning_of(need, rooms, holds=services.settings.vram_hold)
    return () if warning is None else (warning,)


async def memory_problems(services: Services, sample: GpuSample) -> list[str]:
    """Of the jobs that no engine has yet, as of now."""
    rooms = rooms_of(sample)
    if rooms.open or rooms.most is None:
        return []
    count, need = await services.store.waiting_beyond(rooms.most.limit)
    if not count:
        return []
    best = rooms.most
    said = (
        f"{count} queued workflow(s) may need up to {gib(need)} of VRAM, like similar ones; the most that an "
        f"engine has room for is {gib(best.room_bytes)} ({best.engine}). Close other programs on its GPU, or "
        "submit with a smaller model."
    )
    return [said]
