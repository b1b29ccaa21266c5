"""API keys, as the command line shows them."""

from comfy_mcp.domain.access import Right
from comfy_mcp.operations.shapes.base import Params, Part, Result


class AddKeyParams(Params):
    """Without `rights` the key may read, submit and cancel."""

    name: str
    rights: tuple[Right, ...] = ()


class RevokeKeyParams(Params):
    name: str


class KeyItem(Part):
    name: str
    rights: list[Right]
    created_at: int
    revoked_at: int | None


class NewKeyResult(KeyItem, Result):
    """`key` is the secret itself."""

    key: str

    def text(self) -> str:
        return self.key


class KeysResult(Result):
    keys: list[KeyItem]

    def text(self) -> str:
        return f"{len(self.keys)} keys"


class RevokedKeyResult(Result):
    name: str
    revoked: bool

    def text(self) -> str:
        return f"{self.name} revoked"
