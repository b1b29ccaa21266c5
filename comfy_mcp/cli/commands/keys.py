"""Commands for the API keys of `serve`."""

from collections.abc import Callable
from typing import Any

import click

from comfy_mcp.cli import options
from comfy_mcp.cli.options import Command, execute


@click.group()
def keys() -> None:
    """Add, list, change and revoke the API keys of `serve`."""


def _rights(more: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--right",
        "rights",
        type=click.Choice(options.RIGHTS),
        multiple=True,
        help=f"A right of the key; repeatable. {more}",
    )


def _limits(least: int, more: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of what a key limits."""
    count, time = click.IntRange(min=least), options.Seconds(min=0, min_open=bool(least))

    def options_of(command: Callable[..., None]) -> Callable[..., None]:
        for name, kind, unit, words in (
            ("--max-gpu-seconds", time, "SECONDS", "Maximum GPU time of its workflows a day (UTC)"),
            ("--max-running", count, "N", "Maximum number of its workflows at engines"),
            ("--max-queued-bytes", count, "BYTES", "Maximum size of its queued workflows together"),
            ("--max-queued", count, "N", "Maximum number of its queued workflows"),
        ):
            command = click.option(name, type=kind, metavar=unit, help=f"{words}{more}.")(command)
        return command

    return options_of


@keys.command(cls=Command, example="comfy-bridge keys add dashboard --right read --right admin")
@click.argument("name")
@_rights(
    "Default: read, submit, cancel. admin: every client's workflows; spend: what costs money (partner nodes, "
    "services)."
)
@_limits(1, "")
@options.as_json
@click.pass_obj
def add(given: dict[str, Any], /, as_json: bool, **how: Any) -> None:
    """Create a key and print it; it is shown only once. NAME is also the client name of its workflows."""
    from comfy_mcp.cli import keys as commands

    execute(given, as_json, lambda s, out: commands.add(s, out, **how))


@keys.command(cls=Command, example="comfy-bridge keys change agent --max-running 2 --max-queued 0")
@click.argument("name")
@_rights("They replace those that it has.")
@_limits(0, " (0 = no limit)")
@options.as_json
@click.pass_obj
def change(given: dict[str, Any], /, as_json: bool, **how: Any) -> None:
    """Change the rights and limits of a key; what is not given stays."""
    from comfy_mcp.cli import keys as commands

    execute(given, as_json, lambda s, out: commands.change(s, out, **how))


@keys.command("list", cls=Command, example="comfy-bridge keys list --json")
@options.as_json
@click.pass_obj
def list_(given: dict[str, Any], /, as_json: bool) -> None:
    """List the names and rights of all keys, also of revoked ones."""
    from comfy_mcp.cli import keys as commands

    execute(given, as_json, commands.list_)


@keys.command(cls=Command, example="comfy-bridge keys revoke dashboard")
@click.argument("name")
@options.as_json
@click.pass_obj
def revoke(given: dict[str, Any], /, as_json: bool, name: str) -> None:
    """Revoke a key. A running server refuses it within seconds."""
    from comfy_mcp.cli import keys as commands

    execute(given, as_json, lambda s, out: commands.revoke(s, out, name=name))


COMMANDS = (keys,)
