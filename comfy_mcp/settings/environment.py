"""All settings together, and where they come from: the only module that reads the environment."""

import os
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import AliasChoices, ConfigDict, Field, ValidationError, field_validator

from comfy_mcp.settings.cloud import CloudGroup
from comfy_mcp.settings.engines import EngineGroup
from comfy_mcp.settings.files import MODEL_FOLDERS, FileGroup
from comfy_mcp.settings.names import PREFIX, SECRETS_DIR, Group, misconfigured
from comfy_mcp.settings.paths import expanded
from comfy_mcp.settings.surfaces import HttpGroup
from comfy_mcp.settings.work import GpuGroup, JobGroup, StoreGroup


class LogGroup(Group):
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto",
        description="Format of the log on stderr; auto = console on a terminal, JSON otherwise.",
    )


class Settings(  # the last base has the first fields
    LogGroup,
    HttpGroup,
    FileGroup,
    GpuGroup,
    StoreGroup,
    JobGroup,
    CloudGroup,
    EngineGroup,
):
    """All settings, with their defaults; `load_settings` reads them from the environment. Times are seconds,
    sizes bytes, unless the name says otherwise."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, allow_inf_nan=False, validate_default=True
    )

    secrets_dir: Path | None = Field(
        default=None,
        description="Folder with one file per secret setting, named like the variable in any case, e.g. "
        "`/run/secrets`. A variable in the environment takes precedence over its file.",
    )

    @field_validator("engine_urls", "cors_origins", "allowed_hosts", "trusted_proxies", mode="before")
    @classmethod
    def _split_urls(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator(
        "state_dir",
        "secrets_dir",
        "engine_ca_file",
        "engines_file",
        "outputs_dir",
        "models_dir",
        "workflows",
        *MODEL_FOLDERS,
    )
    @classmethod
    def _expand_home(cls, value: Path | None) -> Path | None:
        return None if value is None else expanded(value)


class _Given(NamedTuple):
    """The text of a setting, and the variable or the file that has it."""

    text: str
    place: str


def _given() -> dict[str, _Given]:
    """By field name. A variable counts before a file, and the first of a setting's names before the others;
    what is empty is not set.

    Raises InvalidInput (`configuration`) for a secret that can't be read.
    """
    variables = {name.upper(): _Given(text, name) for name, text in os.environ.items() if text}
    folder = variables.get(SECRETS_DIR)
    files = {} if folder is None else dict(_secrets(expanded(folder.text)))
    found = {
        field: [source[name] for source in (variables, files) for name in names if name in source]
        for field, names in _variables().items()
    }
    return {field: each[0] for field, each in found.items() if each}


def _secrets(folder: Path) -> Iterator[tuple[str, _Given]]:
    """Those of a folder, which holds other programs' files too. A link out of it is none."""
    known = {name for names in _variables().values() for name in names}
    inside = folder.resolve()
    for file in folder.iterdir() if folder.is_dir() else ():
        name = file.name.upper()
        if name in known and file.is_file() and inside in file.resolve().parents and (text := _read(file)):
            yield name, _Given(text, str(file))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        # The text of the second would show a byte of the secret.
        why = error if isinstance(error, OSError) else f"{file.name} is not UTF-8 text"
        raise misconfigured(
            f"A secret can't be read: {why}.",
            f"The user that this process runs as must be able to read the files in {SECRETS_DIR}.",
        ) from None


def sources() -> dict[str, str]:
    """Field name → the variable, or else the file, that sets it now. Fields at their default are absent.

    Raises InvalidInput (`configuration`) for a secret that can't be read.
    """
    return {field: given.place for field, given in _given().items()}


def unknown_variables() -> list[str]:
    """Variables that begin with COMFY_BRIDGE_ and set nothing: misspelt, or removed since."""
    known = {name for names in _variables().values() for name in names}
    return sorted(
        name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known
    )


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

    Raises InvalidInput (code `configuration`) that names each setting at fault and never its value, and
    TypeError for an override that is no setting.
    """
    if unknown := overrides.keys() - Settings.model_fields:
        raise TypeError(f"no settings: {', '.join(sorted(unknown))}")
    given = _given()
    if "secrets_dir" in given and not expanded(given["secrets_dir"].text).is_dir():
        # A key must not be missed in silence.
        raise misconfigured(
            f"{SECRETS_DIR} is not a folder.", "Mount the secrets there, or unset the variable."
        )
    try:
        settings = Settings.model_validate({field: each.text for field, each in given.items()} | overrides)
        _ = settings.engines
    except ValidationError as error:
        raise misconfigured(
            f"The configuration is not valid: {'; '.join(_faults(error, given, overrides))}.",
            "Correct the environment; docs/settings.md lists every setting.",
        ) from None
    return settings


def _faults(error: ValidationError, given: Mapping[str, _Given], overrides: Container[str]) -> Iterator[str]:
    """Each with the variable or file that set it."""
    for item in error.errors():
        place, *inside = map(str, item["loc"])
        field = next((field for field, names in _variables().items() if place in (field, *names)), place)
        name = given[field].place if field in given and field not in overrides else place
        yield f"{'.'.join([name, *inside])}: {item['msg'].removeprefix('Value error, ')}"
