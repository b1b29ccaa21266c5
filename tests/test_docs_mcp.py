"""docs/mcp.md names every tool with its arguments, every resource, and every bound of MCP over HTTP."""

from pathlib import Path

import pytest
from mcp_types import Prompt, Tool

from comfy_mcp.operations.registry import OPERATIONS
from comfy_mcp.server.prompts import PROMPTS
from comfy_mcp.server.tools import tools

ROOT = Path(__file__).parent.parent
DOCS = (ROOT / "docs" / "mcp.md").read_text()
UNLISTED = {each.name: each.params.unlisted for each in OPERATIONS if each.tool}
"""By tool, the arguments that it takes and that its schema leaves out."""


@pytest.mark.parametrize("tool", tools(), ids=lambda tool: tool.name)
def test_a_tool_is_documented_with_its_arguments(tool: Tool) -> None:
    (row,) = [line for line in DOCS.splitlines() if line.startswith(f"| `{tool.name}` |")]
    assert [name for name in tool.input_schema["properties"] if f"`{name}`" not in row] == []
    assert [name for name in UNLISTED[tool.name] if f"`{name}`\\*" not in row] == []
    assert row.count("`\\*") == len(UNLISTED[tool.name])


def test_the_readme_names_every_tool() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [tool.name for tool in tools() if f"`{tool.name}`" not in readme] == []


def test_every_resource_is_documented() -> None:
    uris = [operation.resource for operation in OPERATIONS if operation.resource is not None]
    assert uris
    assert [uri for uri in uris if f"`{uri}`" not in DOCS] == []


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt.name)
def test_a_prompt_is_documented_with_its_arguments(prompt: Prompt) -> None:
    (row,) = [line for line in DOCS.splitlines() if line.startswith(f"| `{prompt.name}` |")]
    assert [each.name for each in prompt.arguments or () if f"`{each.name}`" not in row] == []
