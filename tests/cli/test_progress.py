"""The bar, the lines, and sizes and times for people."""

import errno
import io
from typing import Any

import pytest

from comfy_mcp.cli.progress import (
    NO_WRAP,
    WRAP,
    BarDisplay,
    LineDisplay,
    ProgressDisplay,
    describe,
    progress_display,
)
from comfy_mcp.cli.show import output_line, size_text, status_lines, table, time_text
from comfy_mcp.operations.shapes import FailureItem, OutputItem, WorkflowResult


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        raw = self.buffer
        assert isinstance(raw, io.BytesIO)
        return raw.getvalue().decode(self.encoding)


class Full(io.StringIO):
    """A stream on a disk that is full."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def state(**values: Any) -> WorkflowResult:
    common: dict[str, Any] = {
        "workflow_id": "w",
        "status": "running",
        "queue_position": None,
        "progress": 50.0,
        "current_node": "KSampler",
        "start_time": None,
        "completion_time": None,
        "outputs": [],
        "error": None,
        "failure": None,
        "priority": "normal",
        "client": "me",
        "engine": None,
        "attempt": 0,
        "created_time": 0,
    }
    return WorkflowResult(**common | values)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "running 50 % KSampler"),
        ({"eta_ms": 3400}, "running 50 % KSampler, 3 s left"),
        ({"eta_ms": 20, "current_node": None}, "running 50 %"),
        ({"cancel_requested": True}, "running 50 % KSampler, cancel requested"),
        ({"status": "queued", "queue_position": 3}, "queued, position 3"),
        ({"status": "queued"}, "queued"),
        ({"status": "cancelled", "cancel_requested": True, "progress": 12.0}, "cancelled 12 %"),
        ({"current_node": "a\x1b[31mb"}, "running 50 % a [31mb"),
    ],
)
def test_a_state_in_one_line(values: dict[str, Any], text: str) -> None:
    assert describe(state(**values)) == text


def test_a_terminal_gets_one_line_that_is_written_over() -> None:
    terminal = Terminal()
    display = progress_display(terminal)
    assert isinstance(display, BarDisplay)
    display.show(state(progress=0.0))
    display.show(state(progress=100.0, status="completed"))
    display.close()
    display.close()
    first, second = f"{'░' * 24} running 0 % KSampler", f"{'█' * 24} completed 100 %"
    begin, end = f"\r\x1b[2K{NO_WRAP}", WRAP
    assert terminal.text == f"{begin}{first}{end}{begin}{second}{end}\n"


def test_a_terminal_without_unicode_gets_a_bar_all_the_same() -> None:
    terminal = Terminal("latin-1")
    progress_display(terminal).show(state())
    assert "############------------ running 50 %" in terminal.text


def test_elsewhere_a_line_at_each_quarter_is_enough() -> None:
    stream = io.StringIO()
    display = progress_display(stream)
    assert isinstance(display, LineDisplay)
    for percent in (0.0, 10.0, 26.0, 27.0, 80.0):
        display.show(state(progress=percent))
    display.close()
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["0", "26", "80"]


@pytest.mark.parametrize("display", [BarDisplay, LineDisplay])
def test_a_stream_that_cannot_be_written_stops_nothing(display: type[BarDisplay | LineDisplay]) -> None:
    shown = display(Full())
    shown.show(state())
    shown.close()


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    display = ProgressDisplay()
    display.show(state())
    display.close()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (2_000_000, "2.0 MB"),
        (6_900_000_000, "6.9 GB"),
        (3 * 10**12, "3.0 TB"),
    ],
)
def test_sizes_for_people(size: int | None, text: str) -> None:
    assert size_text(size) == text


def test_a_time_that_is_not_known_is_none() -> None:
    assert time_text(None) is None
    assert len(time_text(0) or "") == len("1970-01-01 00:00:00")


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(("A", "LONG"), [("wide", "x")]) == ["A     LONG", "wide  x"]


def test_the_block_of_a_failed_job_names_the_node_and_the_engine() -> None:
    failed = state(
        status="failed",
        failure=FailureItem(kind="oom", message="no memory", node_id="5", node_type="KSampler"),
        error="no memory",
        engine="gpu",
        attempt=2,
        warnings=["node 7 was dropped"],
    )
    lines = status_lines(failed)
    assert "engine    gpu, attempt 2" in lines
    assert "error     oom in node 5 (KSampler): no memory" in lines
    assert "warning   node 7 was dropped" in lines


def test_a_text_output_shows_its_first_line() -> None:
    written = OutputItem(
        output_id="o", filename="", workflow_id="w", type="text", size=None, created_at=0, url="", uri="",
        content="first\nsecond",
    )  # fmt: skip
    assert output_line(written).endswith("  first")
