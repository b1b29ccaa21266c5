"""An agent that follows a script, over stdio and over HTTP, and writes down what was said."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp.client import Client
from mcp.client.stdio import stdio_client
from mcp_types import CallToolResult, ImageContent, TextContent

from tests.support.mcp_process import parameters
from tests.support.serve_process import serve_process

TRANSPORTS = ("stdio", "http")
DOCUMENT = Path(__file__).parents[2] / "docs" / "agents.md"

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MEASURED = re.compile(r", \d+ bytes")


@dataclass(slots=True)
class Agent:
    """Knows what the tools say, and nothing else. `calls` counts its requests."""

    client: Client
    calls: int = 0
    lines: list[str] = field(default_factory=list)
    _ids: dict[str, str] = field(default_factory=dict)

    async def __call__(self, tool: str, /, **arguments: Any) -> CallToolResult:
        self.calls += 1
        result = await self.client.call_tool(tool, arguments)
        given = ", ".join(f"{name}={json.dumps(value)}" for name, value in arguments.items())
        shown = [
            text_of(result),
            *("[a picture]" for each in result.content if isinstance(each, ImageContent)),
        ]
        self.lines += [f"> {tool}({given})", *shown, ""]
        return result

    @property
    def transcript(self) -> str:
        """With ids that are the same each time."""
        text = _ID.sub(
            lambda found: self._ids.setdefault(found[0], f"ID{len(self._ids) + 1}"), "\n".join(self.lines)
        )
        return _MEASURED.sub("", text).replace(str(Path.cwd()), "FOLDER").strip()


def text_of(result: CallToolResult) -> str:
    return "\n".join(each.text for each in result.content if isinstance(each, TextContent))


def pictures_in(result: CallToolResult) -> int:
    return sum(isinstance(each, ImageContent) for each in result.content)


@asynccontextmanager
async def agent_over(transport: str, folder: Path, engine_url: str) -> AsyncIterator[Agent]:
    if transport == "stdio":
        async with Client(stdio_client(parameters(folder, engine_url))) as client:
            yield Agent(client)
    else:
        async with serve_process(folder, engine_url) as served, Client(f"{served.url}/mcp") as client:
            yield Agent(client)


def documented(name: str) -> str:
    """The transcript of that name in docs/agents.md."""
    found = re.search(
        rf"<!-- {name} -->\n```text\n(.*?)\n```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL
    )
    return found[1] if found is not None else ""
