"""Webhooks as the Standard Webhooks specification defines them: events, signatures, and when to try again."""

import base64
import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from comfy_mcp.domain.addresses import is_public
from comfy_mcp.domain.ids import ClientId, JobId

PREFIX = "workflow."
ENDS = ("workflow.completed", "workflow.failed", "workflow.cancelled")
EVENTS = ("workflow.queued", "workflow.started", "workflow.requeued", *ENDS)
"""Types of events that are sent: PREFIX and the type of the job's event."""

SECRET_PREFIX = "whsec_"  # noqa: S105 - no secret
ROTATION_MS = 86_400_000
"""How long the secret before the present one signs too."""

MAX_URL = 2_000
FIRST_DELAY_S = 5
MAX_DELAY_S = 7_200
MAX_TRIES = 23
"""5 s, 10 s, 20 s … up to 2 h between two: a little more than a day together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Where the events of a job are sent. `url` None: to the webhook of its client, with the filter that it
    has at each event. `events` empty: the ends."""

    url: str | None = None
    events: tuple[str, ...] = ()

    def wants(self, event_type: str) -> bool:
        return event_type in (self.events or ENDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientWebhook:
    """What is kept for a client: where its events are sent (`url` None: only where a submit says it), and the
    secrets that sign them. Times are epoch ms."""

    client: ClientId
    url: str | None
    events: tuple[str, ...]
    created_at: int
    secret: str = field(repr=False)
    old_secret: str | None = field(default=None, repr=False)
    old_until: int | None = None

    def secrets(self, now: int) -> list[str]:
        """Those that sign now, the newest first."""
        if self.old_secret is None or self.old_until is None or now >= self.old_until:
            return [self.secret]
        return [self.secret, self.old_secret]


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event of one job on its way to one receiver. `id` is the same at every try; `at` is the event's
    time, `due_at` that of the next try. `error`: why the last one failed."""

    id: str
    job_id: JobId
    client: ClientId
    type: str
    at: int
    url: str
    state: DeliveryState
    tries: int
    due_at: int
    ended_at: int | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryQuery:
    """Which deliveries; None stands for any."""

    state: DeliveryState | None = None
    client: ClientId | None = None
    job_id: JobId | None = None
    id: str | None = None
    limit: int = 50
    cursor: str | None = None


def delivery_id(job_id: JobId, event_type: str, attempt: int) -> str:
    """The same for the same event of a job, whoever asks."""
    return f"msg_{job_id}_{event_type.removeprefix(PREFIX)}_{attempt}"


def host_of(url: str) -> str:
    """The unit of fairness between receivers: all ports of a host are one."""
    return urlsplit(url).hostname or ""


def url_fault(url: str, *, private: bool) -> str | None:
    """Why nothing can be sent there, as far as the text shows. `private`: private addresses are allowed."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "it is no URL"
    if parts.scheme not in {"http", "https"} or not host or len(url) > MAX_URL:
        return f"it must be an http or https URL of at most {MAX_URL} characters"
    if parts.username is not None or parts.password is not None:
        return "it must have no user name and no password"
    try:
        literal = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return None if private or is_public(literal) else f"{host} is not on the public internet"


def signed_headers(secrets: Sequence[str], message_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """The headers of one try. Each secret has a signature, so that either one verifies it."""
    content = f"{message_id}.{at_s}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(f"v1,{_signature(secret, content)}" for secret in secrets),
    }


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode("ascii")


def delay_ms(tries: int, jitter: float, *, pause_s: float = 0.0) -> int | None:
    """How long to wait after this number of failed tries; None: give it up. `jitter` is in [0, 1), `pause_s`
    what the receiver asked for: it is kept to, up to MAX_DELAY_S."""
    if tries >= MAX_TRIES:
        return None
    seconds = min(FIRST_DELAY_S << (tries - 1), MAX_DELAY_S)
    return round(max(seconds * (0.8 + 0.4 * jitter), min(pause_s, MAX_DELAY_S)) * 1000)
