"""The ComfyUI servers, and how to reach them."""

import base64
import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.settings.engines_file import EngineEntry, engines_in, entry_of
from comfy_mcp.settings.names import PREFIX, Group, alias, misconfigured

DEFAULT_ENGINE_URL = "http://127.0.0.1:8188"
_COMFY_KEY = re.compile(r"[A-Za-z0-9._-]{8,}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class EngineSettings(BaseModel):
    """One ComfyUI server. `headers` are sent on HTTP and WebSocket alike and may hold secrets. `labels` are
    what submits can ask for. `outputs_dir` is its output folder, if this machine can read it. `query` goes
    with every request and is a secret. An engine `on_demand` is connected only while it has work."""

    model_config = ConfigDict(frozen=True)

    id: EngineId
    url: str
    ws_url: str
    headers: dict[str, SecretStr] = Field(default_factory=dict, repr=False)
    labels: tuple[str, ...] = ()
    outputs_dir: Path | None = None
    query: SecretStr | None = None
    on_demand: bool = False
    connect_timeout_s: float | None = None

    def secrets(self) -> tuple[str, ...]:
        """All values of it that are secret."""
        query = "" if self.query is None else self.query.get_secret_value()
        return (*self.header_values().values(), query, *(value for _, value in parse_qsl(query)))

    def over(self, settings: "EngineGroup") -> "EngineGroup":
        """The settings of all engines with its own in their place."""
        if self.connect_timeout_s is None:
            return settings
        return settings.model_copy(update={"connect_timeout_s": self.connect_timeout_s})

    def header_values(self) -> dict[str, str]:
        return {name: value.get_secret_value() for name, value in self.headers.items()}


class EngineGroup(Group):
    engine_urls: tuple[str, ...] = Field(
        default=(DEFAULT_ENGINE_URL,),
        validation_alias=alias("ENGINE_URLS", "COMFYUI_URL", "COMFYUI_API_URL", "COMFYUI_API_ENDPOINT"),
        description="URL of the ComfyUI server, or several, separated by commas; `name=http://…` gives one a "
        "name.",
    )
    engines_file: Path | None = Field(
        default=None,
        description="File (TOML) that names the engines, each with its own settings; instead of their URLs.",
    )
    ws_url: str | None = Field(
        default=None,
        validation_alias=alias("WS_URL", "COMFYUI_WS_URL"),
        description="WebSocket URL, if it does not follow from the engine URL (for a single engine only).",
    )
    engine_headers: dict[str, SecretStr] = Field(
        default_factory=dict,
        repr=False,
        validation_alias=alias("ENGINE_HEADERS", "COMFYUI_HEADERS"),
        description='Headers for every request to an engine, HTTP and WebSocket: JSON `{"Name": "value"}` or '
        "`Name: value` lines.",
    )
    engine_token: SecretStr | None = Field(
        default=None,
        validation_alias=alias("ENGINE_TOKEN", "COMFYUI_TOKEN"),
        description="Bearer token for every request to an engine.",
    )
    engine_ca_file: Path | None = Field(
        default=None, description="CA certificates (PEM) for engines behind TLS with a private authority."
    )
    comfy_org_api_key: dict[str, SecretStr] = Field(
        default_factory=dict,
        repr=False,
        validation_alias=alias("COMFY_ORG_API_KEY", "COMFY_ORG_API_KEY"),
        description='Comfy API key for partner nodes: one key for all clients, or JSON `{"client": "key"}`, '
        "where `*` is every other client. An engine gets it with a workflow that uses partner nodes.",
    )
    connect_timeout_s: float = Field(
        default=5.0, gt=0, description="Time limit for opening a connection to an engine."
    )
    request_timeout_s: float = Field(
        default=30.0,
        gt=0,
        description="Time limit for one request to an engine. Its WebSocket is pinged twice in this time; a "
        "hung engine is detected after three quarters of it.",
    )

    @field_validator("engine_headers", mode="before")
    @classmethod
    def _parse_headers(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        headers = _texts_of_json(value) if value.lstrip().startswith("{") else _headers_of_lines(value)
        if not all(_HEADER_NAME.fullmatch(name) and text.isprintable() for name, text in headers.items()):
            raise ValueError("a header's name or value has characters that HTTP does not allow")
        return headers

    @field_validator("comfy_org_api_key", mode="before")
    @classmethod
    def _parse_keys(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        keys = _texts_of_json(value) if value.lstrip().startswith("{") else {"*": value.strip()}
        if not all(_COMFY_KEY.fullmatch(key) for key in keys.values()):
            raise ValueError("a key has characters other than letters, digits, dots, dashes and underscores")
        return keys

    def comfy_org_key_of(self, client: str) -> str | None:
        """The client's own Comfy key, or the one of all."""
        key = self.comfy_org_api_key.get(client) or self.comfy_org_api_key.get("*")
        return None if key is None else key.get_secret_value()

    @cached_property
    def comfy_org_key_values(self) -> tuple[str, ...]:
        """All of them, to be recognised where an engine repeats one."""
        return tuple({key.get_secret_value() for key in self.comfy_org_api_key.values()})

    @cached_property
    def engines(self) -> tuple[EngineSettings, ...]:
        """Those of the start: see `read_engines`. A file that is not there yet names none."""
        missing = self.engines_file is not None and not self.engines_file.exists()
        return () if missing else self.read_engines()

    def read_engines(self) -> tuple[EngineSettings, ...]:
        """The engines with their ids, WebSocket URLs and headers, as the file now names them.

        Raises InvalidInput (code `configuration`), which never shows a URL: it may hold a password.
        """
        if self.engines_file is not None:
            return self._in_file(self.engines_file)
        headers = _with_token(self.engine_headers, self.engine_token)
        if self.ws_url is not None and (len(self.engine_urls) > 1 or not is_url(self.ws_url, "ws", "wss")):
            raise misconfigured(
                "The WebSocket URL can't be used.",
                "Set COMFYUI_WS_URL for a single engine only, to a URL like ws://127.0.0.1:8188/ws.",
            )
        entries = enumerate(self.engine_urls, start=1)
        engines = tuple(_engine(place, entry, self.ws_url, headers) for place, entry in entries)
        if len({engine.id for engine in engines}) < len(engines):
            raise misconfigured(
                "Two engines have the same name or address.",
                "Give each its own name: one=http://…,two=http://….",
            )
        return _apart(engines)

    def _in_file(self, path: Path) -> tuple[EngineSettings, ...]:
        if {"engine_urls", "ws_url"} & self.model_fields_set:
            raise misconfigured(
                "Both a file of engines and an engine URL are set.",
                f"Unset {PREFIX}ENGINES_FILE, or COMFYUI_URL and COMFYUI_WS_URL.",
            )
        return self.entered(engines_in(path))

    def entered(self, entries: Mapping[str, EngineEntry]) -> tuple[EngineSettings, ...]:
        """The engines of these entries of the file.

        Raises InvalidInput (`configuration`) for one that is not valid, and for one that is there twice."""
        headers = _with_token(self.engine_headers, self.engine_token)
        each = enumerate(entries.items(), start=1)
        return _apart(tuple(self._entered(place, *entry, headers) for place, entry in each))

    def check_engine(self, name: str, given: Mapping[str, Any]) -> None:
        """Raises InvalidInput (`configuration`) for an entry of the file that is not valid."""
        headers = _with_token(self.engine_headers, self.engine_token)
        self._entered(1, name, entry_of(given), headers)

    def _entered(
        self, place: int, name: str, entry: EngineEntry, headers: Mapping[str, SecretStr]
    ) -> EngineSettings:
        own = _with_token(_checked(entry.headers), entry.token)
        names = {each.lower() for each in own}
        shared = {each: value for each, value in headers.items() if each.lower() not in names}
        if not is_url(entry.url.strip(), "http", "https"):
            raise misconfigured(
                f"The URL of the engine {name} can't be used.", "Set it to a URL like http://127.0.0.1:8188."
            )
        if entry.ws_url is not None and not is_url(entry.ws_url, "ws", "wss"):
            raise misconfigured(
                f"The WebSocket URL of the engine {name} can't be used.",
                "Set it to a URL like ws://127.0.0.1:8188/ws.",
            )
        engine = _engine(place, f"{name}={entry.url}", entry.ws_url, shared | own)
        own_values = entry.model_dump(include={"labels", "outputs_dir", "on_demand", "connect_timeout_s"})
        return engine.model_copy(update=own_values)


def _apart(engines: tuple[EngineSettings, ...]) -> tuple[EngineSettings, ...]:
    """The same. Raises InvalidInput where two names are of one server: it would get two workflows at a time.
    A proxy may tell servers with one address apart by a header or a query."""
    names: dict[tuple[object, ...], str] = {}
    for each in engines:
        headers = {name.lower(): value for name, value in each.header_values().items()}
        query = "" if each.query is None else each.query.get_secret_value()
        key = _engine_id(urlsplit(each.url)), query, tuple(sorted(headers.items()))
        if (other := names.setdefault(key, each.id)) != each.id:
            raise misconfigured(
                f"The engines {other} and {each.id} have the same address.",
                "Keep one of them, and give it the labels of both.",
            )
    return engines


def _with_token(headers: Mapping[str, SecretStr], token: SecretStr | None) -> dict[str, SecretStr]:
    if token is None:
        return dict(headers)
    others = {name: text for name, text in headers.items() if name.lower() != "authorization"}
    return others | {"Authorization": SecretStr(f"Bearer {token.get_secret_value().strip()}")}


def _checked(headers: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
    values = ((name, text.get_secret_value()) for name, text in headers.items())
    if not all(_HEADER_NAME.fullmatch(name) and text.isprintable() for name, text in values):
        raise misconfigured(
            "The file of engines has a header whose name or value HTTP does not allow.",
            "Correct the headers in the file.",
        )
    return headers


def _engine(place: int, entry: str, ws_url: str | None, headers: dict[str, SecretStr]) -> EngineSettings:
    name, equals, rest = (part.strip() for part in entry.partition("="))
    named = bool(name and equals) and "://" not in name
    url = (rest if named else entry).rstrip("/")
    if not is_url(url, "http", "https"):
        raise misconfigured(
            f"Engine {place} of --engine, {PREFIX}ENGINE_URLS or COMFYUI_URL is "
            "not the URL of a ComfyUI server.",
            "Set it to a URL like http://127.0.0.1:8188.",
        )
    parts = urlsplit(url)
    query, parts = parts.query, parts._replace(query="", path=parts.path.rstrip("/"))
    url = urlunsplit(parts)
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
        query=SecretStr(query) if query else None,
    )


def _credentials(
    parts: SplitResult, headers: dict[str, SecretStr]
) -> tuple[dict[str, SecretStr], SplitResult]:
    """Move `user:password@` from the URL, which is shown in many places, to a header, which is not."""
    if any(name.lower() == "authorization" for name in headers):
        raise InvalidInput(
            "An engine URL has a user name, and a token or an Authorization header is set as well.",
            next_step="Keep one of them: COMFYUI_URL without `user:password@`, or no COMFYUI_TOKEN.",
            code=ErrorCode.CONFIGURATION,
        )
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    basic = base64.b64encode(pair.encode()).decode("ascii")
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return headers | {"Authorization": SecretStr(f"Basic {basic}")}, bare


def is_url(text: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises for one that is no number or out of range
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname) and not parts.fragment


def _texts_of_json(value: str) -> dict[str, str]:
    try:
        parsed = json.loads(value)
    except ValueError:
        raise ValueError("not valid JSON") from None
    if not all(isinstance(text, str) for text in parsed.values()):
        raise ValueError("every name needs a string")
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
