"""`make dist`: what is released, in dist/.

The wheel and the sdist; server.json for the MCP registry; and the .mcpb bundle, which desktop clients install
with one click: the wheel, a project that names it, and a manifest. The client's `uv` installs the rest, and
what shows videos and sounds: who clicks can't ask for an extra.
"""

import argparse
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from comfy_mcp import __version__
from comfy_mcp.operations.registry import OPERATIONS
from comfy_mcp.settings.engines import DEFAULT_ENGINE_URL

ROOT = Path(__file__).parents[1]
NAME = "comfy-mcp-bridge"
NAMESPACE = "io.github.comfy-mcp-bridge"
"""Of the account that publishes; the registry checks that it is that account's."""

SUMMARY = "Run ComfyUI workflows: find one, set inputs, queue, wait, look at the result."
SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The time of every member of the bundle: the same content is the same file."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Build what is released.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--namespace", default=NAMESPACE, help="of the account at the MCP registry")
    asked = parser.parse_args()
    for file in build(asked.out, asked.namespace):
        print(file)


def build(out: Path, namespace: str = NAMESPACE) -> list[Path]:
    """The files that were made."""
    out.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--directory", str(out)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    wheel = out / f"{NAME.replace('-', '_')}-{__version__}-py3-none-any.whl"
    sdist = out / f"{NAME.replace('-', '_')}-{__version__}.tar.gz"
    listing = out / "server.json"
    listing.write_text(_text(server_json(namespace)), encoding="utf-8")
    bundle = out / f"{NAME}-{__version__}.mcpb"
    _bundle(bundle, wheel)
    return [wheel, sdist, listing, bundle]


def server_json(namespace: str = NAMESPACE) -> dict[str, Any]:
    """For the MCP registry. README.md has the same name as `mcp-name:`, which proves whose package it is."""
    return {
        "$schema": SCHEMA,
        "name": f"{namespace}/{NAME}",
        "title": "ComfyUI",
        "description": SUMMARY,
        "version": __version__,
        "packages": [
            {
                "registryType": "pypi",
                "identifier": NAME,
                "version": __version__,
                "runtimeHint": "uvx",
                "transport": {"type": "stdio"},
                "packageArguments": [{"type": "positional", "value": "mcp"}],
                "environmentVariables": [
                    {
                        "name": "COMFYUI_URL",
                        "description": "URL of ComfyUI, or several, separated by commas",
                        "default": DEFAULT_ENGINE_URL,
                    },
                    {
                        "name": "COMFY_BRIDGE_WORKFLOW_ROOTS",
                        "description": "Folders from which files are read, and to which outputs are saved",
                        "format": "filepath",
                    },
                    {
                        "name": "COMFY_BRIDGE_COMFY_ORG_API_KEY",
                        "description": "Key for paid partner nodes",
                        "isSecret": True,
                    },
                ],
            }
        ],
    }


def manifest() -> dict[str, Any]:
    """Of the bundle."""
    return {
        "manifest_version": "0.4",
        "name": NAME,
        "display_name": "ComfyUI",
        "version": __version__,
        "description": SUMMARY,
        "author": {"name": NAME},
        "license": "MIT",
        "keywords": ["comfyui", "image-generation"],
        "server": {
            "type": "uv",
            "entry_point": "server/main.py",
            "mcp_config": {
                "command": "uv",
                "args": ["run", "--directory", "${__dirname}", "server/main.py", "mcp"],
                "env": {
                    "COMFYUI_URL": "${user_config.comfyui_url}",
                    "COMFY_BRIDGE_WORKFLOW_ROOTS": "${user_config.folder}",
                },
            },
        },
        "user_config": {
            "comfyui_url": {
                "type": "string",
                "title": "URL of ComfyUI",
                "description": "Where ComfyUI answers.",
                "default": DEFAULT_ENGINE_URL,
                "required": True,
            },
            "folder": {
                "type": "directory",
                "title": "Folder for pictures",
                "description": "Files are read from this folder, and results are saved in it.",
                "default": "${HOME}/Pictures",
                "required": True,
            },
        },
        "tools": [{"name": item.name, "description": item.description} for item in OPERATIONS if item.tool],
        "compatibility": {"platforms": ["darwin", "linux", "win32"], "runtimes": {"python": ">=3.11"}},
    }


PROJECT = """[project]
name = "comfy-mcp-bridge-bundle"
version = "{version}"
requires-python = ">=3.11"
dependencies = ["comfy-mcp-bridge[media]"]

[tool.uv]
package = false

[tool.uv.sources]
comfy-mcp-bridge = {{ path = "{wheel}" }}
"""
ENTRY = "from comfy_mcp.cli import main\n\nmain()\n"


def _bundle(file: Path, wheel: Path) -> None:
    members = {
        "manifest.json": _text(manifest()).encode(),
        "pyproject.toml": PROJECT.format(version=__version__, wheel=wheel.name).encode(),
        "server/main.py": ENTRY.encode(),
        "LICENSE": (ROOT / "LICENSE").read_bytes(),
        wheel.name: wheel.read_bytes(),
    }
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in members.items():
            bundle.writestr(zipfile.ZipInfo(name, LONG_AGO), data, zipfile.ZIP_DEFLATED)


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
