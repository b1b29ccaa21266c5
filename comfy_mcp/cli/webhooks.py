"""`comfy-bridge webhooks`: where the events of workflows are sent, and what became of them."""

from typing import Any

from comfy_mcp.cli.exits import ExitCode
from comfy_mcp.cli.output import Output
from comfy_mcp.cli.session import open_session
from comfy_mcp.operations.shapes import (
    DeliveriesResult,
    DeliveryItem,
    WebhookItem,
    WebhookResult,
    WebhooksResult,
)
from comfy_mcp.settings import Settings


async def secret(
    settings: Settings, output: Output, *, operation: str, arguments: dict[str, Any]
) -> ExitCode:
    """Set a webhook, or rotate its secret. A secret that was made is printed, now and never again."""
    async with open_session(settings, drive=False) as session:
        made: WebhookResult = await session.call(operation, arguments)
    output.answer(made, [made.secret or made.text()])
    if made.secret is not None:
        output.note(f"the secret of {made.client!r}, shown only once; the receiver verifies events with it")
    return ExitCode.OK


async def done(settings: Settings, output: Output, *, operation: str, arguments: dict[str, Any]) -> ExitCode:
    async with open_session(settings, drive=False) as session:
        result = await session.call(operation, arguments)
    output.answer(result, [result.text()])
    return ExitCode.OK


async def list_(settings: Settings, output: Output) -> ExitCode:
    async with open_session(settings, drive=False) as session:
        found: WebhooksResult = await session.call("list_webhooks", {})
    lines = [_webhook_line(each) for each in found.webhooks]
    nothing = "There is no webhook. `comfy-bridge webhooks set URL` sets yours."
    output.answer(found, lines, nothing=nothing)
    return ExitCode.OK


async def deliveries(settings: Settings, output: Output, *, arguments: dict[str, Any]) -> ExitCode:
    async with open_session(settings, drive=False) as session:
        found: DeliveriesResult = await session.call("list_deliveries", arguments)
    lines = [_delivery_line(each) for each in found.deliveries]
    output.answer(found, lines, nothing="There is no such delivery.")
    return ExitCode.OK


def _webhook_line(webhook: WebhookItem) -> str:
    events = ",".join(webhook.events) or "completed, failed and cancelled"
    return "  ".join([webhook.client, webhook.url or "-", events])


def _delivery_line(delivery: DeliveryItem) -> str:
    said = [delivery.delivery_id, delivery.state, f"{delivery.tries} tries", delivery.url]
    return "  ".join([*said, *([delivery.error] if delivery.error else [])])
