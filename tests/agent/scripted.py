"""An agent that follows a script, over stdio and over HTTP, and writes down what was said."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from mcp.client import Client
from mcp.client.stdio import stdio_client
from mcp_types import CallToolResult, ImageContent, TextContent
from yarl import URL

from tests.support.mcp_process import parameters
from tests.support.mcp_surface import LIMIT_S
from tests.support.serve_process import serve_process

TRANSPORTS = ("stdio", "http")
DOCUMENT = Path(__file__).parents[2] / "docs" / "agents.md"

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHORT = re.compile(r"(?<=[(:])[0-9a-f]{8}(?=[)\"])")
_SAME = (
    (re.compile(r", \d+ bytes"), ""),
    (re.compile(r"(?<=ticket=)[\w-]+"), "TICKET"),
    (re.compile(r"expires=\d+&signature=[\w-]+"), "expires=TIME&signature=SIGNATURE"),
    (re.compile(r"127\.0\.0\.1:\d+"), "HOST"),
    (re.compile(r", about [^.]* left"), ""),
    (re.compile(r"; it may start in about [^)]*\)"), ""),
    (re.compile(r"\((?:Engine HOST, [^;]*|No answer within [^)]*)\);"), "(CAUSE);"),
    (re.compile(r"\b\d+(?:\.\d+)? s\b"), "N s"),
    (re.compile(r"\b\d{1,3} %"), "N %"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?"), "TIME"),
)
"""What differs from run to run, and what stands for it in a transcript."""


@dataclass(slots=True)
class Agent:
    """Knows what the tools say, and nothing else. `calls` counts its requests of MCP. `project` is the folder
    that it works in; a server over stdio may read and write there."""

    client: Client
    project: Path
    transport: str
    url: str = ""
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

    async def upload(self, address: str, file: Path) -> str:
        """As curl does in the agent's shell: the file's name for a workflow. `address` may be the public one,
        which leads to the server."""
        here = f"{self.url}{URL(address).path_qs}"
        form = aiohttp.FormData()
        form.add_field("image", file.read_bytes(), filename=file.name)
        async with aiohttp.ClientSession() as session, session.post(here, data=form) as answer:
            assert answer.status == 201, await answer.text()
            said = await answer.json()
        self.lines += [f'$ curl -F image=@{file.name} "{address}"', json.dumps(said), ""]
        return str(said["name"])

    async def until_running(self, workflow_id: str, *, percent: float = 0.0) -> None:
        """Not a part of the task: what follows is said of a job that runs, and has done so much."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                state = await self.client.call_tool("workflow_status", {"workflow_id": workflow_id})
                found = state.structured_content
                if found["status"] == "running" and found.get("progress", 0.0) >= percent:
                    return

    @property
    def transcript(self) -> str:
        """With ids that are the same each time."""
        text = _ID.sub(lambda found: self._named(found[0]), "\n".join(self.lines))
        text = _SHORT.sub(lambda found: self._named(found[0]), text)
        for pattern, same in _SAME:
            text = pattern.sub(same, text)
        return text.replace(str(self.project), "PROJECT").replace(str(Path.cwd()), "FOLDER").strip()

    def _named(self, whole: str) -> str:
        return self._ids.setdefault(whole[:8], f"ID{len(self._ids) + 1}")


def text_of(result: CallToolResult) -> str:
    return "\n".join(each.text for each in result.content if isinstance(each, TextContent))


def pictures_in(result: CallToolResult) -> int:
    return sum(isinstance(each, ImageContent) for each in result.content)


@asynccontextmanager
async def agent_over(
    transport: str, folder: Path, engine_url: str, *, project: Path | None = None, **settings: str
) -> AsyncIterator[Agent]:
    project = project or folder
    async with AsyncExitStack() as stack:
        url = ""
        if transport == "stdio":
            roots = {"WORKFLOW_ROOTS": str(project), **settings}
            server: Any = stdio_client(parameters(folder, engine_url, **roots))
        else:
            served = await stack.enter_async_context(serve_process(folder, engine_url, **settings))
            url, server = served.url, f"{served.url}/mcp"
        client = await stack.enter_async_context(Client(server))
        yield Agent(client, project, transport, url)


def place_of(task: str, transport: str) -> str:
    """The name of the transcript in docs/agents.md: over HTTP it has one of its own where it differs."""
    own = f"{task}-{transport}"
    return own if f"<!-- {own} -->" in DOCUMENT.read_text(encoding="utf-8") else task


def documented(name: str) -> str:
    """The transcript of that name in docs/agents.md."""
    found = re.search(
        rf"<!-- {name} -->\n```text\n(.*?)\n```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL
    )
    return found[1] if found is not None else ""
