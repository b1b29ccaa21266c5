"""What commands write: advice in commands, no control characters, errors, defects, closed pipes."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from comfy_mcp.cli.exits import ExitCode
from comfy_mcp.cli.output import Output, error_document, in_commands, printable
from comfy_mcp.cli.session import Options, execute
from comfy_mcp.domain.errors import Conflict, NotFound
from comfy_mcp.settings import Settings
from tests.cli.conftest import ROOT, Shell, graph, written


@pytest.mark.parametrize(
    ("advice", "said"),
    [
        ('Call wait_for_workflow(workflow_id="a-1").', "Run `comfy-bridge wait a-1`."),
        ("Call list_outputs for existing ids.", "Run `comfy-bridge outputs` for existing ids."),
        ('Call view_output(output_id="o-1") to look.', "Run `comfy-bridge outputs` to look."),
        (
            'Nothing is left to stop. workflow_status(workflow_id="a-1") shows it.',
            "Nothing is left to stop. `comfy-bridge status a-1` shows it.",
        ),
        (
            "See workflow_status, or read comfy://queue.",
            "See `comfy-bridge status`, or run `comfy-bridge queue`.",
        ),
        ("Read comfy://workflows for the ids.", "Run `comfy-bridge workflows` for the ids."),
        ("Correct the workflow.", "Correct the workflow."),
        ('Give it: inputs={"image": "…"}, as a path.', "Give it: -i image=…, as a path."),
        ('For example matrix={"cfg": [4, 7]}.', "For example --matrix cfg=4,7."),
        ('Give matrix={"6.text": […]} instead.', "Give --matrix 6.text=… instead."),
    ],
)
def test_advice_names_commands(advice: str, said: str) -> None:
    assert in_commands(advice) == said


def test_names_from_an_engine_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\nc\x07 é 漢") == "a [2Jb c  é 漢"


def test_an_error_is_two_lines_and_with_json_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    error = Conflict("It has ended.", next_step="See workflow_status.", details={"currentStatus": "failed"})
    Output(as_json=True).error(error)
    captured = capsys.readouterr()
    assert captured.err == "error[not_cancellable]: It has ended.\nnext: See `comfy-bridge status`.\n"
    assert json.loads(captured.out) == {
        "error": "not_cancellable",
        "message": "It has ended.",
        "nextStep": "See `comfy-bridge status`.",
        "retryable": False,
        "details": {"currentStatus": "failed"},
    }


def test_an_error_without_advice_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Output().error(NotFound("Gone.", next_step=""))
    assert capsys.readouterr() == ("", "error[workflow_not_found]: Gone.\n")
    assert error_document(NotFound("Gone.", next_step=""))["nextStep"] == ""


def test_a_defect_shows_an_id_and_its_text_stays_in_the_log(
    capsys: pytest.CaptureFixture[str], restored_logging: None, tmp_path: Path
) -> None:
    async def broken(settings: Settings, output: Output) -> ExitCode:
        raise ZeroDivisionError("very private")

    with pytest.raises(SystemExit) as ended:
        execute(Options(state_dir=tmp_path), Output(as_json=True), broken)
    captured = capsys.readouterr()
    assert ended.value.code == ExitCode.INTERNAL
    document = json.loads(captured.out)
    assert document["error"] == "internal"
    log, error, _ = captured.err.splitlines()
    assert "very private" not in error + captured.out
    assert json.loads(log)["error_id"] in document["message"]
    assert "very private" in json.loads(log)["exception"]


def test_an_error_inside_a_task_group_comes_out_as_itself(
    capsys: pytest.CaptureFixture[str], restored_logging: None, tmp_path: Path
) -> None:
    async def fail() -> None:
        raise NotFound("Not there.", next_step="Look elsewhere.")

    async def grouped(settings: Settings, output: Output) -> ExitCode:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
        return ExitCode.OK

    with pytest.raises(SystemExit) as ended:
        execute(Options(state_dir=tmp_path), Output(), grouped)
    assert ended.value.code == ExitCode.NOT_FOUND
    assert capsys.readouterr().err.startswith("error[workflow_not_found]: Not there.")


def test_an_interrupt_exits_130(
    capsys: pytest.CaptureFixture[str], restored_logging: None, tmp_path: Path
) -> None:
    async def interrupted(settings: Settings, output: Output) -> ExitCode:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        execute(Options(state_dir=tmp_path), Output(), interrupted)
    assert ended.value.code == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


def test_a_reader_that_goes_away_is_no_error(shell: Shell, tmp_path: Path) -> None:
    shell("submit", written(tmp_path, graph()))
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "comfy_mcp", "workflows"],
            stdout=writing,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, said(done)) == (0, [])


def said(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """Lines on stderr, without the one of a busy machine."""
    return [line for line in done.stderr.splitlines() if "loop_stood" not in line]


def closed_or_full(redirection: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """The command, with a stream that can't be written or read."""
    return subprocess.run(
        [
            "sh",
            "-c",
            f'exec "$@" {redirection}',
            "sh",
            sys.executable,
            "-m",
            "comfy_mcp",
            *map(str, arguments),
        ],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("arguments", [("workflows",), ("workflows", "--json"), ("status", "x", "--json")])
def test_a_full_disk_behind_stdout_is_an_error_in_words(shell: Shell, arguments: tuple[str, ...]) -> None:
    done = closed_or_full(">/dev/full", *arguments)
    assert done.returncode in {2, 3}
    assert said(done)[0].startswith("error[")
    assert "Traceback" not in done.stderr


def test_help_on_a_full_disk_is_an_error_in_words() -> None:
    done = closed_or_full(">/dev/full", "--help")
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")


def test_a_run_whose_progress_nobody_can_read_runs_all_the_same(shell: Shell, tmp_path: Path) -> None:
    done = closed_or_full("2>/dev/full", "run", written(tmp_path, graph()))
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)


def test_no_file_gets_the_number_of_a_stream_that_the_caller_has_closed(shell: Shell, tmp_path: Path) -> None:
    done = closed_or_full("<&- >&- 2>&-", "run", written(tmp_path, graph()))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert shell("workflows", "--json").json["workflows"][0]["status"] == "completed"
    assert "not valid JSON" in closed_or_full("<&-", "run", "-").stderr
