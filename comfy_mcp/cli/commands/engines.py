"""Commands for the engines of a fleet."""

from typing import Any, TextIO

import click

from comfy_mcp.cli import options
from comfy_mcp.cli.options import Command, execute


@click.group(short_help="List, add, remove, drain and resume engines.")
def engines() -> None:
    """List the engines, add and remove them, and take one out of use for maintenance."""


@engines.command("list", cls=Command, example="comfy-bridge engines list --json")
@options.as_json
@click.pass_obj
def list_engines(given: dict[str, Any], /, as_json: bool) -> None:
    """List the engines with their state, URL and labels."""
    from comfy_mcp.cli import engines as commands

    execute(given, as_json, commands.list_)


@engines.command("add", cls=Command, example="comfy-bridge engines add gpu-1 http://gpu-1:8188 --label h100")
@click.argument("engine", metavar="NAME")
@click.argument("url")
@click.option("--label", "labels", multiple=True, help="What submits may ask for; may be repeated.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Header for every request.")
@click.option(
    "--token-file", type=click.File(), help="File with the bearer token for every request (- = stdin)."
)
@options.as_json
@click.pass_obj
def add_engine(
    given: dict[str, Any],
    /,
    as_json: bool,
    engine: str,
    url: str,
    labels: tuple[str, ...],
    headers: tuple[str, ...],
    token_file: TextIO | None,
) -> None:
    """Add an engine to the file that COMFY_BRIDGE_ENGINES_FILE names. It gets workflows within seconds."""
    from comfy_mcp.cli import engines as commands

    arguments = {
        "engine": engine,
        "url": url,
        "labels": labels,
        "headers": commands.headers_of(headers),
        "token": None if token_file is None else token_file.read().strip(),
    }
    execute(given, as_json, lambda s, out: commands.change(s, out, "add_engine", arguments))


@engines.command("remove", cls=Command, example="comfy-bridge engines remove gpu-1")
@click.argument("engine", shell_complete=options.completed("engines"))
@options.as_json
@click.pass_obj
def remove_engine(given: dict[str, Any], /, as_json: bool, engine: str) -> None:
    """Take ENGINE out of the file of engines. It ends the workflows that it has."""
    from comfy_mcp.cli import engines as commands

    execute(given, as_json, lambda s, out: commands.change(s, out, "remove_engine", {"engine": engine}))


@engines.command(cls=Command, example="comfy-bridge engines drain gpu-1")
@click.argument("engine", shell_complete=options.completed("engines"))
@options.as_json
@click.pass_obj
def drain(given: dict[str, Any], /, as_json: bool, engine: str) -> None:
    """Give ENGINE no new workflows; it ends those that it has. This outlasts restarts."""
    from comfy_mcp.cli import engines as commands

    execute(given, as_json, lambda s, out: commands.drain(s, out, engine=engine, drained=True))


@engines.command(cls=Command, example="comfy-bridge engines resume gpu-1")
@click.argument("engine", shell_complete=options.completed("engines"))
@options.as_json
@click.pass_obj
def resume(given: dict[str, Any], /, as_json: bool, engine: str) -> None:
    """Give a drained ENGINE workflows again."""
    from comfy_mcp.cli import engines as commands

    execute(given, as_json, lambda s, out: commands.drain(s, out, engine=engine, drained=False))


COMMANDS = (engines,)
