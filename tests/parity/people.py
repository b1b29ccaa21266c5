"""Somebody at each surface, who can submit, list, follow and cancel."""

import asyncio
import json
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mcp.client import Client

from tests.support.mcp_process import environment
from tests.support.mcp_surface import submit
from tests.support.sidecar import LIMIT_S, WORKFLOW, Sidecar
from tests.support.streams import FINAL, server_sent
from tests.support.warm_python import WARM_PYTHON

CANCELLED_EXIT = 8


class Person(Protocol):
    async def submit(self, graph: dict[str, Any]) -> str: ...
    async def listed(self) -> set[str]: ...
    async def follow(self, job: str, hears: asyncio.Event) -> str:
        """The final status. `hears` is set once the running job's progress has come."""
        ...

    async def cancel(self, job: str) -> str:
        """The status that the answer says."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """Over MCP, whichever the transport."""

    client: Client

    async def submit(self, graph: dict[str, Any]) -> str:
        return await submit(self.client, graph)

    async def listed(self) -> set[str]:
        """As resources, which is where agents find them."""
        uris = [str(item.uri) for item in (await self.client.list_resources()).resources]
        return {uri.rpartition("/")[2] for uri in uris if uri.startswith("comfy://workflows/")}

    async def follow(self, job: str, hears: asyncio.Event) -> str:
        async def heard(progress: float, total: float | None, message: str | None) -> None:
            if progress > 0:
                hears.set()

        state = await self.client.call_tool(
            "wait_for_workflow", {"workflow_id": job, "timeout_s": LIMIT_S}, progress_callback=heard
        )
        return str(state.structured_content["status"])

    async def cancel(self, job: str) -> str:
        answer = await self.client.call_tool("cancel_workflow", {"workflow_id": job})
        return str(answer.structured_content["status"])


@dataclass(frozen=True, slots=True, kw_only=True)
class RestUser:
    sidecar: Sidecar

    async def submit(self, graph: dict[str, Any]) -> str:
        return await self.sidecar.submit(graph)

    async def listed(self) -> set[str]:
        answer = await self.sidecar("GET", "/v1/comfyui/workflows")
        return {item["workflowId"] for item in answer.body["workflows"]}

    async def follow(self, job: str, hears: asyncio.Event) -> str:
        async for _, said in server_sent(self.sidecar, job):
            if said.get("progress", 0) > 0:
                hears.set()
            if said["type"] in FINAL:
                return str(said["type"].removeprefix("workflow:"))
        raise AssertionError("the stream ended before the workflow")

    async def cancel(self, job: str) -> str:
        answer = await self.sidecar("DELETE", f"{WORKFLOW}/{job}")
        return str(answer.body["status"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellUser:
    """The command line, each command a process of its own."""

    folder: Path
    engine_url: str

    async def submit(self, graph: dict[str, Any]) -> str:
        file = self.folder / "graph.json"
        file.write_text(json.dumps(graph))
        return str((await self._json("submit", str(file)))["workflowId"])

    async def listed(self) -> set[str]:
        return {item["workflowId"] for item in (await self._json("workflows"))["workflows"]}

    async def follow(self, job: str, hears: asyncio.Event) -> str:
        process = await self._start("wait", job, "--json")
        assert process.stderr is not None
        async for line in process.stderr:
            if line.startswith(b"running") and b" 0 %" not in line:
                hears.set()
        out, _ = await process.communicate()
        state: Mapping[str, Any] = json.loads(out)
        assert (process.returncode == CANCELLED_EXIT) == (state["status"] == "cancelled")
        return str(state["status"])

    async def cancel(self, job: str) -> str:
        return str((await self._json("cancel", job))["status"])

    async def _json(self, *arguments: str) -> Any:
        process = await self._start(*arguments, "--json")
        out, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return json.loads(out)

    async def _start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(WARM_PYTHON, "-m", "comfy_mcp", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=environment(self.folder, self.engine_url),
            cwd=self.folder,
        )
