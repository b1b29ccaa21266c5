"""What a release has beside the wheel: the entry of the MCP registry, and the bundle for desktop clients.

server_schema.json says what the registry's own schema (2025-12-11) says of the members that are used here.
"""

import json
import os
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from comfy_mcp.operations.registry import OPERATIONS
from comfy_mcp.settings import load_settings
from connect.dist import SCHEMA, _bundle, manifest, server_json
from tests.connect.conftest import ROOT
from tests.support.npm_packages import NODE, node_modules

HERE = Path(__file__).parent


def mcpb(*arguments: object) -> str:
    """The official tool. Raises when it finds something wrong."""
    program = node_modules() / "@anthropic-ai" / "mcpb" / "dist" / "cli" / "cli.js"
    done = subprocess.run(
        [str(NODE), str(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def variables(names: dict[str, str]) -> Any:
    """The settings that these give; an unknown name is an error there."""
    before = dict(os.environ)
    try:
        os.environ.update(names)
        return load_settings()
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_the_entry_of_the_registry_is_valid_and_names_settings_that_exist(dist: Path) -> None:
    entry = json.loads((dist / "server.json").read_text(encoding="utf-8"))
    assert entry == server_json()
    assert entry["$schema"] == SCHEMA
    schema = json.loads((HERE / "server_schema.json").read_text(encoding="utf-8"))
    assert [error.message for error in Draft202012Validator(schema).iter_errors(entry)] == []
    (package,) = entry["packages"]
    named = {item["name"] for item in package["environmentVariables"]}
    documented = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert [name for name in named if f"`{name}`" not in documented] == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"mcp-name: {entry['name']}" in readme


def test_the_sdist_has_what_the_image_and_make_read(dist: Path) -> None:
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as sdist:
        top = {name.split("/")[1] for name in sdist.getnames()}
    copied = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE
    )
    named = re.findall(r"requirements[\w-]*\.lock", (ROOT / "Makefile").read_text())
    wanted = {file for line in copied for file in line.split()} | set(named) | {".dockerignore", "README.md"}
    assert len(wanted) >= 8
    assert wanted <= top


def test_a_wrong_entry_is_found() -> None:
    schema = json.loads((HERE / "server_schema.json").read_text(encoding="utf-8"))
    changes: tuple[dict[str, object], ...] = (
        {"name": "no-slash"},
        {"description": "x" * 101},
        {"version": "latest"},
        {"packages": []},
    )
    for wrong in changes:
        assert list(Draft202012Validator(schema).iter_errors(server_json() | wrong))


def test_the_bundle_is_what_the_official_tool_accepts(dist: Path, tmp_path: Path) -> None:
    (bundle,) = dist.glob("*.mcpb")
    folder = tmp_path / "bundle"
    mcpb("unpack", bundle, folder)
    assert "passes" in mcpb("validate", folder / "manifest.json")
    found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert {tool["name"] for tool in found["tools"]} == {item.name for item in OPERATIONS if item.tool}
    assert (folder / found["server"]["entry_point"]).is_file()
    (wheel,) = dist.glob("*.whl")
    assert (folder / wheel.name).read_bytes() == wheel.read_bytes()
    assert f'path = "{wheel.name}"' in (folder / "pyproject.toml").read_text()


def test_what_a_person_enters_in_the_client_reaches_the_bridge(tmp_path: Path) -> None:
    """The client replaces `${user_config.NAME}` by it."""
    asked = {"comfyui_url": "http://box:8188", "folder": str(tmp_path)}
    environment = manifest()["server"]["mcp_config"]["env"]
    given = {
        name: asked[value.removeprefix("${user_config.").removesuffix("}")]
        for name, value in environment.items()
    }
    settings = variables(given)
    assert settings.engines[0].url == asked["comfyui_url"]
    assert settings.workflow_roots == (tmp_path,)
    assert set(manifest()["user_config"]) == set(asked)


def test_the_same_wheel_is_the_same_bundle(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    (bundle,) = dist.glob("*.mcpb")
    _bundle(tmp_path / "again.mcpb", wheel)
    assert (tmp_path / "again.mcpb").read_bytes() == bundle.read_bytes()
    with zipfile.ZipFile(bundle) as opened:
        assert opened.testzip() is None
