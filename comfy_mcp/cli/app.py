"""The command line: its global options, its help and all of its commands."""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from comfy_mcp import __version__

COMMANDS = {
    "engines": ("engines",),
    "jobs": ("run", "submit", "status", "graph", "wait", "cancel", "retry", "priority", "jobs"),
    "keys": ("keys",),
    "library": ("find", "describe", "nodes", "check", "convert", "workflows", "queue", "models", "outputs"),
    "servers": ("mcp", "serve", "engine", "doctor"),
    "webhooks": ("webhooks",),
}
"""By module of `commands/`. A module is imported with its first command: `mcp`, which an agent keeps running,
needs one of six."""


class _Group(click.Group):
    """Ends its help with the exit codes. Its commands are imported when they are asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(name for names in COMMANDS.values() for name in names)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        for module, names in COMMANDS.items():
            if name in names and name not in self.commands:
                for command in import_module(f"comfy_mcp.cli.commands.{module}").COMMANDS:
                    self.add_command(command)
        return super().get_command(context, name)

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        from comfy_mcp.cli.exits import MEANINGS

        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), meaning) for code, meaning in MEANINGS.items()])
        with formatter.section("Example"):
            formatter.write("  comfy-bridge run workflow.json -o pictures\n")


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="comfy-bridge")
@click.option("--engine", metavar="URL", help="URL of ComfyUI; overrides COMFYUI_URL.")
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the store; overrides COMFY_BRIDGE_STATE_DIR.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Lowest level logged on stderr. Default: warning; mcp, serve and engine use COMFY_BRIDGE_LOG_LEVEL.",
)
@click.pass_context
def cli(context: click.Context, /, **given: Any) -> None:
    """Run ComfyUI workflows through a durable queue, from a shell or as an MCP server.

    Set COMFYUI_URL to the address of ComfyUI. `comfy-bridge doctor` shows the configuration and what to fix.
    """
    context.obj = given


def main() -> None:
    """The entry point of the package."""
    _open_what_is_closed()
    try:
        cli(prog_name="comfy-bridge")
    except OSError as error:  # stdout can't be written while --help is printed
        sys.exit(f"error: {error.strerror}")


def _open_what_is_closed() -> None:
    """Stdin, stdout and stderr. The next file to be opened, such as the store, would get the number of one
    that the caller has closed, and what is printed would be written into it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            os.dup2(opened, number)
            if opened != number:
                os.close(opened)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8"))
