"""docs/cli.md names every command, option and exit code, and the dependencies' page every dependency."""

import re
import tomllib
from pathlib import Path

import click
import pytest

from comfy_mcp.cli.app import cli
from comfy_mcp.cli.exits import MEANINGS
from tests.support.commands import every_command

ROOT = Path(__file__).resolve().parents[1]
CLI = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def section(command: str) -> str:
    """The words under the command's heading."""
    found = re.search(rf"^### {command}\b.*?(?=^##|\Z)", CLI, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/cli.md has no section on {command}"
    return found.group(0)


@pytest.mark.parametrize("name", sorted(every_command()))
def test_every_command_has_a_section_that_names_all_its_options(name: str) -> None:
    words = section(name)
    command = every_command()[name]
    leaves = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    assert [leaf.name for leaf in leaves if leaf is not command and f"`{name} {leaf.name}" not in words] == []
    declared = [
        flag
        for leaf in leaves
        for each in leaf.params
        if isinstance(each, click.Option)
        for flag in each.opts
    ]
    assert [flag for flag in declared if f"`{flag}" not in words] == []


def test_the_options_before_the_command_are_named() -> None:
    declared = [flag for each in cli.params for flag in each.opts]
    assert [flag for flag in declared if f"`{flag}" not in CLI] == []


def test_no_section_is_about_a_command_that_does_not_exist() -> None:
    assert {heading.split()[0] for heading in re.findall(r"^### (.+)$", CLI, re.MULTILINE)} == set(
        every_command()
    )


OPTIONS = {
    name: {flag for each in command.params for flag in each.opts} | {"-h", "--help"}
    for top, whole in every_command().items()
    for name, command in {
        top: whole,
        **(
            {f"{top} {sub}": each for sub, each in whole.commands.items()}
            if isinstance(whole, click.Group)
            else {}
        ),
    }.items()
}
"""Of each command, and of each command of a group."""


def unknown(line: str) -> list[str]:
    """What a command line names that does not exist: the command, or options of it."""
    words = [word.strip("\"'.,;:)") for word in re.split(r"\s(?:&&?|\|\|?|#|>)(?:\s|$)", line)[0].split()]
    while words and words[0].startswith("-"):  # those before the command have a value each
        words = words[2:]
    if not words or not re.fullmatch(r"[a-z]+", words[0]):
        return []
    name = " ".join(words[:2]) if " ".join(words[:2]) in OPTIONS else words[0]
    if name not in OPTIONS:
        return [name]
    flags = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return [f"{name} {flag}" for flag in flags if flag not in OPTIONS[name]]


def test_every_command_line_in_documents_and_advice_exists() -> None:
    """Of documents also what stands in a block of code, of the code what a sentence quotes."""
    texts = [ROOT / "README.md", ROOT / "deploy" / "README.md", *(ROOT / "docs").rglob("*.md")]
    sources = [*(ROOT / "comfy_mcp").rglob("*.py"), *(ROOT / "http_sidecar").rglob("*.py")]
    for paths, pattern in ((texts, r"comfy-bridge ([^`\n]+)"), (sources, r"`comfy-bridge ([^`\n\"{]+)`")):
        for path in paths:
            lines = re.findall(pattern, path.read_text(encoding="utf-8"))
            assert [each for line in lines for each in unknown(line)] == [], path


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("run x.json -o pictures", []),
        ("run x.json --output-dir pictures", ["run --output-dir"]),
        ("engines add gpu http://gpu:8188 --label big  # and more", []),
        ("engines drains gpu", []),
        ("--engine URL chekc x.json", ["chekc"]),
        ("engine --without CLASS", ["engine --without"]),
    ],
)
def test_such_a_command_line_is_found(line: str, found: list[str]) -> None:
    assert unknown(line) == found


def test_every_exit_code_is_in_the_table_with_its_meaning() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", CLI, re.MULTILINE))
    assert rows == {str(int(code)): meaning for code, meaning in MEANINGS.items()}


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "decisions" / "0002-dependencies.md").read_text(encoding="utf-8")
    reasons = {
        name.strip().split(" ")[0]
        for row in re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE)
        for name in row.split(",")
    }
    declared = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    names = {re.split(r"[\[<>=; ]", entry, maxsplit=1)[0] for entry in declared}
    assert names - reasons == set()
    assert {name for name in reasons if name not in {"package", "---"}} - names == set()
