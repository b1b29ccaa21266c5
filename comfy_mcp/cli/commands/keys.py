"""Commands for the API keys of `serve`."""

from typing import Any

import click

from comfy_mcp.cli import options
from comfy_mcp.cli.options import Command, execute


@click.group()
def keys() -> None:
    """Add, list and revoke the API keys of `serve`."""


@keys.command(cls=Command, example="comfy-bridge keys add dashboard --right read --right admin")
@click.argument("name")
@click.option(
    "--right",
    "rights",
    type=click.Choice(options.RIGHTS),
    multiple=True,
    help="A right of the key; repeatable. Default: read, submit, cancel. admin: every client's workflows; "
    "spend: partner nodes, which cost Comfy credits.",
)
@click.option(
    "--max-queued", type=click.IntRange(min=1), metavar="N", help="Maximum number of its queued workflows."
)
@click.option(
    "--max-queued-bytes",
    type=click.IntRange(min=1),
    metavar="BYTES",
    help="Maximum size of its queued workflows together.",
)
@click.option(
    "--max-running",
    type=click.IntRange(min=1),
    metavar="N",
    help="Maximum number of its workflows at engines.",
)
@click.option(
    "--max-gpu-seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Maximum GPU time of its workflows a day (UTC).",
)
@options.as_json
@click.pass_obj
def add(given: dict[str, Any], /, as_json: bool, **how: Any) -> None:
    """Create a key and print it; it is shown only once. NAME is also the client name of its workflows."""
    from comfy_mcp.cli import keys as commands

    execute(given, as_json, lambda s, out: commands.add(s, out, **how))


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
