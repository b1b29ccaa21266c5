"""Agents and REST clients: what they asked for, and what they were told.

A call that fails tells the trial nothing about the job, unless it returned an id: then the job is promised.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import aiohttp

from tests.faults.world import Bridge, World, mcp_request

FINAL = {"completed", "failed", "cancelled"}
NONE: Mapping[str, float] = MappingProxyType({})
NO_PARENTS: Mapping[str, list[str]] = MappingProxyType({})
WORKFLOW = "/v1/comfyui/workflow"
HTTP_NAMES = {
    "queue_timeout_s": "queueTimeoutS",
    "run_timeout_s": "runTimeoutS",
    "after": "after",
    "after_any": "afterAny",
    "gpu": "gpu",
}
STATES = {
    "workflow:completed": "completed",
    "workflow:error": "failed",
    "workflow:cancelled": "cancelled",
}


@dataclass(slots=True, kw_only=True)
class Submitted:
    """`key` is the idempotency key, if any. `cancelled`: somebody asked for it, heard or not. `timeouts` in
    seconds: `queue_timeout_s`, `run_timeout_s`."""

    kind: str
    job_id: str | None = None
    key: str | None = None
    cancelled: bool = False
    timeouts: Mapping[str, float] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    """Final states that surfaces showed, in order."""
    causes: list[str] = field(default_factory=list)
    """The kinds of failure that they gave."""


class Clients:
    """Speaks to any bridge of a world, whichever surface it has."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.submitted: list[Submitted] = []
        self.answers: list[tuple[str, str]] = []
        """(key, id): what keyed submits returned."""
        self.heard: list[tuple[str, str]] = []
        """(id, final state): what WebSockets said of any job."""
        self.faults: list[str] = []
        """What a surface said that it must never say."""
        self.refusals: list[tuple[str, str]] = []
        """(tool, error code): calls that were answered with an error."""

    async def submit(
        self,
        bridge: Bridge,
        kind: str,
        graph: Mapping[str, Any],
        *,
        key: str | None = None,
        timeouts: Mapping[str, float] = NONE,
        after: Mapping[str, list[str]] = NO_PARENTS,
        gpu: str = "local",
    ) -> Submitted:
        """`job_id` stays None unless the bridge answered with one. `after`: ids by `after` or `after_any`."""
        entry = Submitted(kind=kind, key=key, timeouts=timeouts)
        self.submitted.append(entry)
        arguments: dict[str, Any] = {"workflow": dict(graph), **timeouts, **after}
        if gpu != "local":
            arguments["gpu"] = gpu
        if key is not None:
            arguments["idempotency_key"] = key
        answer = await self._call(bridge, "submit_workflow", arguments)
        if answer is not None and answer.get("workflowId"):
            entry.job_id = str(answer["workflowId"])
            if key is not None:
                self.answers.append((key, entry.job_id))
        return entry

    async def cancel(self, bridge: Bridge, entry: Submitted) -> None:
        entry.cancelled = True
        answer = await self._call(bridge, "cancel_workflow", {"workflow_id": entry.job_id})
        self._note_final(entry, answer)

    async def status(self, bridge: Bridge, entry: Submitted) -> str | None:
        answer = await self._call(bridge, "workflow_status", {"workflow_id": entry.job_id})
        self._note_final(entry, answer)
        return None if answer is None else answer.get("status")

    async def follow(self, bridge: Bridge, entry: Submitted) -> None:
        """SSE where there is HTTP, a wait where there is MCP; until the end, or until it breaks."""
        if bridge.url is None:
            # Bounded below the harness's own patience: one pipe serves every call.
            answer = await self._call(
                bridge, "wait_for_workflow", {"workflow_id": entry.job_id, "timeout_s": 2}
            )
            self._note_final(entry, answer)
            return
        last = 0
        url = f"{bridge.url}{WORKFLOW}/{entry.job_id}/events"
        try:
            async with self._world.session.get(url, timeout=aiohttp.ClientTimeout(total=60)) as response:
                async for line in response.content:
                    last = self._take_line(entry, line.decode().strip(), last)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return

    async def watch(self, bridge: Bridge) -> None:
        """A WebSocket on every workflow, until it breaks: the log in order, one end for each workflow."""
        last, ended = 0, set[str]()
        try:
            async with self._world.session.ws_connect(f"{bridge.url}/v1/comfyui/stream") as socket:
                await socket.send_json({"type": "subscribe", "workflowId": "*"})
                async for message in socket:
                    data = message.json()
                    job_id = data.get("workflowId")
                    if job_id is None:
                        continue
                    # A step of progress has no place of its own, but that of the event before it.
                    if data["seq"] < last + (data["type"] != "workflow:progress"):
                        self.faults.append(f"the WebSocket went from {last} back to {data['seq']}")
                    if job_id in ended:
                        self.faults.append(f"the WebSocket said {data['type']} of {job_id} after its end")
                    last = data["seq"]
                    if (state := STATES.get(data["type"])) is not None:
                        ended.add(job_id)
                        self.heard.append((job_id, state))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return

    async def output_code(self, bridge: Bridge, output_id: str) -> str:
        """How the bytes of an output are refused there; "" when they come."""
        if bridge.url is None:
            call = {"name": "view_output", "arguments": {"output_id": output_id}}
            answer = await mcp_request(bridge, "tools/call", call)
            meta = {} if answer is None else answer["result"].get("_meta") or {}
            return str(meta.get("comfy-bridge/error", {}).get("code", ""))
        async with self._world.session.get(f"{bridge.url}/v1/comfyui/output/{output_id}") as response:
            if response.status == 200:
                await response.read()
                return ""
            return str((await response.json())["code"])

    def _take_line(self, entry: Submitted, line: str, last: int) -> int:
        if line.startswith("id:"):
            seq = int(line[3:])
            if seq <= last:
                self.faults.append(f"SSE of {entry.job_id} went from {last} back to {seq}")
            return seq
        if line.startswith("data:"):
            kind = json.loads(line[5:])["type"]
            if (state := STATES.get(kind)) is not None:
                entry.told.append(state)
        return last

    def _note_final(self, entry: Submitted, answer: Mapping[str, Any] | None) -> None:
        if answer is not None and answer.get("status") in FINAL:
            entry.told.append(str(answer["status"]))
            if answer["status"] == "failed" and answer.get("failure") is not None:
                entry.causes.append(str(answer["failure"]["kind"]))

    async def _call(self, bridge: Bridge, tool: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        if not bridge.process.alive:
            return None
        if bridge.url is None:
            said = await mcp_request(bridge, "tools/call", {"name": tool, "arguments": arguments})
            cut_off = bridge.leaving and said is not None and "error" in said
            return None if cut_off else self._mcp_answer(tool, said)
        try:
            return await self._http(bridge.url, tool, arguments)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    def _mcp_answer(self, tool: str, answer: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if answer is None:
            return None
        if "error" in answer:
            self.faults.append(f"MCP {tool} answered with a protocol error: {answer['error']}")
            return None
        result = answer["result"]
        text = "".join(part.get("text", "") for part in result.get("content", ()))
        if "Traceback" in text or (result.get("isError") and text.startswith("internal:")):
            self.faults.append(f"MCP {tool}: {text[:300]}")
        if result.get("isError"):
            self.refusals.append((tool, result["_meta"]["comfy-bridge/error"]["code"]))
            return None
        return dict(result.get("structuredContent") or {})

    async def _http(self, url: str, tool: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        method, path, body, headers = "GET", WORKFLOW, None, {}
        if tool == "submit_workflow":
            method, body = "POST", {"workflow": arguments["workflow"]}
            body |= {http: arguments[own] for own, http in HTTP_NAMES.items() if own in arguments}
            if "idempotency_key" in arguments:
                headers["Idempotency-Key"] = arguments["idempotency_key"]
        else:
            path = f"{WORKFLOW}/{arguments['workflow_id']}"
            method = "DELETE" if tool == "cancel_workflow" else "GET"
        async with self._world.session.request(method, f"{url}{path}", json=body, headers=headers) as answer:
            data = await answer.json(content_type=None)
            if answer.status == 500:
                self.faults.append(f"HTTP {method} {path} answered 500: {str(data)[:300]}")
            if answer.status >= 400:
                self.refusals.append((tool, data["code"]))
                return None
            return dict(data)


async def until_started(clients: Clients, bridge: Bridge, entry: Submitted, limit_s: float) -> None:
    """Best effort: it runs, or has ended, or nobody could say in time."""
    try:
        async with asyncio.timeout(limit_s):
            while await clients.status(bridge, entry) not in {"running", *FINAL}:
                await asyncio.sleep(0.05)
    except TimeoutError:
        return
