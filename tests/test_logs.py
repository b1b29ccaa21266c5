"""Log lines go to stderr, in one shape, and never hold a secret."""

import asyncio
import errno
import io
import json
import logging
import re
import subprocess
import sys
from typing import Any

import pytest
import structlog

from comfy_mcp.logs import Facts, Repeats, configure, hide_userinfo, routine, secret_values
from comfy_mcp.settings import Settings, load_settings, unknown_variables


@pytest.fixture(autouse=True)
def _no_unknown_variables(monkeypatch: pytest.MonkeyPatch, restored_logging: None) -> None:
    for name in unknown_variables():
        monkeypatch.delenv(name)


def settings(**values: object) -> Settings:
    return load_settings(**{"log_format": "json", **values})


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_our_lines_and_the_libraries_lines_have_one_shape_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(settings())
    structlog.get_logger("ours").info("job_done", job_id="j1")
    logging.getLogger("aiohttp.server").warning("theirs %s", 7)
    ours, theirs = lines(capsys)
    assert (ours["event"], ours["level"], ours["job_id"]) == ("job_done", "info", "j1")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("theirs 7", "warning", "aiohttp.server")
    assert ours["timestamp"].endswith("Z")


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_routine_line_is_the_line_of_structlog(capsys: pytest.CaptureFixture[str], style: str) -> None:
    configure(settings(engine_headers={"X-Key": "Bearer s3cr3t"}, log_format=style))
    facts: Facts = {
        "route": 'a "b" \n é 🎈 \x7f',
        "status": 404,
        "duration_ms": 0.5,
        "client": None,
        "job_id": "s3cr3t",
    }
    with structlog.contextvars.bound_contextvars(request_id="r1", route="ours wins"):
        structlog.get_logger().info("request", **facts)
        routine(logging.INFO, "request", facts)
        routine(logging.DEBUG, "request", facts)
    theirs, ours = (_TIMES.sub("TIME", line) for line in capsys.readouterr().err.splitlines())
    assert ours == theirs
    assert "s3cr3t" not in ours


async def test_routine_lines_of_one_step_come_before_any_other_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(settings())
    for number in range(2):
        routine(logging.INFO, "request", {"number": number})
    assert lines(capsys) == []
    structlog.get_logger().info("later")
    assert [line["event"] for line in lines(capsys)] == ["request", "request", "later"]
    routine(logging.INFO, "request", {})
    await asyncio.sleep(0)
    assert [line["event"] for line in lines(capsys)] == ["request"]


_TIMES = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")


def test_a_variable_that_is_no_setting_is_one_line_at_the_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFY_BRIDGE_STREAM_BUFFER", "s3cret")
    configure(settings(log_level="warning"))
    (line,) = lines(capsys)
    assert (line["event"], line["level"]) == ("unknown_settings", "warning")
    assert line["variables"] == ["COMFY_BRIDGE_STREAM_BUFFER"]
    assert "s3cret" not in str(line)


def test_the_level_of_the_settings_counts_unless_the_caller_gives_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(settings(log_level="info"))
    structlog.get_logger().debug("too_fine")
    structlog.get_logger().info("fine")
    configure(settings(log_level="info"), level="error")
    structlog.get_logger().warning("hidden")
    structlog.get_logger().error("shown")
    assert [line["event"] for line in lines(capsys)] == ["fine", "shown"]


def test_the_libraries_talk_about_themselves_at_debug_only(capsys: pytest.CaptureFixture[str]) -> None:
    configure(settings(log_level="info"))
    logging.getLogger("alembic").info("about itself")
    configure(settings(log_level="debug"))
    logging.getLogger("alembic").info("asked for")
    assert [line["event"] for line in lines(capsys)] == ["asked for"]


def test_console_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure(settings(log_format="console"))
    structlog.get_logger().info("job_done", job_id="j1")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "job_done" in captured.err
    assert "job_id=j1" in captured.err


@pytest.mark.parametrize(("wanted", "colored"), [("", True), ("1", False)])
def test_lines_on_a_terminal_have_colors_unless_nobody_wants_them(
    monkeypatch: pytest.MonkeyPatch, wanted: str, colored: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("NO_COLOR", wanted)
    configure(settings(log_format="auto"))
    structlog.get_logger().warning("low")
    assert ("\x1b[" in terminal.getvalue()) is colored


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Full(io.StringIO):
    """A stream on a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_line_that_cannot_be_written_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(settings())
    monkeypatch.setattr(sys, "stderr", Full())
    structlog.get_logger().warning("ours")
    logging.getLogger("theirs").warning("theirs")
    routine(logging.WARNING, "routine", {})


def test_auto_is_json_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    configure(settings(log_format="auto"))
    structlog.get_logger().info("job_done")
    assert lines(capsys)[0]["event"] == "job_done"


@pytest.mark.parametrize("name", ["authorization", "engine_token", "X-API-Key", "headers", "password"])
def test_a_field_with_a_secret_name_keeps_its_name_only(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    configure(settings())
    structlog.get_logger().info("asked", **{name: "hunter22"})
    (line,) = lines(capsys)
    assert line[name] == "***"


def test_secrets_in_texts_and_tracebacks_are_taken_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure(settings(engine_token="s3cret-token", engine_headers={"X-Proxy": 'quo"ted pass'}))
    try:
        raise RuntimeError('refused: Bearer s3cret-token, quo"ted pass')
    except RuntimeError:
        structlog.get_logger().exception("request_failed", url="http://me:mypass@engine:8188/prompt")
    text = capsys.readouterr().err
    assert "RuntimeError" in text
    for secret in ("s3cret-token", 'quo"ted', 'quo\\"ted', "mypass"):
        assert secret not in text
    assert "http://***@engine:8188/prompt" in text


def test_short_values_are_no_secrets() -> None:
    assert secret_values(settings(engine_headers={"X-On": "1", "X-Key": "Bearer abcdef"})) == (
        "Bearer abcdef",
        "abcdef",
    )


def test_an_address_without_userinfo_stays_as_it_is() -> None:
    assert hide_userinfo("http://host/a@b and me@example.org") == "http://host/a@b and me@example.org"


def test_a_line_before_anything_is_configured_does_not_go_to_stdout() -> None:
    code = "import comfy_mcp.logs, structlog; structlog.get_logger('x').error('too early')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "too early" in done.stderr


def test_what_strangers_repeat_is_some_lines_a_minute_and_a_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(settings())
    clock = [0.0]
    repeats = Repeats(structlog.get_logger(), "refused", burst=2, now=lambda: clock[0])
    for number in range(1_000):
        repeats.happened(number=number)
    clock[0] = 60.0
    repeats.happened(number=1_000)
    repeats.happened(number=1_001)
    shown = lines(capsys)
    assert [(line["number"], line.get("not_logged")) for line in shown] == [
        (0, None),
        (1, None),
        (1_000, 998),
        (1_001, None),
    ]


def test_a_library_that_repeats_itself_has_one_line_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    configure(settings())
    for number in range(1_000):
        logging.getLogger("asyncio").error("socket.accept() out of system resource\nsocket %s", number)
        logging.getLogger("asyncio").error("another thing")
    clock[0] = 60.0
    logging.getLogger("asyncio").error("another thing")
    assert [line["event"].partition("\n")[0] for line in lines(capsys)] == [
        "socket.accept() out of system resource",
        "another thing",
        "another thing",
    ]


def test_our_own_warnings_that_repeat_are_some_lines_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    configure(settings())
    log = structlog.get_logger("any")
    for number in range(100):
        log.warning("store_away", number=number)
        log.info("routine", number=number)
    log.error("another")
    written = lines(capsys)
    assert sum(line["event"] == "routine" for line in written) == 100
    assert [line["number"] for line in written if line["event"] == "store_away"] == [*range(30)]
    assert written[-1]["event"] == "another"
