"""POST /prompt, the queue, the interrupt and the history."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from aiohttp import web

from comfy_mcp.embedded.prompts import QueuedPrompt
from comfy_mcp.embedded.state import State
from comfy_mcp.embedded.validation import validate


class PromptRoutes:
    def __init__(self, state: State) -> None:
        self._state = state
        self._counter = 0

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/prompt", self.get_prompt),
            web.post("/prompt", self.post_prompt),
            web.get("/queue", self.get_queue),
            web.post("/queue", self.post_queue),
            web.post("/interrupt", self.post_interrupt),
            web.get("/history", self.get_history),
            web.get("/history/{prompt_id}", self.get_history_of),
            web.post("/history", self.post_history),
        ]

    async def get_prompt(self, _: web.Request) -> web.Response:
        return web.json_response(self._state.exec_info())

    async def post_prompt(self, request: web.Request) -> web.Response:
        """Check a prompt and queue it.

        A body of the wrong shape raises on the way and becomes a plain-text 500, as in ComfyUI: clients
        have to send the right shape, and a bridge is to be tested against what they really get.
        """
        body = await request.json()
        number = self._number(body)
        if "prompt" not in body:
            return _refusal(
                {
                    "type": "no_prompt",
                    "message": "No prompt provided",
                    "details": "No prompt provided",
                    "extra_info": {},
                },
                {},
            )
        prompt = body["prompt"]
        prompt_id = str(body.get("prompt_id", uuid.uuid4()))
        verdict = validate(
            prompt,
            self._state.nodes,
            self._state.directories,
            body.get("partial_execution_targets"),
            self._state.config.object_info or (),
        )
        if verdict.error is not None:
            return _refusal(verdict.error, verdict.node_errors)
        extra_data = body.get("extra_data", {})
        if "client_id" in body:
            extra_data["client_id"] = body["client_id"]
        extra_data["create_time"] = int(time.time() * 1000)
        self._state.queue.put(
            QueuedPrompt(
                number=number,
                prompt_id=prompt_id,
                prompt=prompt,
                extra_data=extra_data,
                outputs=verdict.outputs,
            )
        )
        answer = {"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors}
        return web.json_response(answer)

    def _number(self, body: Any) -> float:
        """The place in the queue. The counter also grows for prompts that are then refused."""
        if "number" in body:
            return float(body["number"])
        number = -self._counter if _field(body, "front") else self._counter
        self._counter += 1
        return number

    async def get_queue(self, _: web.Request) -> web.Response:
        running, pending = self._state.queue.snapshot()
        return web.json_response(
            {
                "queue_running": [item.as_list() for item in running],
                "queue_pending": [item.as_list() for item in pending],
            }
        )

    async def post_queue(self, request: web.Request) -> web.Response:
        body = await request.json()
        if _field(body, "clear"):
            self._state.queue.clear()
        for prompt_id in _field(body, "delete", ()):
            self._state.queue.delete(prompt_id)
        return web.Response()

    async def post_interrupt(self, request: web.Request) -> web.Response:
        """With a prompt_id only that prompt, if it runs; without one whoever runs, even another's prompt."""
        try:
            body = await request.json()
        except json.JSONDecodeError:
            body = {}
        self._state.queue.interrupt_running(body.get("prompt_id") or None)
        return web.Response()

    async def get_history(self, request: web.Request) -> web.Response:
        query = request.rel_url.query
        limit = int(query["max_items"]) if "max_items" in query else None
        offset = int(query["offset"]) if "offset" in query else -1
        return web.json_response(self._state.queue.history(limit=limit, offset=offset))

    async def get_history_of(self, request: web.Request) -> web.Response:
        return web.json_response(self._state.queue.history(request.match_info["prompt_id"]))

    async def post_history(self, request: web.Request) -> web.Response:
        body = await request.json()
        if _field(body, "clear"):
            self._state.queue.forget_all()
        for prompt_id in _field(body, "delete", ()):
            self._state.queue.forget(prompt_id)
        return web.Response()


def _field(body: Any, name: str, default: Any = None) -> Any:
    """A field of an object. An empty list stands for an empty object, as ComfyUI asks with `in` only."""
    if name not in body:
        return default
    return body[name]


def _refusal(error: dict[str, Any], node_errors: dict[str, Any]) -> web.Response:
    return web.json_response({"error": error, "node_errors": node_errors}, status=400)
