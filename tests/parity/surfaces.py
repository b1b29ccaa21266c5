"""One operation, called through each surface, and its outcome in a form that can be compared."""

import base64
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mcp.client import Client
from mcp.client.stdio import stdio_client
from mcp.shared.exceptions import MCPError
from mcp_types import BlobResourceContents, ImageContent, TextResourceContents
from pydantic.alias_generators import to_camel

from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.brief import brief
from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.server import ReadyBridge, build_server, open_bus
from comfy_mcp.server.tool_errors import ERROR_META_KEY
from http_sidecar.routes import ROUTES
from tests.support.mcp_process import parameters
from tests.support.sidecar import Sidecar, open_sidecar

NAMES = ("mcp in memory", "mcp on stdio", "mcp over http", "rest")
ROUTE_OF = {route.operation: route for route in ROUTES}
GRAPH_LIMIT = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a call came to: JSON, or bytes, or an error's code with what it says as a structure."""

    result: Mapping[str, Any] | None = None
    data: bytes | None = None
    code: str | None = None
    warnings: Sequence[str] = ()
    problems: Sequence[Mapping[str, Any]] = ()
    missing: Sequence[Any] = ()


_SNAKE = re.compile("[a-z]+(?:_[a-z]+)+")


def refused(code: str, details: Mapping[str, Any], problems: Sequence[Mapping[str, Any]]) -> Outcome:
    """Arguments have other names over HTTP."""
    warnings = [_SNAKE.sub(lambda name: to_camel(name[0]), text) for text in details.get("warnings", ())]
    kinds = ("missingClasses", "missingSubgraphs", "missingModels")
    missing = [details[kind] for kind in kinds if kind in details]
    return Outcome(code=code, warnings=warnings, problems=problems, missing=missing)


class Surface(Protocol):
    async def __call__(self, operation: str, arguments: Mapping[str, Any]) -> Outcome: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Mcp:
    """A tool where the operation is one, and otherwise its resource."""

    client: Client

    async def __call__(self, operation: str, arguments: Mapping[str, Any]) -> Outcome:
        if BY_NAME[operation].tool:
            return await self._tool(operation, arguments)
        return await self._resource(operation, arguments)

    async def _tool(self, operation: str, arguments: Mapping[str, Any]) -> Outcome:
        answer = await self.client.call_tool(operation, dict(arguments))
        if answer.is_error:
            assert answer.meta is not None
            error = answer.meta[ERROR_META_KEY]
            return refused(error["code"], error.get("details", {}), error.get("problems", ()))
        pictures = [item for item in answer.content if isinstance(item, ImageContent)]
        return Outcome(
            result=answer.structured_content,
            data=base64.b64decode(pictures[0].data) if pictures else None,
        )

    async def _resource(self, operation: str, arguments: Mapping[str, Any]) -> Outcome:
        uri = BY_NAME[operation].resource
        assert uri is not None
        for name, value in arguments.items():
            uri = uri.replace(f"{{{to_camel(name)}}}", value)
        try:
            [content] = (await self.client.read_resource(uri)).contents
        except MCPError as error:
            data = error.error.data
            return refused(data["code"], data.get("details", {}), data.get("problems", ()))
        match content:
            case BlobResourceContents(blob=blob):
                return Outcome(data=base64.b64decode(blob))
            case TextResourceContents(text=text) if ROUTE_OF[operation].binary:
                return Outcome(data=text.encode())
            case TextResourceContents(text=text):
                return Outcome(result=json.loads(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    sidecar: Sidecar
    headers: Mapping[str, str] | None = None

    async def __call__(self, operation: str, arguments: Mapping[str, Any]) -> Outcome:
        route = ROUTE_OF[operation]
        path, rest = route.path, {}
        for name, value in arguments.items():
            place = f"{{{to_camel(name)}}}"
            if place in path:
                path = path.replace(place, value)
            else:
                rest[to_camel(name)] = value
        if not route.body:  # a query has no booleans
            rest = {name: str(value).lower() if value is True else value for name, value in rest.items()}
        sent: dict[str, Any] = {"json": rest} if route.body else {"params": rest}
        answer = await self.sidecar(route.method, path, headers=self.headers, **sent)
        if answer.status >= 400:
            return refused(answer.body["code"], answer.body, answer.body.get("problems", ()))
        if route.binary:
            return Outcome(data=answer.data)
        # REST sends every member, MCP those that say something: the same result, in one form.
        result = BY_NAME[operation].result.model_validate(answer.body)
        return Outcome(result=brief(result.with_fields(arguments.get("fields", "brief"))))


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """All surfaces over one store and one engine: they see the same jobs."""

    sidecar: Sidecar
    surfaces: Mapping[str, Surface]


@asynccontextmanager
async def open_house(folder: Path, **settings: Any) -> AsyncIterator[House]:
    """The sidecar in this process drives the engine; the stdio server is another process beside it.
    `settings` are the sidecar's alone."""
    async with AsyncExitStack() as stack:
        models = folder / "models"
        sidecar = await stack.enter_async_context(
            open_sidecar(
                folder,
                max_graph_bytes=GRAPH_LIMIT,
                workflow_roots=(folder / "roots",),
                models_dir=models,
                hash_models=False,
                **settings,
            )
        )
        bus = await stack.enter_async_context(open_bus(send_timeout_s=10))
        server = build_server(ReadyBridge(Bridge(sidecar.services)), sidecar.settings, bus=bus)
        [engine] = sidecar.settings.engines
        process = parameters(
            folder,
            engine.url,
            MAX_GRAPH_BYTES=str(GRAPH_LIMIT),
            WORKFLOW_ROOTS=str(folder / "roots"),
            MODELS_DIR=str(models),
            HASH_MODELS="false",
        )
        errors = stack.enter_context((folder / "stdio.log").open("w"))
        in_memory = await stack.enter_async_context(Client(server))
        on_stdio = await stack.enter_async_context(Client(stdio_client(process, errlog=errors)))
        over_http = await stack.enter_async_context(Client(f"{sidecar.url}/mcp"))
        clients = zip(NAMES, (in_memory, on_stdio, over_http), strict=False)
        mcp: dict[str, Surface] = {name: Mcp(client=client) for name, client in clients}
        yield House(sidecar=sidecar, surfaces=mcp | {"rest": Rest(sidecar=sidecar)})
