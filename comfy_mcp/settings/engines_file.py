"""The file that names the engines, each with its own address, headers and folder: `engines.toml`.

[big]
url = "http://gpu-1:8188"
token = "…"
headers = { "X-Team" = "pictures" }
outputs_dir = "/mnt/gpu-1/output"
labels = ["h100"]
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.settings.names import misconfigured
from comfy_mcp.settings.paths import expanded, one_at_a_time, write_whole

MAX_BYTES, LINE_BYTES = 2**20, 8_192
"""Of the file: thousands of engines, and any token."""

NO_ENGINE = "# No engine.\n"
"""What is left where the last one is removed: a file without a word was cut short."""

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Name = Annotated[str, Field(pattern=r"^[^\s,=/]{1,128}$")]


class EngineEntry(BaseModel):
    """What the file says of one engine. A token, header or timeout of its own goes before that of all
    engines."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)

    url: str
    ws_url: str | None = None
    token: SecretStr | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict, repr=False)
    outputs_dir: Path | None = None
    labels: tuple[Label, ...] = ()
    on_demand: bool = False
    connect_timeout_s: float | None = Field(default=None, gt=0)

    @field_validator("outputs_dir")
    @classmethod
    def _expand_home(cls, value: Path | None) -> Path | None:
        return None if value is None else expanded(value)


class _File(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True, defer_build=True)

    engines: dict[Name, EngineEntry]


def engines_in(path: Path) -> Mapping[str, EngineEntry]:
    """By name, in the order of the file. There may be none.

    Raises InvalidInput (`configuration`), which names what is wrong and shows no value: it may be a secret.
    """
    return _parsed(path, lambda: _text(path))


def entry_of(given: Mapping[str, Any]) -> EngineEntry:
    """One entry. Raises InvalidInput (`configuration`), which shows no value."""
    try:
        return EngineEntry.model_validate(given)
    except ValidationError as error:
        raise misconfigured(f"The engine is not valid: {_faults(error)}.", "Correct it.") from None


def add_engine(
    path: Path,
    name: str,
    settings: Mapping[str, Any],
    check: Callable[[Mapping[str, EngineEntry]], object],
) -> None:
    """Append an engine to the file, which is made where there is none. What stands in it stays as it is.
    `check` raises InvalidInput for entries that can't be used together.

    Raises InvalidInput (`configuration`) for an entry or a file that is not valid, and where the engine is
    there already.
    """
    table = "\n".join([f"[{_toml(name)}]", *(f"{key} = {_toml(value)}" for key, value in settings.items())])
    with _written(path), one_at_a_time(_made(path.parent)):
        before = _text(path) if path.exists() else ""
        if name in _parsed(path, lambda: before):
            raise misconfigured(
                f"The engine {name!r} is in {path} already.",
                f"Remove it first (comfy-bridge engines remove {name}), or edit the file.",
            )
        text = "\n".join(part for part in (before.rstrip(), "", table, "") if part or before)
        check(_parsed(path, lambda: text))
        write_whole(path, text, new_mode=0o600)  # it may hold secrets


def remove_engine(path: Path, name: str) -> bool:
    """Take an engine out of the file; False: it has none of that name. The rest stays as it is.

    Raises InvalidInput (`configuration`) where only a person can edit the file.
    """
    with _written(path), one_at_a_time(path.parent):
        before = _parsed(path, lambda: _text(path))
        if name in before:
            write_whole(path, _without(path, name, before), new_mode=0o600)  # it may hold secrets
    return name in before


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise misconfigured(
            f"The file of engines {path} can't be written: {error.strerror}.",
            "Give this user the right to write it and its folder, or edit it by hand.",
        ) from None


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _without(path: Path, name: str, before: Mapping[str, EngineEntry]) -> str:
    """The file's text without one engine. Raises InvalidInput where more than that would change."""
    kept, inside = [], False
    for line in _text(path).splitlines(keepends=True):
        if line.startswith("["):
            inside = _table_of(line) == name
        if not inside:
            kept.append(line)
    text = "".join(kept)
    text = text if text.strip() else NO_ENGINE
    try:
        after = _parsed(path, lambda: text)
    except InvalidInput:
        after = before
    if after != {each: entry for each, entry in before.items() if each != name}:
        raise _misconfigured(path, "has tables that only a person can edit")
    return text


def _table_of(header: str) -> str | None:
    """The engine whose table, or part of one, begins with this line."""
    try:
        return next(iter(_loads(header)), None)
    except ValueError:
        return None


def _toml(value: object) -> str:
    """JSON's strings, numbers and lists are TOML's as well."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_toml(key)} = {_toml(each)}' for key, each in value.items())} }}"
    return json.dumps(value, ensure_ascii=False)


def _loads(text: str) -> dict[str, Any]:
    import tomllib  # most have no such file

    return tomllib.loads(text)


def _parsed(path: Path, read: Callable[[], str]) -> Mapping[str, EngineEntry]:
    try:
        return _File(engines=_loads(read())).engines
    except OSError as error:
        raise _misconfigured(path, f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _misconfigured(path, "is not UTF-8 text") from None
    except ValidationError as error:
        raise _misconfigured(path, f"is not valid: {_faults(error, skip=1)}") from None
    except ValueError as error:  # a date that does not exist is none of TOML's own errors
        raise _misconfigured(path, f"is not TOML: {error}") from None
    except RecursionError:
        raise _misconfigured(path, "is nested too deeply") from None


def _text(path: Path) -> str:
    """Raises InvalidInput for a file too large: the parser takes memory by the square of a key's length."""
    with path.open("rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES or any(len(line) > LINE_BYTES for line in data.splitlines()):
        raise _misconfigured(path, f"has more than {MAX_BYTES} bytes, or a line of more than {LINE_BYTES}")
    return data.decode("utf-8")


_WORDS = {
    "extra_forbidden": "there is no such setting of an engine",
    "missing": "it is required",
    "model_type": "it must be a table",
}


def _faults(error: ValidationError, *, skip: int = 0) -> str:
    return "; ".join(
        f"{'.'.join(map(str, item['loc'][skip:])) or 'the file'}: {_WORDS.get(item['type'], item['msg'])}"
        for item in error.errors()
    )


def _misconfigured(path: Path, fault: str) -> Exception:
    return misconfigured(
        f"The file of engines {path} {fault}.",
        "Correct it: one table per engine, with its url; docs/settings.md has an example.",
    )
