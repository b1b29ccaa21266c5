"""Services that run workflows elsewhere: each is a lane of its own, beside the one of the engines."""

from functools import cached_property

from pydantic import BaseModel, Field, SecretStr, field_validator

from comfy_mcp.domain.ids import COMFY_API, EngineId
from comfy_mcp.settings.engines import EngineSettings, is_url


class CloudGroup(BaseModel):
    comfy_api_url: str | None = Field(
        default=None,
        description="Base URL of a service that speaks Comfy API v2 (Comfy Cloud, a deployment, another "
        'bridge). Workflows go there with `gpu: "comfy-api-v2"`.',
    )
    comfy_api_key: SecretStr | None = Field(
        default=None, description="API key for that service, sent as a Bearer token."
    )

    @field_validator("comfy_api_url")
    @classmethod
    def _is_bare(cls, value: str | None) -> str | None:
        """Never shows the value: it may hold a password."""
        if value is None:
            return None
        url = value.rstrip("/").removesuffix("/api/v2")
        if not is_url(url, "http", "https") or {"?", "@"} & set(url):
            raise ValueError("it must be a URL of http or https without a user name or a query")
        return url

    @cached_property
    def lanes(self) -> tuple[EngineSettings, ...]:
        """Those that are configured, each as an engine with its address and headers."""
        if self.comfy_api_url is None:
            return ()
        headers = {}
        if (key := self.comfy_api_key) is not None:
            headers["Authorization"] = SecretStr(f"Bearer {key.get_secret_value().strip()}")
        return (EngineSettings(id=EngineId(COMFY_API), url=self.comfy_api_url, ws_url="", headers=headers),)
