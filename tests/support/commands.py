"""The commands of `comfy-bridge`, which are imported when they are asked for."""

from collections.abc import Mapping

import click

from comfy_mcp.cli.app import cli


def every_command() -> Mapping[str, click.Command]:
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}
