"""The only reader of the environment.

Every setting has the prefix COMFY_BRIDGE_; names that existing compose files already set
(COMFYUI_URL, COMFYUI_OUTPUTS, …) work too. `docs/settings.md` lists them; a test holds it complete.
"""

import base64
import json
import os
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import platformdirs
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.domain.ids import EngineId

PREFIX = "COMFY_BRIDGE_"
SECRETS_DIR = f"{PREFIX}SECRETS_DIR"
DEFAULT_ENGINE_URL = "http://127.0.0.1:8188"


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_MODEL_FOLDERS = ("models_checkpoints", "models_loras", "models_vae", "models_controlnet", "models_upscale")


def _alias(name: str, *others: str) -> AliasChoices:
    return AliasChoices(f"{PREFIX}{name}", *others)


class EngineSettings(BaseModel):
    """One ComfyUI server. `headers` are sent on HTTP and WebSocket alike and may hold secrets."""

    model_config = ConfigDict(frozen=True)

    id: EngineId
    url: str
    ws_url: str
    headers: dict[str, SecretStr] = Field(default_factory=dict, repr=False)

    def header_values(self) -> dict[str, str]:
        return {name: value.get_secret_value() for name, value in self.headers.items()}


class Settings(BaseSettings):
    """All settings, with their defaults. Times are seconds, sizes bytes, unless the name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        env_ignore_empty=True,
        allow_inf_nan=False,
    )

    # ---- engines
    engine_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(DEFAULT_ENGINE_URL,),
        validation_alias=_alias("ENGINE_URLS", "COMFYUI_URL", "COMFYUI_API_URL", "COMFYUI_API_ENDPOINT"),
        description="URL of the ComfyUI server, or several with commas; `name=http://…` names one.",
    )
    ws_url: str | None = Field(
        default=None,
        validation_alias=_alias("WS_URL", "COMFYUI_WS_URL"),
        description="WebSocket URL, where it can't be derived from the engine URL (one engine only).",
    )
    engine_headers: Annotated[dict[str, SecretStr], NoDecode] = Field(
        default_factory=dict,
        repr=False,
        validation_alias=_alias("ENGINE_HEADERS", "COMFYUI_HEADERS"),
        description='Headers for every request to an engine, HTTP and WebSocket: JSON `{"Name": "value"}` '
        "or `Name: value` lines.",
    )
    engine_token: SecretStr | None = Field(
        default=None,
        validation_alias=_alias("ENGINE_TOKEN", "COMFYUI_TOKEN"),
        description="Bearer token for every request to an engine.",
    )
    engine_ca_file: Path | None = Field(
        default=None, description="CA bundle for an engine behind TLS with a private authority."
    )
    connect_timeout_s: float = Field(
        default=5.0, gt=0, description="Limit for opening a connection to an engine."
    )
    request_timeout_s: float = Field(default=30.0, gt=0, description="Limit for one request to an engine.")
    heartbeat_s: float = Field(
        default=15.0, gt=0, description="WebSocket ping interval; a hung engine is noticed within 1.5 of it."
    )
    reconnect_max_s: float = Field(
        default=5.0,
        gt=0,
        description="Upper limit of the pause between attempts to reach an engine that is down.",
    )
    quiet_poll_s: float = Field(
        default=3.0,
        gt=0,
        description="After so long without an event, prompts in flight are looked up by polling.",
    )
    ws_max_message_bytes: int = Field(
        default=256 * 2**20, gt=0, description="Largest WebSocket message taken from an engine."
    )
    object_info_ttl_s: float = Field(
        default=300.0, ge=0, description="How long an engine's node list is trusted for graph checks."
    )

    # ---- jobs
    client_name: str = Field(
        default="local",
        min_length=1,
        max_length=128,
        description="Who this process submits as, over stdio and from the command line.",
    )
    pipeline_depth: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Prompts handed to an engine at once: one runs, the rest wait there.",
    )
    max_attempts: int = Field(
        default=2,
        ge=1,
        le=10,
        description="Submissions of one job before it fails as engine_lost (or oom, at the second).",
    )
    queue_timeout_s: float = Field(
        default=0.0,
        ge=0,
        description="A job that says nothing of it may wait so long for a start; 0 = for ever.",
    )
    run_timeout_s: float = Field(
        default=0.0,
        ge=0,
        description="A job that says nothing of it may run so long, each attempt; 0 = for ever.",
    )
    job_timeout_max_s: float = Field(
        default=604_800.0, gt=0, description="Upper limit of the timeouts that a submit asks for."
    )
    deadline_poll_s: float = Field(
        default=1.0, gt=0, description="How often waiting jobs are looked through for passed deadlines."
    )
    fair_share: bool = Field(
        default=True,
        description="Clients take turns within a priority; off: jobs run by age, whoever submitted them.",
    )
    max_queued: int = Field(default=10_000, ge=1, description="Queued jobs at which a submit is refused.")
    idempotency_ttl_s: float = Field(
        default=86_400.0,
        gt=0,
        description="How long an idempotency key stands for the first submit under it.",
    )
    max_graph_bytes: int = Field(default=4 * 2**20, ge=1024, description="Largest workflow, as JSON.")
    progress_interval_s: float = Field(
        default=0.25,
        gt=0,
        description="At most one step update per job in this time; the final one always comes.",
    )
    cancel_wait_s: float = Field(
        default=5.0, ge=0, description="How long a cancel waits to see its effect before it answers."
    )
    wait_default_s: float = Field(
        default=45.0, gt=0, description="wait_for_workflow without timeout_s waits so long."
    )
    wait_max_s: float = Field(default=600.0, gt=0, description="Upper limit of timeout_s.")
    workflow_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Folders from which workflow files may be read by path (list with the path separator). "
        "Default: the working folder.",
    )

    # ---- files
    secrets_dir: Path | None = Field(
        default=None,
        description="Folder with a file for each setting that is kept out of the environment, named like its "
        "variable in any case, e.g. `/run/secrets`. A variable that is set counts before a file.",
    )

    # ---- store
    state_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_state_dir("comfy-mcp-bridge", appauthor=False)),
        description="Folder of the store; created with private permissions.",
    )
    store_synchronous: Literal["normal", "full"] = Field(
        default="normal",
        description="`normal` survives kill -9 of any process; `full` also a power cut, a sync per write.",
    )
    store_busy_timeout_s: float = Field(
        default=10.0, gt=0, description="How long a write waits for another process."
    )
    store_poll_s: float = Field(
        default=0.025, gt=0, description="How often a process looks for what other processes wrote."
    )
    lease_ttl_s: float = Field(
        default=10.0,
        gt=0,
        description="A process that drives an engine and dies is replaced after this time.",
    )
    retention_days: float = Field(
        default=30.0, ge=0, description="Final jobs older than this are forgotten; 0 = never."
    )
    retention_jobs: int = Field(default=10_000, ge=0, description="Final jobs kept at most; 0 = no limit.")
    retention_check_s: float = Field(
        default=60.0,
        gt=0,
        description="How often jobs beyond those limits are looked for, from the start on.",
    )

    # ---- models, outputs
    outputs_dir: Path | None = Field(
        default=None,
        validation_alias=_alias("OUTPUTS_DIR", "COMFYUI_OUTPUTS", "COMFYUI_OUTPUT_DIR"),
        description="The engine's output folder, when this machine can read it; else files come over HTTP.",
    )
    models_dir: Path | None = Field(
        default=None,
        validation_alias=_alias("MODELS_DIR", "COMFYUI_MODELS"),
        description="The engine's models folder; otherwise the engine is asked over HTTP.",
    )
    models_checkpoints: Path | None = Field(
        default=None, validation_alias=_alias("MODELS_CHECKPOINTS", "COMFYUI_MODELS_CHECKPOINTS"),
        description="Folder of checkpoints, where it is not models/checkpoints.",
    )  # fmt: skip
    models_loras: Path | None = Field(
        default=None, validation_alias=_alias("MODELS_LORAS", "COMFYUI_MODELS_LORAS"),
        description="Folder of LoRAs, where it is not models/loras.",
    )  # fmt: skip
    models_vae: Path | None = Field(
        default=None, validation_alias=_alias("MODELS_VAE", "COMFYUI_MODELS_VAE"),
        description="Folder of VAEs, where it is not models/vae.",
    )  # fmt: skip
    models_controlnet: Path | None = Field(
        default=None, validation_alias=_alias("MODELS_CONTROLNET", "COMFYUI_MODELS_CONTROLNET"),
        description="Folder of ControlNets, where it is not models/controlnet.",
    )  # fmt: skip
    models_upscale: Path | None = Field(
        default=None, validation_alias=_alias("MODELS_UPSCALE", "COMFYUI_MODELS_UPSCALE"),
        description="Folder of upscalers, where it is not models/upscale_models.",
    )  # fmt: skip
    force_polling: bool = Field(
        default=False,
        description="Watch folders by polling (bind mounts and network folders send no events).",
    )
    hash_models: bool = Field(
        default=True,
        description="Compute sha256 of model files in the background, cached by path, size and mtime.",
    )
    preview_max_px: int = Field(default=768, ge=16, le=4096, description="Longest side of a preview image.")
    preview_max_bytes: int = Field(
        default=700_000, ge=10_000, description="Largest preview; Claude Desktop takes 1 MB a result in all."
    )
    max_image_pixels: int = Field(
        default=100_000_000, gt=0, description="Images with more pixels are not decoded for a preview."
    )
    max_output_bytes: int = Field(
        default=512 * 2**20,
        gt=0,
        description="Largest output that is read into memory, for a preview or a resource.",
    )

    # ---- mcp
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

    # ---- http
    http_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        validation_alias=_alias("HTTP_HOST", "MANAGEMENT_API_HOST"),
        description="Address that `serve` listens on; any but loopback needs a key.",
    )
    http_port: int = Field(
        default=9090,
        ge=0,
        le=65535,
        validation_alias=_alias("HTTP_PORT", "MANAGEMENT_API_PORT"),
        description="Port that `serve` listens on; 0 takes a free one.",
    )
    http_key: SecretStr | None = Field(
        default=None,
        validation_alias=_alias("HTTP_KEY", "MANAGEMENT_API_KEY"),
        description="An API key with every right; more are made with `comfy-bridge keys add`.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        validation_alias=_alias("CORS_ORIGINS", "CORS_ALLOWED_ORIGINS"),
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

    # ---- metrics
    metrics_refresh_s: float = Field(
        default=5.0,
        gt=0,
        description="Pause between two looks at queue, engines and GPUs for the gauges of /metrics.",
    )

    # ---- streams
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

    # ---- gpu
    gpu_sample_s: float = Field(
        default=2.0,
        gt=0,
        description="How old a GPU reading may be, and how often it is taken while somebody follows it.",
    )
    gpu_job_sample_s: float = Field(
        default=1.0,
        gt=0,
        description="How often this machine's GPUs are read while a job runs on them, for its GPU-seconds "
        "and peak VRAM.",
    )

    vram_hold: bool = Field(
        default=False,
        description="Hold a job until an engine has the VRAM that such jobs needed; off = only warn of it.",
    )
    vram_hold_max_s: float = Field(
        default=3_600.0,
        ge=0,
        description="A job is held for so long at most, then it runs all the same; 0 = until there is room.",
    )
    vram_shapes: int = Field(
        default=1_000,
        ge=1,
        description="Kinds of workflows (node classes and model files) whose VRAM is remembered, the last "
        "seen.",
    )

    # ---- logs
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log line."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="Log lines on stderr; auto = console on a terminal, JSON elsewhere."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The first that has a setting counts. Raises InvalidInput (`configuration`) for a folder of secrets
        that is not there: a key must not be missed in silence."""
        folder = _secrets_dir()
        if folder is not None and not folder.is_dir():
            raise _misconfigured(
                f"{SECRETS_DIR} is not a folder.", "Mount the secrets there, or leave the variable out."
            )
        return init_settings, env_settings, _SecretFiles(settings_cls, secrets_dir=folder)

    @field_validator("engine_urls", "cors_origins", "allowed_hosts", "trusted_proxies", mode="before")
    @classmethod
    def _split_urls(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("workflow_roots", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(Path(os.path.expanduser(part)) for part in value.split(os.pathsep) if part)  # noqa: PTH111
        return value

    @field_validator("engine_headers", mode="before")
    @classmethod
    def _parse_headers(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        headers = _headers_of_json(value) if value.lstrip().startswith("{") else _headers_of_lines(value)
        if not all(_HEADER_NAME.fullmatch(name) and text.isprintable() for name, text in headers.items()):
            raise ValueError("a header's name or value has characters that HTTP does not allow")
        return headers

    @field_validator(
        "state_dir", "secrets_dir", "engine_ca_file", "outputs_dir", "models_dir", *_MODEL_FOLDERS
    )
    @classmethod
    def _expand_home(cls, value: Path | None) -> Path | None:
        """No shell expands ~ in an MCP client's or a compose file's env."""
        return None if value is None else Path(os.path.expanduser(value))  # noqa: PTH111 - never raises

    @cached_property
    def engines(self) -> tuple[EngineSettings, ...]:
        """The engines with their ids, WebSocket URLs and headers.

        Raises InvalidInput (code `configuration`), which never shows a URL: it may hold a password.
        """
        headers = dict(self.engine_headers)
        if self.engine_token is not None:
            headers = {name: text for name, text in headers.items() if name.lower() != "authorization"}
            headers["Authorization"] = SecretStr(f"Bearer {self.engine_token.get_secret_value().strip()}")
        if self.ws_url is not None and (len(self.engine_urls) > 1 or not _is_url(self.ws_url, "ws", "wss")):
            raise _misconfigured(
                "The WebSocket URL can't be used.",
                "Set COMFYUI_WS_URL to something like ws://127.0.0.1:8188/ws, and for a single engine only.",
            )
        entries = enumerate(self.engine_urls, start=1)
        engines = tuple(_engine(place, entry, self.ws_url, headers) for place, entry in entries)
        if len({engine.id for engine in engines}) < len(engines):
            raise _misconfigured(
                "Two engines have the same name or address.", "Name each once: one=http://…,two=http://…."
            )
        return engines

    @property
    def store_path(self) -> Path:
        return self.state_dir / "bridge.sqlite3"

    @property
    def model_folders(self) -> dict[str, Path]:
        """Folders configured one by one, keyed by the v1 type."""
        named = {
            "checkpoints": self.models_checkpoints,
            "loras": self.models_loras,
            "vae": self.models_vae,
            "controlnet": self.models_controlnet,
            "upscale": self.models_upscale,
        }
        return {kind: path for kind, path in named.items() if path is not None}


class _SecretFiles(SecretsSettingsSource):
    """Empty is the same as not set, as in the environment."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        try:
            value, key, is_complex = super().get_field_value(field, field_name)
        except UnicodeDecodeError:  # its text would show a byte of the secret
            raise ValueError(f"the file for {field_name} is not UTF-8 text") from None
        return value or None, key, is_complex


def _secrets_dir() -> Path | None:
    given = next((text for name, text in os.environ.items() if name.upper() == SECRETS_DIR and text), None)
    return None if given is None else Path(os.path.expanduser(given))  # noqa: PTH111 - never raises


def _engine(place: int, entry: str, ws_url: str | None, headers: dict[str, SecretStr]) -> EngineSettings:
    name, equals, rest = (part.strip() for part in entry.partition("="))
    named = bool(name and equals) and "://" not in name
    url = (rest if named else entry).rstrip("/")
    if not _is_url(url, "http", "https"):
        raise _misconfigured(
            f"Engine {place} of {PREFIX}ENGINE_URLS or COMFYUI_URL is not the URL of a ComfyUI server.",
            "Set it to something like http://127.0.0.1:8188, without a query; secrets go into headers.",
        )
    parts = urlsplit(url)
    if parts.username is not None:
        headers, parts = _credentials(parts, headers)
        url = urlunsplit(parts)
    scheme = "wss" if parts.scheme == "https" else "ws"
    derived = urlunsplit((scheme, parts.netloc, f"{parts.path}/ws", "", ""))
    return EngineSettings(
        id=EngineId(name if named else _engine_id(parts)),
        url=url,
        ws_url=ws_url or derived,
        headers=headers,
    )


def _credentials(
    parts: SplitResult, headers: dict[str, SecretStr]
) -> tuple[dict[str, SecretStr], SplitResult]:
    """`user:password@` moves from the URL, which is shown in many places, to a header, which is not."""
    if any(name.lower() == "authorization" for name in headers):
        raise InvalidInput(
            "An engine URL holds a user name, and a token or an Authorization header is set too.",
            next_step="Keep one of them: COMFYUI_URL without `user:password@`, or no COMFYUI_TOKEN.",
            code=ErrorCode.CONFIGURATION,
        )
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    basic = base64.b64encode(pair.encode()).decode("ascii")
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return headers | {"Authorization": SecretStr(f"Basic {basic}")}, bare


def _is_url(text: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises for one that is no number or out of range
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname) and not parts.query and not parts.fragment


def _misconfigured(message: str, next_step: str) -> InvalidInput:
    return InvalidInput(message, next_step=next_step, code=ErrorCode.CONFIGURATION)


def _headers_of_json(value: str) -> dict[str, str]:
    try:
        parsed = json.loads(value)
    except ValueError:
        raise ValueError("not valid JSON") from None
    if not all(isinstance(text, str) for text in parsed.values()):
        raise ValueError("every header needs a string")
    return {str(name): str(text) for name, text in parsed.items()}


def _headers_of_lines(value: str) -> dict[str, str]:
    lines = [line.partition(":") for line in value.splitlines() if line.strip()]
    if not all(colon for _, colon, _ in lines):
        raise ValueError("a line is not `Name: value`")
    return {name.strip(): text.strip() for name, _, text in lines}


def _engine_id(parts: SplitResult) -> str:
    """`host:port/path`, the same for every spelling of one address: processes share leases by this name."""
    host = (parts.hostname or "").lower()
    host = "127.0.0.1" if host == "localhost" else host
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{host}:{port}{parts.path.rstrip('/')}"


def sources() -> dict[str, str]:
    """Field name → the variable, or else the file, that sets it now. Fields at their default are absent.

    Raises OSError where `load_settings` says that a file can't be read.
    """
    folder = _secrets_dir()
    known = {name for names in _variables().values() for name in names}
    there = folder.iterdir() if folder is not None and folder.is_dir() else ()
    files = [file for file in there if file.name.upper() in known]
    in_files = {file.name.upper(): str(file) for file in files if file.read_bytes().strip()}
    in_environment = {name.upper(): name for name, value in os.environ.items() if value}
    return _sources_in(in_files) | _sources_in(in_environment)


def _sources_in(given: Mapping[str, str]) -> dict[str, str]:
    found = {field: [given[name] for name in names if name in given] for field, names in _variables().items()}
    return {field: present[0] for field, present in found.items() if present}


def _variables() -> dict[str, tuple[str, ...]]:
    """Field name → the variables it is read from, the first that is set counts."""
    return {
        name: tuple(str(choice) for choice in alias.choices)
        if isinstance(alias := field.validation_alias, AliasChoices)
        else (f"{PREFIX}{name.upper()}",)
        for name, field in Settings.model_fields.items()
    }


def load_settings(**overrides: object) -> Settings:
    """The settings from the environment, with `overrides` by field name.

    Raises InvalidInput (code `configuration`) that names each setting at fault and never its value.
    """
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
        _ = settings.engines
    except SettingsError as error:  # a secret file that can't be read; the cause has no secret in it
        raise _misconfigured(
            f"A secret can't be read: {error.__cause__}.",
            f"The user that this process runs as must be able to read the files in {SECRETS_DIR}.",
        ) from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise _misconfigured(
            f"The configuration is not valid: {faults}.",
            "Correct the environment; docs/settings.md lists every setting.",
        ) from None
    return settings
