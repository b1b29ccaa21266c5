"""API keys, as the command line shows them."""

from pydantic import Field

from comfy_mcp.domain.access import Right
from comfy_mcp.operations.shapes.base import Params, Part, Result


class AddKeyParams(Params):
    """Without `rights` the key may read, submit and cancel. Its client may have `max_queued` queued jobs and
    `max_queued_bytes` of queued graphs, `max_running` jobs at engines, and use `max_gpu_seconds` a day (None
    = no limit of its own)."""

    name: str
    rights: tuple[Right, ...] = ()
    max_queued: int | None = Field(default=None, ge=1)
    max_queued_bytes: int | None = Field(default=None, ge=1)
    max_running: int | None = Field(default=None, ge=1)
    max_gpu_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class ChangeKeyParams(Params):
    """What is not given stays as it is. `rights` replace those that the key has. A limit of 0 is none."""

    name: str
    rights: tuple[Right, ...] = ()
    max_queued: int | None = Field(default=None, ge=0)
    max_queued_bytes: int | None = Field(default=None, ge=0)
    max_running: int | None = Field(default=None, ge=0)
    max_gpu_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class RevokeKeyParams(Params):
    name: str


class KeyItem(Part):
    name: str
    rights: list[Right]
    created_at: int
    revoked_at: int | None
    max_queued: int | None = None
    max_queued_bytes: int | None = None
    max_running: int | None = None
    max_gpu_seconds: float | None = None


class NewKeyResult(KeyItem, Result):
    """`key` is the secret itself."""

    key: str

    def text(self) -> str:
        return self.key


class ChangedKeyResult(KeyItem, Result):
    def text(self) -> str:
        return f"{self.name} changed"


class KeysResult(Result):
    keys: list[KeyItem]

    def text(self) -> str:
        return f"{len(self.keys)} keys"


class RevokedKeyResult(Result):
    name: str
    revoked: bool

    def text(self) -> str:
        return f"{self.name} revoked"
