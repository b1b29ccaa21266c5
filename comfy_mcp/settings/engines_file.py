"""The file that names the engines, each with its own address, headers and folder: `engines.toml`.

[big]
url = "http://gpu-1:8188"
token = "…"
headers = { "X-Team" = "pictures" }
outputs_dir = "/mnt/gpu-1/output"
labels = ["h100"]
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from comfy_mcp.settings.names import misconfigured
from comfy_mcp.settings.paths import expanded

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Name = Annotated[str, Field(pattern=r"^[^\s,=/]{1,128}$")]


class EngineEntry(BaseModel):
    """What the file says of one engine. A token or header of its own goes before that of all engines."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str
    ws_url: str | None = None
    token: SecretStr | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict, repr=False)
    outputs_dir: Path | None = None
    labels: tuple[Label, ...] = ()

    @field_validator("outputs_dir")
    @classmethod
    def _expand_home(cls, value: Path | None) -> Path | None:
        return None if value is None else expanded(value)


class _File(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    engines: dict[Name, EngineEntry] = Field(min_length=1)


def engines_in(path: Path) -> Mapping[str, EngineEntry]:
    """By name, in the order of the file.

    Raises InvalidInput (`configuration`), which names what is wrong and shows no value: it may be a secret.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
        return _File(engines=given).engines
    except OSError as error:
        raise _misconfigured(path, f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _misconfigured(path, "is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise _misconfigured(path, f"is not TOML: {error}") from None
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, item['loc'][1:])) or 'the file'}: {item['msg']}" for item in error.errors()
        )
        raise _misconfigured(path, f"is not valid: {faults}") from None


def _misconfigured(path: Path, fault: str) -> Exception:
    return misconfigured(
        f"The file of engines {path} {fault}.",
        "Correct it: one table per engine, with its url; docs/settings.md has an example.",
    )
