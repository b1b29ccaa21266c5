"""One way to talk to an engine, whichever it is: the contract tests know no other.

Nothing here sleeps or measures. Waiting is for an event, or for an answer to change, under a deadline that
only serves to end a test that hangs.
"""

from __future__ import annotations

import asyncio
import json
import struct
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.contract.graphs import Graph, Json, new_id, slow_embedded, slow_real
from tests.support.real_comfyui_steps import version

DEADLINE = 60.0
RECORDED = Path(__file__).parents[1] / "data" / "contract"


@dataclass(frozen=True, slots=True)
class Event:
    """A websocket message. Binary frames have the type `preview`."""

    type: str
    data: Json


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    content_type: str | None
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def text(self) -> str:
        return self.content.decode()


class Listener:
    """One open websocket. Events are read when a test asks for them, and kept."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, client_id: str) -> None:
        self.ws = ws
        self.client_id = client_id
        self.seen: list[Event] = []

    async def next(self) -> Event:
        async with asyncio.timeout(DEADLINE):
            message = await self.ws.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            body = json.loads(message.data)
            event = Event(body["type"], body["data"])
        elif message.type is aiohttp.WSMsgType.BINARY:
            event = Event("preview", read_preview(message.data))
        else:
            raise AssertionError(f"The engine closed the websocket: {message}")
        self.seen.append(event)
        return event

    async def until(self, wanted: Callable[[Event], bool]) -> Event:
        """Read on to the first event that is wanted."""
        while True:
            event = await self.next()
            if wanted(event):
                return event

    async def until_done(self, prompt_id: str) -> list[Event]:
        """Read on to the last event of a prompt. All events read since the last call that belong to it."""
        await self.until(lambda e: is_last(e, prompt_id))
        return self.of(prompt_id)

    async def until_step(self, prompt_id: str) -> Event:
        """Read on to the first step that the slow node reports: from then on the prompt runs for sure."""
        return await self.until(lambda e: e.type == "progress" and e.data["prompt_id"] == prompt_id)

    async def until_remaining(self, count: int) -> Event:
        """Read on to the status event with this many prompts in the queue."""
        return await self.until(
            lambda e: e.type == "status" and e.data["status"]["exec_info"]["queue_remaining"] == count
        )

    def of(self, prompt_id: str) -> list[Event]:
        return [e for e in self.seen if e.data.get("prompt_id") == prompt_id]

    async def drained(self) -> list[Event]:
        """All events sent so far. A ping answered by the engine comes after whatever was sent before."""
        marker = uuid.uuid4().bytes
        await self.ws.ping(marker)
        async with asyncio.timeout(DEADLINE):
            while True:
                message = await self.ws.receive()
                if message.type is aiohttp.WSMsgType.PONG and message.data == marker:
                    return self.seen
                if message.type is aiohttp.WSMsgType.TEXT:
                    body = json.loads(message.data)
                    self.seen.append(Event(body["type"], body["data"]))
                elif message.type is aiohttp.WSMsgType.BINARY:
                    self.seen.append(Event("preview", read_preview(message.data)))


class Engine:
    """An engine under test, by its URL. `slow` makes a graph that reports steps and can be interrupted."""

    def __init__(self, name: str, url: str, base: Path, http: aiohttp.ClientSession) -> None:
        self.name = name
        self.url = url
        self.base = base
        self.http = http

    @property
    def is_0_3_75(self) -> bool:
        """Whether it behaves as that release, as the embedded engine does. COMFYUI_SRC may be another one:
        then a test asks for what later releases share or do instead."""
        return self.name == "embedded" or version() == "0.3.75"

    async def request(self, method: str, path: str, **options: Any) -> Answer:
        async with (
            asyncio.timeout(DEADLINE),
            self.http.request(method, self.url + path, **options) as response,
        ):
            content = await response.read()
            return Answer(response.status, response.headers, response.headers.get("Content-Type"), content)

    async def get(self, path: str) -> Any:
        answer = await self.request("GET", path)
        assert answer.status == 200, answer
        return answer.json

    async def post(self, path: str, body: Any) -> Answer:
        return await self.request("POST", path, json=body)

    async def submit(self, graph: Graph, listener: Listener | None = None, **more: Any) -> Answer:
        """POST /prompt in the name of a listener, with an id of our own unless told otherwise."""
        body: Json = {"prompt": graph, "prompt_id": new_id(), **more}
        if listener is not None:
            body["client_id"] = listener.client_id
        return await self.post("/prompt", body)

    async def queued(self, graph: Graph, listener: Listener | None = None, **more: Any) -> str:
        """Submit what must be accepted. The prompt's id."""
        answer = await self.submit(graph, listener, **more)
        assert answer.status == 200, answer.text
        prompt_id: str = answer.json["prompt_id"]
        return prompt_id

    async def run(self, graph: Graph, **more: Any) -> tuple[Json, list[Event]]:
        """Run a graph to its end: its entry in the history, and its events."""
        async with self.listen() as listener:
            prompt_id = await self.queued(graph, listener, **more)
            events = await listener.until_done(prompt_id)
        return await self.entry(prompt_id), events

    async def entry(self, prompt_id: str) -> Json:
        entry: Json = (await self.get(f"/history/{prompt_id}"))[prompt_id]
        return entry

    async def eventually(self, look: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
        """Ask again and again until the answer is as wanted: for what no event announces."""
        async with asyncio.timeout(DEADLINE):
            while not wanted(found := await look()):
                await asyncio.sleep(0)
        return found

    async def idle(self) -> None:
        """Empty the queue and wait for the running prompt to end."""
        await self.post("/queue", {"clear": True})
        await self.post("/interrupt", {})
        await self.eventually(
            lambda: self.get("/prompt"), lambda body: body["exec_info"]["queue_remaining"] == 0
        )

    @asynccontextmanager
    async def listen(
        self, client_id: str | None = None, *, features: Json | None = None
    ) -> AsyncIterator[Listener]:
        """Connect, with feature flags as the first message if any, and read the greeting."""
        client_id = client_id or uuid.uuid4().hex
        url = f"{self.url}/ws?clientId={client_id}"
        async with self.http.ws_connect(url, autoping=False, max_msg_size=0) as ws:
            listener = Listener(ws, client_id)
            if features is not None:
                await ws.send_json({"type": "feature_flags", "data": features})
                await listener.until(lambda event: event.type == "feature_flags")
            else:
                await listener.until(lambda event: event.type == "status")
            yield listener

    def slow(self, steps: int = 500, prefix: str = "contract/slow") -> Graph:
        """node "5" reports `steps` steps; 500 take long enough to be interrupted in the midst of them."""
        return slow_embedded(steps, prefix) if self.name == "embedded" else slow_real(steps, prefix)


def is_last(event: Event, prompt_id: str) -> bool:
    return (
        event.type == "executing" and event.data["node"] is None and event.data.get("prompt_id") == prompt_id
    )


def read_preview(frame: bytes) -> Json:
    """The two layouts of a step preview, both big-endian."""
    (kind,) = struct.unpack_from(">I", frame)
    if kind == 4:
        (length,) = struct.unpack_from(">I", frame, 4)
        metadata: Json = json.loads(frame[8 : 8 + length])
        return {"event": 4, "metadata": metadata, "image": frame[8 + length :], **_prompt_of(metadata)}
    (image_format,) = struct.unpack_from(">I", frame, 4)
    return {"event": kind, "format": image_format, "image": frame[8:]}


def _prompt_of(metadata: Json) -> Json:
    return {"prompt_id": metadata["prompt_id"]}


def story(events: list[Event]) -> list[tuple[Any, ...]]:
    """Events in short: their order and what identifies them, without times, ids and texts."""
    return [_short(event) for event in events]


def _short(event: Event) -> tuple[Any, ...]:
    match event.type:
        case "progress_state":
            nodes = event.data["nodes"]
            return (
                "progress_state",
                {key: (state["state"], state["value"], state["max"]) for key, state in nodes.items()},
            )
        case "executing" | "executed":
            return (event.type, event.data["node"])
        case "progress":
            return ("progress", event.data["node"], event.data["value"], event.data["max"])
        case "execution_cached":
            return (event.type, event.data["nodes"])
        case "preview":
            return ("preview", event.data["event"])
        case _:
            return (event.type,)


def bare(value: Any) -> Any:
    """A JSON value without what differs between two engines: free text that nobody parses."""
    if isinstance(value, dict):
        return {key: bare(member) for key, member in value.items() if key not in {"tooltip", "traceback"}}
    if isinstance(value, list):
        return [bare(member) for member in value]
    return value
