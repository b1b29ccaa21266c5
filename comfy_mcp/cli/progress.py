"""How a waiting command shows a job's progress: a bar on a terminal, a few lines elsewhere. On stderr."""

import contextlib
import sys
from typing import TextIO

from comfy_mcp.cli.output import printable
from comfy_mcp.operations.shapes import WorkflowResult

BAR_WIDTH = 24
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"
"""A terminal narrower than the line cuts it: on a second line the next state could not be written over it."""
STEP_PERCENT = 25
"""Where nobody watches, a line at each quarter is enough for a log."""


def progress_display(stream: TextIO | None = None) -> "ProgressDisplay":
    """The display that fits `stream` (default stderr)."""
    target = stream or sys.stderr
    return BarDisplay(target) if target.isatty() else LineDisplay(target)


class ProgressDisplay:
    """Shows nothing: `--quiet`."""

    def show(self, state: WorkflowResult) -> None:
        """A new state of the job."""

    def close(self) -> None:
        """Leave the terminal as it was: call it before anything else is written."""


class BarDisplay(ProgressDisplay):
    """One line that is written over."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._open = False

    def show(self, state: WorkflowResult) -> None:
        done = round(BAR_WIDTH * state.progress / 100)
        bar = "█" * done + "░" * (BAR_WIDTH - done)
        if not (self._stream.encoding or "").lower().startswith("utf"):
            bar = "#" * done + "-" * (BAR_WIDTH - done)
        _put(self._stream, f"\r\x1b[2K{NO_WRAP}{bar} {describe(state)}{WRAP}")
        self._open = True

    def close(self) -> None:
        if self._open:
            _put(self._stream, "\n")
            self._open = False


class LineDisplay(ProgressDisplay):
    """A line when the status changes and at every quarter."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: tuple[object, ...] | None = None

    def show(self, state: WorkflowResult) -> None:
        held = state.waiting_for.message if state.waiting_for else None
        now = (state.status, state.queue_position, held, int(state.progress // STEP_PERCENT))
        if now != self._last:
            self._last = now
            _put(self._stream, f"{describe(state)}\n")


def _put(stream: TextIO, text: str) -> None:
    """Lost where it can't be written: the job goes on."""
    with contextlib.suppress(OSError):
        stream.write(text)
        stream.flush()


def describe(state: WorkflowResult) -> str:
    """One line: `running 45 % KSampler, 3 s left`."""
    match state.status:
        case "queued":
            text = f"queued{state.waiting()}"
        case "running":
            node = f" {state.current_node}" if state.current_node else ""
            seconds = round((state.eta_ms or 0) / 1000)
            left = f", {seconds} s left" if seconds else ""
            text = f"running {state.progress:.0f} %{node}{left}"
        case _:
            text = f"{state.status} {state.progress:.0f} %"
    return printable(text + (", cancel requested" if state.cancel_requested and _goes_on(state) else ""))


def _goes_on(state: WorkflowResult) -> bool:
    return state.status in {"queued", "running"}
