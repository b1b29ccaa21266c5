"""Webhooks of clients: register, list and remove them, rotate their secrets, list and replay deliveries."""

import base64
import secrets
from dataclasses import replace

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import ErrorCode, InvalidInput, NotFound
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.domain.webhooks import (
    ROTATION_MS,
    SECRET_PREFIX,
    ClientWebhook,
    Delivery,
    DeliveryQuery,
    DeliveryState,
    Webhook,
    url_fault,
)
from comfy_mcp.operations.context import OperationContext, require_right
from comfy_mcp.operations.shapes import (
    DeliveriesResult,
    DeliveryItem,
    ListDeliveriesParams,
    NoParams,
    RemovedWebhookResult,
    ReplayDeliveriesParams,
    ReplayedResult,
    SetWebhookParams,
    WebhookItem,
    WebhookOfParams,
    WebhookParam,
    WebhookResult,
    WebhooksResult,
)

SECRET_BYTES = 32
_MAKE_ONE = (
    "Make one first: `comfy-bridge webhooks rotate` or POST /v1/webhooks/secret. The receiver verifies "
    "with it."
)


async def set_webhook(context: OperationContext, params: SetWebhookParams) -> WebhookResult:
    """Send the client's events there. The first call makes the secret, and is the one that returns it.

    Raises InvalidInput for a URL that can't be used, Denied for another client's without `admin`.
    """
    require_usable(context, params.url)
    client = _whose(context, params.client)
    known = (await context.services.store.webhooks(fresh=True)).get(client)
    webhook = known or _new(context, client)
    webhook = replace(webhook, url=params.url, events=tuple(params.events))
    await context.services.store.put_webhook(webhook)
    return _result(webhook, None if known else webhook.secret)


async def rotate_webhook_secret(context: OperationContext, params: WebhookOfParams) -> WebhookResult:
    """A new secret, which this answer alone has. The one before signs too, for a day. A client that has no
    webhook gets a secret for the URLs that its submits name."""
    client = _whose(context, params.client)
    known = (await context.services.store.webhooks(fresh=True)).get(client)
    webhook = _new(context, client)
    if known is not None:
        until = context.services.now_ms() + ROTATION_MS
        webhook = replace(known, secret=webhook.secret, old_secret=known.secret, old_until=until)
    await context.services.store.put_webhook(webhook)
    return _result(webhook, webhook.secret)


async def list_webhooks(context: OperationContext, params: NoParams) -> WebhooksResult:
    """The caller's own; everybody's with the right `admin`."""
    found = await context.services.store.webhooks(fresh=True)
    shown = [each for each in found.values() if context.caller.may_see(each.client)]
    return WebhooksResult(webhooks=[WebhookItem.model_validate(_item(each)) for each in shown])


async def remove_webhook(context: OperationContext, params: WebhookOfParams) -> RemovedWebhookResult:
    """With its secrets; what waits to be sent is dead. Raises NotFound where there is none."""
    client, services = _whose(context, params.client), context.services
    if not await services.store.remove_webhook(client, at=services.now_ms()):
        raise NotFound(
            f"The client {client!r} has no webhook.",
            next_step="`comfy-bridge webhooks list` lists the webhooks.",
            code=ErrorCode.NOT_FOUND,
        )
    return RemovedWebhookResult(client=client, removed=True)


async def list_deliveries(context: OperationContext, params: ListDeliveriesParams) -> DeliveriesResult:
    """Newest first; the caller's own, everybody's with the right `admin`."""
    query = DeliveryQuery(
        state=None if params.state is None else DeliveryState(params.state),
        client=_seen(context),
        job_id=None if params.workflow_id is None else JobId(params.workflow_id),
        limit=params.limit,
        cursor=params.cursor,
    )
    page = await context.services.store.list_deliveries(query)
    return DeliveriesResult(deliveries=[_delivery(each) for each in page.items], next_cursor=page.next_cursor)


async def replay_deliveries(context: OperationContext, params: ReplayDeliveriesParams) -> ReplayedResult:
    """Try dead ones again: the one that is named, those of a workflow, or all that the caller may see.

    Raises NotFound where one is named that is not dead.
    """
    query = DeliveryQuery(
        client=_seen(context),
        job_id=None if params.workflow_id is None else JobId(params.workflow_id),
        id=params.delivery_id,
    )
    count = await context.services.store.replay_deliveries(query, at=context.services.now_ms())
    if not count and params.delivery_id is not None:
        raise NotFound(
            f"There is no dead delivery {params.delivery_id!r}.",
            next_step="`comfy-bridge webhooks deliveries --state dead` lists them.",
            code=ErrorCode.NOT_FOUND,
        )
    return ReplayedResult(replayed=count)


async def webhook_of(context: OperationContext, asked: WebhookParam | None) -> Webhook | None:
    """Where the events of a submit are sent: as it asks, else to the webhook of its client; None: nowhere.

    Raises InvalidInput for a URL that can't be used, and where there is no secret to sign with.
    """
    known = (await context.services.store.webhooks()).get(context.caller.client)
    if asked is None:
        return None if known is None or known.url is None else Webhook()
    require_usable(context, asked.url)
    if known is None:
        raise InvalidInput("Events can't be signed: you have no webhook secret.", next_step=_MAKE_ONE)
    return Webhook(url=asked.url, events=tuple(asked.events))


def require_usable(context: OperationContext, url: str) -> None:
    """Raises InvalidInput. What a name leads to is judged where the connection is made."""
    fault = url_fault(url, private=context.services.settings.private_urls)
    if fault is not None:
        raise InvalidInput(
            f"The URL of the webhook can't be used: {fault}.",
            next_step="Give a URL of a server on the public internet; COMFY_BRIDGE_PRIVATE_URLS=true allows "
            "private addresses.",
        )


def _whose(context: OperationContext, asked: str | None) -> ClientId:
    caller = context.caller
    client = caller.client if asked is None else ClientId(asked)
    if not caller.may_see(client):
        require_right(caller, Right.ADMIN, "The webhook of another client")
    return client


def _seen(context: OperationContext) -> ClientId | None:
    return None if context.caller.sees_all else context.caller.client


def _new(context: OperationContext, client: ClientId) -> ClientWebhook:
    secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")
    now = context.services.now_ms()
    return ClientWebhook(client=client, url=None, events=(), created_at=now, secret=secret)


def _item(webhook: ClientWebhook) -> dict[str, object]:
    return {
        "client": webhook.client,
        "url": webhook.url,
        "events": list(webhook.events),
        "created_at": webhook.created_at,
        "old_secret_until": webhook.old_until,
    }


def _result(webhook: ClientWebhook, secret: str | None) -> WebhookResult:
    return WebhookResult.model_validate({**_item(webhook), "secret": secret})


def _delivery(delivery: Delivery) -> DeliveryItem:
    return DeliveryItem.model_validate(
        {
            "delivery_id": delivery.id,
            "workflow_id": delivery.job_id,
            "type": delivery.type,
            "state": delivery.state.value,
            "url": delivery.url,
            "tries": delivery.tries,
            "created_at": delivery.at,
            "due_at": delivery.due_at if delivery.state is DeliveryState.PENDING else None,
            "ended_at": delivery.ended_at,
            "error": delivery.error,
        }
    )
