"""Webhooks and their deliveries, over HTTP and on the command line."""

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field

from comfy_mcp.operations.shapes.base import CursorField, LimitField, Params, Part, Result

WebhookEventName = Literal[
    "workflow.queued",
    "workflow.started",
    "workflow.requeued",
    "workflow.completed",
    "workflow.failed",
    "workflow.cancelled",
]
DeliveryStateName = Literal["pending", "delivered", "dead"]


def _as_object(value: object) -> object:
    """A URL alone is its `url`; null is not given. Raises ValueError for a name that a webhook does not
    have: other events would be sent than were meant."""
    if isinstance(value, str):
        return {"url": value}
    if not isinstance(value, dict):
        return value
    given = {name: each for name, each in value.items() if each is not None}
    if not given.keys() <= WebhookParam.model_fields.keys():
        raise ValueError("must have only `url` and `events`")
    return given


class WebhookParam(Params):
    """Where the events of a job are sent. Without `events`: its end."""

    url: str = Field(min_length=1, max_length=2000, description="An http or https URL")
    events: tuple[WebhookEventName, ...] = Field(
        default=(), max_length=6, title="Only these. Default: completed, failed and cancelled."
    )


SubmitWebhookField = Annotated[WebhookParam | None, BeforeValidator(_as_object)]


def _client() -> Any:
    return Field(
        default=None,
        min_length=1,
        max_length=128,
        title="Whose webhook. Default: your own; another's needs the right `admin`.",
    )


class SetWebhookParams(WebhookParam):
    client: str | None = _client()


class WebhookOfParams(Params):
    client: str | None = _client()


class WebhookItem(Part):
    """`url` null: events are sent only where a submit names a URL. `old_secret_until` (epoch ms): until then
    the secret before the present one signs too."""

    client: str
    url: str | None
    events: list[WebhookEventName]
    created_at: int
    old_secret_until: int | None = None


class WebhookResult(WebhookItem, Result):
    """`secret` is present only where this call made it."""

    secret: str | None = Field(default=None, exclude_if=lambda secret: secret is None)

    def text(self) -> str:
        return f"Events of {self.client} are sent to {self.url or 'the URLs of submits'}."


class WebhooksResult(Result):
    webhooks: list[WebhookItem]

    def text(self) -> str:
        return f"{len(self.webhooks)} webhook(s)."


class RemovedWebhookResult(Result):
    client: str
    removed: bool

    def text(self) -> str:
        return f"The webhook of {self.client} was removed."


def _delivery_id(**words: Any) -> Any:
    return Field(
        default=None,
        min_length=1,
        max_length=200,
        validation_alias=AliasChoices("delivery_id", "deliveryId"),
        **words,
    )


def _workflow_id(**words: Any) -> Any:
    return Field(
        default=None, max_length=64, validation_alias=AliasChoices("workflow_id", "workflowId"), **words
    )


class ListDeliveriesParams(Params):
    state: DeliveryStateName | None = Field(default=None, title="Only in this state.")
    workflow_id: str | None = _workflow_id(title="Only of this workflow.")
    limit: LimitField = 50
    cursor: CursorField = None


class ReplayDeliveriesParams(Params):
    delivery_id: str | None = _delivery_id(title="Only this one.")
    workflow_id: str | None = _workflow_id(title="Only those of this workflow.")


class DeliveryItem(Part):
    """`delivery_id` is the `webhook-id` that the receiver gets. `due_at` is when it is tried next; `error` is
    why the last try failed."""

    delivery_id: str
    workflow_id: str
    type: WebhookEventName
    state: DeliveryStateName
    url: str
    tries: int
    created_at: int
    due_at: int | None
    ended_at: int | None
    error: str | None


class DeliveriesResult(Result):
    deliveries: list[DeliveryItem]
    next_cursor: str | None = None

    def text(self) -> str:
        return "1 delivery." if len(self.deliveries) == 1 else f"{len(self.deliveries)} deliveries."


class ReplayedResult(Result):
    """`replayed` dead deliveries are tried again; call again while it is 1,000."""

    replayed: int

    def text(self) -> str:
        if self.replayed == 1:
            return "1 delivery is tried again."
        return f"{self.replayed} deliveries are tried again."
