"""How settings are named, and how a mistake in one is reported."""

from pydantic import AliasChoices, BaseModel, ConfigDict

from comfy_mcp.domain.errors import ErrorCode, InvalidInput

PREFIX = "COMFY_BRIDGE_"
SECRETS_DIR = f"{PREFIX}SECRETS_DIR"


class Group(BaseModel):
    """Base of the groups. Validators are built for all settings together, not for each group by itself."""

    model_config = ConfigDict(defer_build=True)


def alias(name: str, *others: str) -> AliasChoices:
    """The variables of a setting; the first that is set counts. `name` is without the prefix."""
    return AliasChoices(f"{PREFIX}{name}", *others)


def misconfigured(message: str, next_step: str) -> InvalidInput:
    return InvalidInput(message, next_step=next_step, code=ErrorCode.CONFIGURATION)
