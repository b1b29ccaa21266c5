"""Help, version, and the tables that the commands promise."""

import subprocess
import sys
from importlib import import_module
from typing import Any, Literal, get_args

import click
import pytest

from comfy_mcp import __version__
from comfy_mcp.cli import app, options
from comfy_mcp.cli.app import cli
from comfy_mcp.cli.exits import BY_ERROR, MEANINGS, ExitCode, exit_code_of, exit_code_of_status
from comfy_mcp.cli.output import COMMAND_OF
from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import ErrorCode, NotFound
from comfy_mcp.operations import shapes
from comfy_mcp.operations.registry import OPERATIONS
from comfy_mcp.operations.shapes.webhooks import DeliveryStateName, WebhookEventName
from tests.cli.conftest import ROOT, Shell
from tests.support.commands import every_command

COMMANDS = {
    **{name: command for name, command in every_command().items() if not isinstance(command, click.Group)},
    **{
        f"{name} {sub}": command
        for name, group in every_command().items()
        if isinstance(group, click.Group)
        for sub, command in group.commands.items()
    },
}


def test_help_lists_every_exit_code_with_its_meaning(shell: Shell) -> None:
    done = shell("--help")
    assert done.code == 0
    text = " ".join(done.out.split())
    for code, meaning in MEANINGS.items():
        assert f"{int(code)} {meaning}" in text


@pytest.mark.parametrize("module", app.COMMANDS)
def test_a_module_of_commands_has_those_that_the_table_names(module: str) -> None:
    found = import_module(f"comfy_mcp.cli.commands.{module}").COMMANDS
    assert tuple(command.name for command in found) == app.COMMANDS[module]


def test_what_is_no_command_is_refused(shell: Shell) -> None:
    assert shell("no-such-command").code == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(shell: Shell, name: str) -> None:
    done = shell(*name.split(), "--help")
    assert done.code == 0
    example = done.out.split("Example:\n")[1]
    assert f"comfy-bridge {name}" in example


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "mcp"])
def test_every_command_but_mcp_has_json(name: str) -> None:
    declared = [flag for each in COMMANDS[name].params for flag in each.opts]
    assert "--json" in declared


@pytest.mark.parametrize("words", [(), ("engines",), ("jobs",), ("keys",), ("webhooks",)])
def test_a_list_of_commands_cuts_no_sentence(shell: Shell, words: tuple[str, ...]) -> None:
    assert "..." not in shell(*words, "--help").out.split("Commands:")[1]


def test_ctrl_c_while_a_command_is_imported_is_no_bug(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(options, "import_lean", pressed)
    done = shell("workflows")
    assert (done.code, done.err) == (130, "interrupted\n")


def test_no_option_takes_what_is_not_a_number_for_one() -> None:
    numbers = [
        option
        for command in COMMANDS.values()
        for option in command.params
        if isinstance(option.type, click.types.FloatParamType | click.types.IntParamType)
    ]
    assert any(option.name == "timeout_s" for option in numbers)
    for option in numbers:
        with pytest.raises(click.BadParameter):
            option.type.convert("nan", option, None)


def test_every_option_has_a_help_text() -> None:
    silent = [
        f"{command.name} {each.name}"
        for command in [cli, *COMMANDS.values()]
        for each in command.params
        if isinstance(each, click.Option) and not each.help
    ]
    assert silent == []


def test_a_wrong_option_exits_2(shell: Shell) -> None:
    done = shell("run", "--no-such-option")
    assert done.code == ExitCode.USAGE
    assert done.out == ""
    assert "No such option" in done.err


@pytest.mark.parametrize(
    ("choices", "declared"),
    [
        (options.PRIORITIES, shapes.PriorityName),
        (options.STATUSES, shapes.StatusFilterName),
        (options.FAILURE_KINDS, shapes.FailureKindName),
        (options.OUTPUT_KINDS, shapes.OutputKindName),
        (options.WEBHOOK_EVENTS, WebhookEventName),
        (options.DELIVERY_STATES, DeliveryStateName),
        (options.RIGHTS, Literal[tuple(Right)]),
    ],
)
def test_choices_are_those_of_the_operations(choices: tuple[str, ...], declared: Any) -> None:
    assert choices == get_args(declared)


def test_every_error_code_has_an_exit_code_and_every_exit_code_a_meaning() -> None:
    assert set(BY_ERROR) == set(ErrorCode)
    assert set(MEANINGS) == set(ExitCode)


def test_an_error_gives_the_exit_code_of_its_code() -> None:
    assert exit_code_of(NotFound("gone", next_step="", code=ErrorCode.OUTPUT_GONE)) is ExitCode.NOT_FOUND


@pytest.mark.parametrize(
    ("status", "code"), [("completed", 0), ("failed", 7), ("cancelled", 8), ("running", 9), ("queued", 9)]
)
def test_the_end_of_a_wait_gives_the_exit_code(status: str, code: int) -> None:
    assert exit_code_of_status(status) == code


def test_every_tool_has_a_command_in_the_advice() -> None:
    advised = {each.name for each in OPERATIONS if each.tool or (each.resource and "{" not in each.resource)}
    assert set(COMMAND_OF) == advised


def test_help_and_version_load_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from comfy_mcp.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    print(sorted(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = done.stdout
    assert "'comfy_mcp.cli.app'" in loaded
    assert "'comfy_mcp.cli.commands.jobs'" in loaded
    for name in (
        *("pydantic", "aiohttp", "sqlalchemy", "mcp", "PIL", "structlog", "asyncio"),
        *(f"comfy_mcp.cli.commands.{name}" for name in app.COMMANDS if name != "jobs"),
    ):
        assert f"'{name}'" not in loaded


def test_python_m_comfy_mcp_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "comfy_mcp", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"comfy-bridge, version {__version__}\n"
