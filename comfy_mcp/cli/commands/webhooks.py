"""Commands for webhooks and their deliveries."""

from typing import Any

import click

from comfy_mcp.cli import options
from comfy_mcp.cli.options import Command, execute


@click.group(short_help="Send the events of workflows to a URL, signed.")
def webhooks() -> None:
    """Send the events of workflows to a URL, signed, and see what became of them."""


@webhooks.command("set", cls=Command, example="comfy-bridge webhooks set https://receiver.example/comfy")
@click.argument("url")
@options.webhook_events
@options.webhook_client
@options.as_json
@click.pass_obj
def set_webhook(given: dict[str, Any], /, as_json: bool, **arguments: Any) -> None:
    """Send the events of your workflows to URL. The first call prints the secret; it is shown only once."""
    from comfy_mcp.cli import webhooks as commands

    execute(
        given, as_json, lambda s, out: commands.secret(s, out, operation="set_webhook", arguments=arguments)
    )


@webhooks.command("rotate", cls=Command, example="comfy-bridge webhooks rotate")
@options.webhook_client
@options.as_json
@click.pass_obj
def rotate_webhook(given: dict[str, Any], /, as_json: bool, **arguments: Any) -> None:
    """Make a new secret and print it. The old one signs too for a day.

    Without a webhook it is the first one: it signs what `submit --webhook URL` and `run --webhook URL` send.
    """
    from comfy_mcp.cli import webhooks as commands

    operation = "rotate_webhook_secret"
    execute(given, as_json, lambda s, out: commands.secret(s, out, operation=operation, arguments=arguments))


@webhooks.command("list", cls=Command, example="comfy-bridge webhooks list --json")
@options.as_json
@click.pass_obj
def list_webhooks(given: dict[str, Any], /, as_json: bool) -> None:
    """List the webhooks of all clients, without their secrets."""
    from comfy_mcp.cli import webhooks as commands

    execute(given, as_json, commands.list_)


@webhooks.command("remove", cls=Command, example="comfy-bridge webhooks remove")
@options.webhook_client
@options.as_json
@click.pass_obj
def remove_webhook(given: dict[str, Any], /, as_json: bool, **arguments: Any) -> None:
    """Remove your webhook and its secrets. What waits to be sent is dead."""
    from comfy_mcp.cli import webhooks as commands

    execute(
        given, as_json, lambda s, out: commands.done(s, out, operation="remove_webhook", arguments=arguments)
    )


@webhooks.command("deliveries", cls=Command, example="comfy-bridge webhooks deliveries --state dead")
@click.option("--state", type=click.Choice(options.DELIVERY_STATES), help="Only deliveries in this state.")
@click.option("--workflow", "workflow_id", metavar="ID", help="Only deliveries of this workflow.")
@options.limit
@options.cursor
@options.as_json
@click.pass_obj
def deliveries(given: dict[str, Any], /, as_json: bool, **arguments: Any) -> None:
    """List what was or will be sent, newest first."""
    from comfy_mcp.cli import webhooks as commands

    execute(given, as_json, lambda s, out: commands.deliveries(s, out, arguments=arguments))


@webhooks.command("replay", cls=Command, example="comfy-bridge webhooks replay")
@click.argument("delivery_id", metavar="[ID]", required=False)
@click.option("--workflow", "workflow_id", metavar="ID", help="Only deliveries of this workflow.")
@options.as_json
@click.pass_obj
def replay(given: dict[str, Any], /, as_json: bool, **arguments: Any) -> None:
    """Try dead deliveries again: the one with this ID, or all. A running server sends them within seconds."""
    from comfy_mcp.cli import webhooks as commands

    operation = "replay_deliveries"
    execute(given, as_json, lambda s, out: commands.done(s, out, operation=operation, arguments=arguments))


COMMANDS = (webhooks,)
