"""A process that runs jobs as one kind of client: `python -m bench.clients KIND URL FOLDER`.

    bare          the least that a program does to get a picture out of ComfyUI, on aiohttp
    bridge        `submit_workflow` and `wait_for_workflow`, the operations of a bridge in this process
    bare-http     from POST /prompt to the picture's bytes, on raw connections
    sidecar-http  the same through a sidecar: POST workflow with `Prefer: wait`, GET the output

It prints `ready`, then answers each line of JSON on stdin with the `times` of the jobs and of the `whole`
block in milliseconds, once what the jobs have left to do is done as well.
"""

import asyncio
import gc
import json
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import aiohttp

from bench.raw import RawClient
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.logs import configure
from comfy_mcp.operations.context import Caller, OperationContext
from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from tests.support.graphs import picture, slow

WORKFLOW = "/v1/comfyui/workflow"
SETTLE_S = 0.8
"""After a block of a bridge's jobs: sizes and hashes of outputs are found out and written half a second after
the end. Nobody waits for that, but it is CPU of these jobs."""
Graph = dict[str, Any]


class Client(Protocol):
    async def run(self, graph: Graph) -> None:
        """One job from its graph to its result."""

    async def run_all(self, graphs: Sequence[Graph]) -> None:
        """Queue them all, then get each one's result."""


class Bare:
    """One socket, opened once; POST, wait for `executing: null`, read the history."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._client_id = uuid.uuid4().hex
        self._ended: dict[str, asyncio.Event] = {}

    async def run(self, graph: Graph) -> None:
        await self._result(await self._submit(graph))

    async def run_all(self, graphs: Sequence[Graph]) -> None:
        for prompt_id in [await self._submit(graph) for graph in graphs]:
            await self._result(prompt_id)

    async def listen(self, ready: asyncio.Event) -> None:
        address = f"{self._url.replace('http', 'ws', 1)}/ws?clientId={self._client_id}"
        async with self._session.ws_connect(address, max_msg_size=0) as socket:
            ready.set()
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT or '"executing"' not in message.data:
                    continue
                data = message.json()["data"]
                if data["node"] is None and data["prompt_id"] in self._ended:
                    self._ended[data["prompt_id"]].set()
        raise ConnectionError("the engine closed the socket")

    def prompt(self, graph: Graph) -> tuple[str, Mapping[str, Any]]:
        """A new prompt's id and the body of its POST."""
        prompt_id = str(uuid.uuid4())
        self._ended[prompt_id] = asyncio.Event()
        return prompt_id, {"prompt": graph, "prompt_id": prompt_id, "client_id": self._client_id}

    async def ended(self, prompt_id: str) -> None:
        await self._ended[prompt_id].wait()
        del self._ended[prompt_id]

    async def _submit(self, graph: Graph) -> str:
        prompt_id, body = self.prompt(graph)
        async with self._session.post(f"{self._url}/prompt", json=body) as answer:
            answer.raise_for_status()
            await answer.json()
        return prompt_id

    async def _result(self, prompt_id: str) -> None:
        await self.ended(prompt_id)
        async with self._session.get(f"{self._url}/history/{prompt_id}") as answer:
            answer.raise_for_status()
            entry: dict[str, Any] = (await answer.json())[prompt_id]
        assert entry["status"]["status_str"] == "success", entry["status"]


class Bridge:
    """The operations of a runtime in this process, as a surface calls them."""

    def __init__(self, context: OperationContext) -> None:
        self._context = context

    async def run(self, graph: Graph) -> None:
        await self._result(await self._submit(graph))

    async def run_all(self, graphs: Sequence[Graph]) -> None:
        for workflow_id in [await self._submit(graph) for graph in graphs]:
            await self._result(workflow_id)

    async def _submit(self, graph: Graph) -> str:
        submitted: Any = await BY_NAME["submit_workflow"].call(self._context, {"workflow": graph})
        return str(submitted.workflow_id)

    async def _result(self, workflow_id: str) -> None:
        waited = {"workflow_id": workflow_id}
        result: Any = await BY_NAME["wait_for_workflow"].call(self._context, waited)
        assert result.status == "completed", result.error
        assert result.outputs


class BareHttp:
    """The bare client on raw connections, as many as there are jobs in flight, down to the picture."""

    def __init__(self, url: str, bare: Bare) -> None:
        self._connections = _Connections(url)
        self._bare = bare

    async def run(self, graph: Graph) -> None:
        async with self._connections.one() as client:
            prompt_id, body = self._bare.prompt(graph)
            assert (await client.post("/prompt", json.dumps(body).encode())).status == 200
            await self._bare.ended(prompt_id)
            entry = (await client.get(f"/history/{prompt_id}")).json[prompt_id]
            [file] = entry["outputs"]["2"]["images"]
            query = f"filename={file['filename']}&subfolder={file['subfolder']}&type={file['type']}"
            assert (await client.get(f"/view?{query}")).body.startswith(b"\x89PNG")

    async def run_all(self, graphs: Sequence[Graph]) -> None:
        raise NotImplementedError("this client keeps jobs in flight instead")


class SidecarHttp:
    def __init__(self, url: str) -> None:
        self._connections = _Connections(url)

    async def run(self, graph: Graph) -> None:
        async with self._connections.one() as client:
            body = json.dumps({"workflow": graph}).encode()
            state = (await client.post(WORKFLOW, body, Prefer="wait=60")).json
            assert state["status"] == "completed", state
            assert (await client.get(state["outputs"][0]["url"])).body.startswith(b"\x89PNG")

    async def run_all(self, graphs: Sequence[Graph]) -> None:
        raise NotImplementedError("this client keeps jobs in flight instead")


class _Connections:
    """Kept connections; a job has one for itself."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[RawClient] = []

    @asynccontextmanager
    async def one(self) -> AsyncIterator[RawClient]:
        client = self._idle.pop() if self._idle else await RawClient.connect(self._url)
        yield client
        self._idle.append(client)


@asynccontextmanager
async def _bare(url: str, _folder: Path) -> AsyncIterator[Bare]:
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        client, ready = Bare(session, url), asyncio.Event()
        listening = group.create_task(client.listen(ready))
        await ready.wait()
        yield client
        listening.cancel()


@asynccontextmanager
async def _bridge(url: str, folder: Path) -> AsyncIterator[Bridge]:
    settings = load_settings(engine_urls=(url,), state_dir=folder)
    configure(settings)
    async with open_runtime(settings, counted=False) as services:  # as `comfy-bridge mcp` does
        caller = Caller(client=ClientId("bench"), surface="bench")
        yield Bridge(OperationContext(services=services, caller=caller))


@asynccontextmanager
async def _bare_http(url: str, folder: Path) -> AsyncIterator[BareHttp]:
    async with _bare(url, folder) as bare:
        yield BareHttp(url, bare)


@asynccontextmanager
async def _sidecar_http(url: str, _folder: Path) -> AsyncIterator[SidecarHttp]:
    yield SidecarHttp(url)


KINDS: Mapping[str, Callable[[str, Path], AbstractAsyncContextManager[Client]]] = MappingProxyType(
    {"bare": _bare, "bridge": _bridge, "bare-http": _bare_http, "sidecar-http": _sidecar_http}
)


async def _measured(client: Client, order: Mapping[str, Any]) -> Mapping[str, Any]:
    begin = time.perf_counter()
    times = await _block(client, order)
    whole = (time.perf_counter() - begin) * 1000
    if not isinstance(client, Bare | BareHttp):
        await asyncio.sleep(SETTLE_S)
    return {"times": times, "whole": whole}


async def _block(client: Client, order: Mapping[str, Any]) -> list[float]:
    """Order: `prefix` of the outputs, `jobs`, how many `in_flight` (0: all queued at once), `step_ms`."""
    step = order.get("step_ms", 0)
    prefix = order["prefix"]
    graphs = [
        slow(steps=1, step_ms=step, prefix=prefix) if step else picture(prefix) for _ in range(order["jobs"])
    ]
    if not order["in_flight"]:
        begin = time.perf_counter()
        await client.run_all(graphs)
        return [(time.perf_counter() - begin) * 1000]
    times: list[float] = []
    left = iter(graphs)

    async def work() -> None:
        for graph in left:
            begin = time.perf_counter()
            await client.run(graph)
            times.append((time.perf_counter() - begin) * 1000)

    async with asyncio.TaskGroup() as group:
        for _ in range(order["in_flight"]):
            group.create_task(work())
    return times


async def main(kind: str, url: str, folder: Path) -> None:
    gc.freeze()  # a bare client would not have imported the bridge, and its collections would not walk it
    async with KINDS[kind](url, folder) as client:
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await _measured(client, json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
