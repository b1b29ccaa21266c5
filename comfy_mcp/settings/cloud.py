"""Services that run workflows elsewhere: each is a lane of its own, beside the one of the engines."""

from functools import cached_property

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from comfy_mcp.domain.ids import COMFY_API, SALAD, EngineId
from comfy_mcp.domain.spending import Budget, millionths
from comfy_mcp.settings.engines import EngineSettings, is_url
from comfy_mcp.settings.names import Group, alias

SALAD_URL = "https://api.salad.com/api/public"
_NAME = r"[a-z0-9][a-z0-9-]{0,62}"


class CloudGroup(Group):
    comfy_api_url: str | None = Field(
        default=None,
        description="Base URL of a service that speaks Comfy API v2 (Comfy Cloud, a deployment, another "
        'bridge). Workflows go there with `gpu: "comfy-api-v2"`.',
    )
    comfy_api_key: SecretStr | None = Field(
        default=None, description="API key for that service, sent as a Bearer token."
    )

    salad_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=alias("SALAD_API_KEY", "SALAD_API_KEY"),
        description="API key of SaladCloud.",
    )
    salad_org_name: str | None = Field(
        default=None,
        pattern=rf"^{_NAME}$",
        validation_alias=alias("SALAD_ORG_NAME", "SALAD_ORG_NAME"),
        description="Organization at SaladCloud.",
    )
    salad_queue: str | None = Field(
        default=None,
        pattern=rf"^{_NAME}/{_NAME}$",
        description="Project and job queue at SaladCloud, `PROJECT/QUEUE`. With key and organization, "
        'workflows go there with `gpu: "salad"`.',
    )

    cloud_price: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="What an hour of running costs at a service, in your currency. With it, spending is "
        "counted.",
    )
    cloud_budget: float | None = Field(
        default=None,
        gt=0,
        le=1e9,
        description="Most that workflows at services may cost on one day (UTC), all together. Needs the "
        'price. With it, `gpu: "auto"` may use a service.',
    )
    cloud_budget_job: float | None = Field(
        default=None,
        gt=0,
        le=1e9,
        description="Most that one workflow may cost: it is reserved, and the run is stopped when it is used "
        "up. Default: a tenth of the day's budget.",
    )
    spill_wait_s: float = Field(
        default=300.0,
        ge=0,
        description='With `gpu: "auto"` a workflow is sent to a service if it would wait here for longer.',
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

    @field_validator("cloud_budget")
    @classmethod
    def _has_a_price(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("cloud_price") is None:
            raise ValueError("it needs cloud_price: without a price nothing is counted")
        return value

    @cached_property
    def budget(self) -> Budget | None:
        """What running at a service costs, and how much it may cost. None: nobody said."""
        if self.cloud_price is None:
            return None
        price = max(1, millionths(self.cloud_price))
        if self.cloud_budget is None:
            return Budget(per_hour=price)
        job = self.cloud_budget / 10 if self.cloud_budget_job is None else self.cloud_budget_job
        return Budget(per_hour=price, day=millionths(self.cloud_budget), job=millionths(job))

    @cached_property
    def lanes(self) -> tuple[EngineSettings, ...]:
        """Those that are configured, each as an engine with its address and headers."""
        return tuple(lane for lane in (self._comfy_api(), self._salad()) if lane is not None)

    def _comfy_api(self) -> EngineSettings | None:
        if self.comfy_api_url is None:
            return None
        headers = {}
        if (key := self.comfy_api_key) is not None:
            headers["Authorization"] = SecretStr(f"Bearer {key.get_secret_value().strip()}")
        return EngineSettings(id=EngineId(COMFY_API), url=self.comfy_api_url, ws_url="", headers=headers)

    def _salad(self) -> EngineSettings | None:
        key, organization, queue = self.salad_api_key, self.salad_org_name, self.salad_queue
        if key is None or organization is None or queue is None:
            return None
        project, _, name = queue.partition("/")
        url = f"{SALAD_URL}/organizations/{organization}/projects/{project}/queues/{name}"
        return EngineSettings(id=EngineId(SALAD), url=url, ws_url="", headers={"Salad-Api-Key": key})
