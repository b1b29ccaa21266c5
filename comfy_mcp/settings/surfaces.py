"""How agents, programs and people reach the bridge, and what one of them may take of it."""

from typing import Annotated

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import NoDecode

from comfy_mcp.settings.names import alias


class McpGroup(BaseModel):
    start_timeout_s: float = Field(
        default=30.0, gt=0, description="How long a first call waits for the bridge to open its store."
    )
    notify_timeout_s: float = Field(
        default=10.0,
        gt=0,
        description="A client that does not take a notification for so long gets no more of them.",
    )

    mcp_max_sessions: int = Field(
        default=1_000, ge=1, description="MCP sessions over HTTP (2025-11-25 and older) open at once."
    )
    mcp_session_idle_s: float = Field(
        default=1_800.0,
        gt=0,
        description="An MCP session over HTTP without a request or an open stream for so long is closed.",
    )
    mcp_max_streams: int = Field(
        default=2_000, ge=1, description="Open `subscriptions/listen` streams (2026-07-28) at once."
    )


class HttpGroup(BaseModel):
    http_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        validation_alias=alias("HTTP_HOST", "MANAGEMENT_API_HOST"),
        description="Address that `serve` listens on; any but loopback needs a key.",
    )
    http_port: int = Field(
        default=9090,
        ge=0,
        le=65535,
        validation_alias=alias("HTTP_PORT", "MANAGEMENT_API_PORT"),
        description="Port that `serve` listens on; 0 takes a free one.",
    )
    http_key: SecretStr | None = Field(
        default=None,
        validation_alias=alias("HTTP_KEY", "MANAGEMENT_API_KEY"),
        description="An API key with every right; more are made with `comfy-bridge keys add`.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        validation_alias=alias("CORS_ORIGINS", "CORS_ALLOWED_ORIGINS"),
        description="Web origins whose pages may call, with commas; `*` = any. Default: none.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Host names that are answered besides localhost and IP addresses, where no key is asked "
        "for, with commas; `*` = any. Keeps web pages out that point a name of theirs at this machine.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Addresses or networks of reverse proxies, with commas; only their X-Forwarded-For "
        "counts.",
    )
    rate_limit_per_minute: int = Field(
        default=100, ge=0, description="Requests a minute per key, or per address without one; 0 = no limit."
    )
    mcp_rate_limit_per_minute: int = Field(
        default=1200,
        ge=0,
        description="The same for /mcp, where every message of an agent is a request; 0 = no limit.",
    )
    http_max_body_bytes: int = Field(
        default=8 * 2**20, ge=1024, description="Largest request body, uploads apart."
    )
    http_body_timeout_s: float = Field(
        default=30.0,
        gt=0,
        description="A request body must have come within this time; an upload must not pause for so long.",
    )
    http_send_timeout_s: float = Field(
        default=60.0, gt=0, description="A client that takes nothing of an answer for so long is cut off."
    )
    max_upload_bytes: int = Field(default=256 * 2**20, ge=1024, description="Largest input file taken.")
    prefer_wait_max_s: float = Field(
        default=60.0, ge=0, description="Upper limit of `Prefer: wait` on a submit."
    )
    drain_timeout_s: float = Field(
        default=10.0, gt=0, description="After SIGTERM, requests and streams have so long to end."
    )
    metrics_public: bool = Field(default=True, description="Serve /metrics without a key.")


class MetricsGroup(BaseModel):
    metrics_refresh_s: float = Field(
        default=5.0,
        gt=0,
        description="Pause between two looks at queue, engines and GPUs for the gauges of /metrics.",
    )


class StreamGroup(BaseModel):
    stream_heartbeat_s: float = Field(
        default=15.0,
        gt=0,
        description="Pause between two signs of life on a stream: WebSocket pings, SSE comments.",
    )
    stream_send_timeout_s: float = Field(
        default=10.0,
        gt=0,
        description="A stream's client that takes nothing for so long is cut off; it may resume.",
    )
    stream_buffer: int = Field(
        default=4_096,
        ge=1,
        description="Events that wait for one stream's client at most; a client that reads slower is cut "
        "off.",
    )
    stream_max_clients: int = Field(
        default=4_096, ge=1, description="Open streams at once, WebSocket and SSE together."
    )
    stream_max_subscriptions: int = Field(
        default=1_000, ge=1, description="Workflows that one WebSocket may follow one by one."
    )
    stream_max_message_bytes: int = Field(
        default=64 * 2**10, ge=1_024, description="Largest WebSocket message taken from a client."
    )
    stream_max_faults: int = Field(
        default=20,
        ge=1,
        description="Messages that can't be understood, after so many of which a WebSocket is closed.",
    )
    stream_ticket_ttl_s: float = Field(
        default=30.0, gt=0, description="How long a ticket for a WebSocket may be used."
    )
