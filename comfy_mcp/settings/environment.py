"""All settings together, and where they come from: the only module that reads the environment."""

import os
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from comfy_mcp.settings.cloud import CloudGroup
from comfy_mcp.settings.engines import EngineGroup
from comfy_mcp.settings.files import MODEL_FOLDERS, FileGroup
from comfy_mcp.settings.names import PREFIX, SECRETS_DIR, misconfigured
from comfy_mcp.settings.paths import expanded
from comfy_mcp.settings.surfaces import HttpGroup
from comfy_mcp.settings.work import GpuGroup, JobGroup, StoreGroup


class LogGroup(BaseModel):
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
    BaseSettings,
):
    """All settings, with their defaults. Times are seconds, sizes bytes, unless the name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        env_ignore_empty=True,
        allow_inf_nan=False,
    )

    secrets_dir: Path | None = Field(
        default=None,
        description="Folder with one file per secret setting, named like the variable in any case, e.g. "
        "`/run/secrets`. A variable in the environment takes precedence over its file.",
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
            raise misconfigured(
                f"{SECRETS_DIR} is not a folder.", "Mount the secrets there, or unset the variable."
            )
        return init_settings, env_settings, _SecretFiles(settings_cls, secrets_dir=folder)

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
    return None if given is None else expanded(given)


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


def unknown_variables() -> list[str]:
    """Variables that begin with COMFY_BRIDGE_ and set nothing: misspelt, or removed since."""
    known = {name for names in _variables().values() for name in names}
    return sorted(
        name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known
    )


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

    Raises InvalidInput (code `configuration`) that names each setting at fault and never its value, and
    TypeError for an override that is no setting.
    """
    if unknown := overrides.keys() - Settings.model_fields:
        raise TypeError(f"no settings: {', '.join(sorted(unknown))}")
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
        _ = settings.engines
    except SettingsError as error:  # a secret file that can't be read; the cause has no secret in it
        raise misconfigured(
            f"A secret can't be read: {error.__cause__}.",
            f"The user that this process runs as must be able to read the files in {SECRETS_DIR}.",
        ) from None
    except ValidationError as error:
        raise misconfigured(
            f"The configuration is not valid: {'; '.join(_faults(error, overrides))}.",
            "Correct the environment; docs/settings.md lists every setting.",
        ) from None
    return settings


def _faults(error: ValidationError, overrides: Container[str]) -> Iterator[str]:
    """Each with the variable or file that set it."""
    given = sources()
    for item in error.errors():
        place, *inside = map(str, item["loc"])
        field = next((field for field, names in _variables().items() if place in (field, *names)), place)
        name = place if field in overrides else given.get(field, place)
        yield f"{'.'.join([name, *inside])}: {item['msg'].removeprefix('Value error, ')}"
