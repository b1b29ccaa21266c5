"""Settings of the HTTP sidecar."""

from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from comfy_mcp.settings.names import Group, alias


class HttpGroup(Group):
    http_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        validation_alias=alias("HTTP_HOST", "MANAGEMENT_API_HOST"),
        description="Address that `serve` listens on. Any address but loopback requires a key.",
    )
    http_port: int = Field(
        default=9090,
        ge=0,
        le=65535,
        validation_alias=alias("HTTP_PORT", "MANAGEMENT_API_PORT"),
        description="Port that `serve` listens on; 0 = any free port.",
    )
    http_key: SecretStr | None = Field(
        default=None,
        validation_alias=alias("HTTP_KEY", "MANAGEMENT_API_KEY"),
        description="An API key with every right. `comfy-bridge keys add` makes further keys.",
    )
    public_url: str | None = Field(
        default=None,
        description="URL under which clients reach `serve`, such as https://host.example. Results over HTTP "
        "then have links to outputs that need no key and expire after a day.",
    )
    cors_origins: tuple[str, ...] = Field(
        default=(),
        validation_alias=alias("CORS_ORIGINS", "CORS_ALLOWED_ORIGINS"),
        description="Web origins whose pages may call the API, separated by commas; `*` = any.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description="Host names accepted besides localhost and IP addresses while no key is required, "
        "separated by commas; `*` = any. This stops web pages that point their own name at this "
        "machine (DNS rebinding).",
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(),
        description="Addresses or networks of reverse proxies, separated by commas; X-Forwarded-For is read "
        "from these only.",
    )
    isolate_clients: bool = Field(
        default=False,
        description="Keep the files of clients apart: uploads go into a folder of each client, and workflows "
        "that name outputs or another client's folder are refused. Keys with the right `admin` are exempt.",
    )
    rate_limit_per_minute: int = Field(
        default=100,
        ge=0,
        description="Requests per minute for each key, or for each address without a key (0 = no limit). "
        "/mcp and the pages allow twelve times as many: an agent sends each message as a request, "
        "and a page is two dozen files.",
    )
    max_upload_bytes: int = Field(
        default=256 * 2**20, ge=1024, description="Maximum size of an uploaded input file."
    )
    drain_timeout_s: float = Field(
        default=10.0, gt=0, description="Time for open requests and streams to end after SIGTERM."
    )
    metrics_public: bool = Field(default=True, description="Serve /metrics without a key.")

    @field_validator("public_url")
    @classmethod
    def _plain_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("it is no URL like https://host.example")
        return value.rstrip("/")
