"""docs/settings.md has every setting, with its names, its default and its meaning, and nothing else."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from comfy_mcp.settings import PREFIX, Settings, load_settings

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
ROWS = {line.split("|")[1].strip(): line for line in DOCUMENT.splitlines() if line.startswith("| `")}
COMPUTED: Mapping[str, str] = {
    "state_dir": "the platform's state folder",
    "engine_headers": "none",
    "comfy_org_api_key": "none",
}


def names(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [f"{PREFIX}{name.upper()}"]
    return " ".join(f"`{choice}`" for choice in choices)


def default(name: str, field: FieldInfo) -> str:
    value = field.default
    if name in COMPUTED:
        return COMPUTED[name]
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        value = ",".join(value)
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, int) and value >= 2**20 and value % 2**20 == 0:
        return f"`{value}` ({value // 2**20} MiB)"
    return f"`{value}`"


def row(name: str, field: FieldInfo) -> str:
    return f"| {names(name, field)} | {default(name, field)} | {field.description} |"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_is_documented_as_it_is(name: str) -> None:
    field = Settings.model_fields[name]
    assert field.description, "give it a description"
    assert row(name, field) == ROWS.get(names(name, field))


@pytest.mark.parametrize("name", COMPUTED)
def test_a_default_in_words_is_one_that_is_computed(name: str) -> None:
    assert Settings.model_fields[name].default is PydanticUndefined


def test_no_setting_is_documented_that_does_not_exist() -> None:
    assert set(ROWS) == {names(name, field) for name, field in Settings.model_fields.items()}


def test_every_variable_named_in_the_text_exists() -> None:
    known = set(re.findall(r"`([A-Z_0-9]+)`", " ".join(ROWS)))
    assert set(re.findall(rf"\b(?:COMFYUI|{PREFIX.rstrip('_')})_[A-Z_]*[A-Z]\b", DOCUMENT)) <= known


def test_every_variable_named_anywhere_exists() -> None:
    """In the other documents, and in what errors tell people to set."""
    known = set(re.findall(r"`([A-Z_0-9]+)`", " ".join(ROWS)))
    texts = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.*")]
    sources = [*(ROOT / "comfy_mcp").rglob("*.py"), *(ROOT / "http_sidecar").rglob("*.py")]
    for path in [*texts, *sources]:
        named = set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8")))
        assert named <= known, path


def test_no_document_names_a_setting_by_its_field() -> None:
    """Readers set the variable. `queue_timeout_s` and its like are arguments too, or members of an engine."""
    fields = set(Settings.model_fields) - {
        "queue_timeout_s",
        "run_timeout_s",
        "connect_timeout_s",
        "state_dir",
    }
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", path.read_text(encoding="utf-8")))
        assert named & fields == set(), path


def test_the_examples_in_the_text_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith((PREFIX, "COMFYUI_")):
            monkeypatch.delenv(name)
    examples = re.findall(r"^((?:COMFYUI|COMFY_BRIDGE)_\w+)=(.+)$", DOCUMENT, re.MULTILINE)
    assert len(examples) >= 4
    for name, value in examples:
        with monkeypatch.context() as variable:
            variable.setenv(name, value.strip("'\""))
            assert load_settings().engines
            assert load_settings() != Settings.model_construct()
