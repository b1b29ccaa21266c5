"""The thing to compare with: the least that a program has to do to get a picture out of a ComfyUI."""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp


class BareClient:
    """One socket, opened once; POST, wait for `executing: null`, read the history."""

    def __init__(self, session: aiohttp.ClientSession, url: str, client_id: str) -> None:
        self._session = session
        self._url = url
        self._client_id = client_id
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def connect(self) -> None:
        address = f"{self._url.replace('http', 'ws', 1)}/ws?clientId={self._client_id}"
        self._socket = await self._session.ws_connect(address, max_msg_size=0)

    async def run(self, graph: Mapping[str, Any]) -> dict[str, Any]:
        """One job from its graph to its history entry."""
        prompt_id = await self.submit(graph)
        await self.ended(prompt_id)
        return await self.history(prompt_id)

    async def run_all(self, graphs: Sequence[Mapping[str, Any]]) -> None:
        """Queue them all, then take each one's end and history. Prompts run in the order of their POSTs."""
        for prompt_id in [await self.submit(graph) for graph in graphs]:
            await self.ended(prompt_id)
            await self.history(prompt_id)

    async def submit(self, graph: Mapping[str, Any]) -> str:
        prompt_id = str(uuid.uuid4())
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": self._client_id}
        async with self._session.post(f"{self._url}/prompt", json=body) as answer:
            answer.raise_for_status()
            await answer.json()
        return prompt_id

    async def ended(self, prompt_id: str) -> None:
        assert self._socket is not None
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            frame = message.json()
            data = frame["data"]
            if frame["type"] == "executing" and data["node"] is None and data["prompt_id"] == prompt_id:
                return
        raise ConnectionError("the engine closed the socket")

    async def history(self, prompt_id: str) -> dict[str, Any]:
        async with self._session.get(f"{self._url}/history/{prompt_id}") as answer:
            answer.raise_for_status()
            entry: dict[str, Any] = (await answer.json())[prompt_id]
        assert entry["status"]["status_str"] == "success", entry["status"]
        return entry


@asynccontextmanager
async def bare_client(url: str) -> AsyncIterator[BareClient]:
    async with aiohttp.ClientSession() as session:
        client = BareClient(session, url, uuid.uuid4().hex)
        await client.connect()
        yield client
