"""A plain MCP client: submit a workflow, follow it, save what it made.

    COMFYUI_URL=http://127.0.0.1:8188 python examples/mcp_client.py examples/01_picture.json pictures

Needs nothing but the MCP SDK (`pip install mcp`) and `comfy-bridge` on the path.
"""

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp_types import BlobResourceContents, CallToolResult, TextResourceContents

SERVER = StdioServerParameters(
    command="comfy-bridge",
    args=["mcp"],
    # The SDK passes on only a few variables by itself; the server's settings are among the others.
    env={
        name: value
        for name, value in os.environ.items()
        if name.startswith(("COMFY", "XDG_")) or name == "PATH"
    },
)


async def main(workflow: dict[str, Any], folder: Path) -> int:
    async with Client(SERVER) as client:
        submitted = answer(await client.call_tool("submit_workflow", {"workflow": workflow}))
        workflow_id = submitted["workflowId"]
        print(f"submitted as {workflow_id}", file=sys.stderr)

        state: dict[str, Any] = {"status": "queued"}
        while state["status"] in ("queued", "running"):
            # Each wait is short: many clients cut a call at 60 seconds. The job goes on in between.
            state = answer(
                await client.call_tool(
                    "wait_for_workflow",
                    {"workflow_id": workflow_id, "timeout_s": 30},
                    progress_callback=show_progress,
                )
            )
        if state["status"] != "completed":
            print(f"{state['status']}: {state['error']}", file=sys.stderr)
            return 1
        for output in state["outputs"]:
            content = (await client.read_resource(f"comfy://outputs/{output['outputId']}")).contents[0]
            print(save(folder, output["filename"] or f"{output['outputId']}.txt", content))
    return 0


def answer(result: CallToolResult) -> dict[str, Any]:
    """The structured result; an error's text says what to do next."""
    if result.is_error:
        sys.exit("\n".join(getattr(part, "text", "") for part in result.content))
    return dict(result.structured_content or {})


async def show_progress(progress: float, total: float | None, message: str | None) -> None:
    print(f"{progress:.0f} % {message or ''}", file=sys.stderr)


def save(folder: Path, name: str, content: BlobResourceContents | TextResourceContents) -> Path:
    path = folder / Path(name).name
    match content:
        case BlobResourceContents(blob=blob):
            path.write_bytes(base64.b64decode(blob))
        case TextResourceContents(text=text):
            path.write_text(text)
    return path


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} WORKFLOW.json FOLDER")
    target = Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    sys.exit(asyncio.run(main(json.loads(Path(sys.argv[1]).read_text()), target)))
