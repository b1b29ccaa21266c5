"""Notices when the event loop stands still, and what it did then.

While the loop runs one thing, it answers nobody: no probe, no event, no other client. The loop
sets a mark every BEAT_S; a thread checks that it did.
"""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import FrameType

import structlog

log = structlog.get_logger(__name__)

STALL_S = 0.25
"""A loop that sets no mark for this long counts as stalled."""

BEAT_S = 0.1

LINE_S = 1.0
"""Shortest time between two lines in the log; the metric counts every stall."""

ENDLESS_S = 5.0
"""A stall is logged after this time even if it has not ended: it may never end."""

SHOWN_FRAMES = 5
_OWN = tuple(str(Path(__file__).parents[1] / name) for name in ("comfy_mcp", "http_sidecar"))


@contextlib.asynccontextmanager
async def watching(on_stall: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    """Watch the running loop while the context is open. `on_stall` is called after each stall."""
    watch = Watch(threading.get_ident(), on_stall)
    loop = asyncio.get_running_loop()

    def beat() -> None:
        if not watch.ended.is_set():
            watch.beat(time.monotonic(), time.process_time())
            loop.call_later(BEAT_S, beat)

    loop.call_later(BEAT_S, beat)
    threading.Thread(target=watch.run, name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        watch.ended.set()


class Watch:
    """`beat` is called on the loop, whose thread is `thread_id`; `run` is the thread that checks it."""

    def __init__(self, thread_id: int, on_stall: Callable[[], None]) -> None:
        self.ended = threading.Event()
        self._thread_id = thread_id
        self._on_stall = on_stall
        self._line_at = float("-inf")
        self._at, self._cpu = time.monotonic(), time.process_time()
        self._where: tuple[str, ...] = ()
        self._logged = False

    def beat(self, at: float, cpu: float) -> None:
        """`at` and `cpu` in seconds, of a monotonic clock and of the process."""
        stood, computed = at - self._at - BEAT_S, cpu - self._cpu
        where = self._where
        self._at, self._cpu, self._where, self._logged = at, cpu, (), False
        if stood < STALL_S or (not where and computed < stood / 2):
            return  # a machine that slept stopped the thread too, and computed nothing
        self._on_stall()
        if at - self._line_at >= LINE_S:
            self._line_at = at
            log.warning("loop_stood", seconds=round(stood, 3), cpu_s=round(computed, 3), where=where)

    def run(self) -> None:
        while not self.ended.wait(STALL_S / 2):
            self.look(time.monotonic())

    def look(self, at: float) -> None:
        """See what the loop does, if it stands."""
        stands = at - self._at - BEAT_S
        if stands >= STALL_S and not self._where:
            # The documented way to see another thread.
            self._where = _calls(sys._current_frames().get(self._thread_id))  # noqa: SLF001
        if stands >= ENDLESS_S and not self._logged:
            self._logged = True
            log.error("loop_stands", seconds=round(stands, 3), where=self._where)


def _calls(frame: FrameType | None) -> tuple[str, ...]:
    """Those of the product if there are some, else of whatever runs. None for a loop that waits for work:
    then it is the machine that stands."""
    if frame is not None and Path(frame.f_code.co_filename).stem == "selectors":
        return ()
    stack = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    own = [each for each in stack if each.f_code.co_filename.startswith(_OWN)]
    return tuple(
        f"{Path(each.f_code.co_filename).stem}:{each.f_lineno} {each.f_code.co_name}"
        for each in (own or stack)[:SHOWN_FRAMES]
    )
