"""MCP Apps: who declares them gets a view with three tools; nobody else sees a difference."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mcp.client import Client
from mcp.client.extension import ClientExtension, advertise
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID
from mcp.shared.exceptions import MCPError
from mcp_types import TextResourceContents

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.runtime import open_runtime
from comfy_mcp.server import build_server, open_bus
from comfy_mcp.server.app_view import TOOLS, VIEW_URI
from comfy_mcp.server.tools import tools
from tests.support.mcp_http import modern_request, open_sidecar
from tests.support.mcp_process import parameters
from tests.support.mcp_surface import MODES, bridge_settings, open_surface, slow_graph, submit

NOBODY = "http://127.0.0.1:1"
OTHER_MIME = "text/html;profile=another"

APPS = advertise(EXTENSION_ID, {"mimeTypes": [APP_MIME_TYPE]})
NOT_THESE: list[list[ClientExtension]] = [
    [],
    [advertise(EXTENSION_ID)],
    [advertise(EXTENSION_ID, {"mimeTypes": [OTHER_MIME]})],
    [advertise("com.example/other", {"mimeTypes": [APP_MIME_TYPE]})],
]


@asynccontextmanager
async def stdio_server(folder: Path) -> AsyncIterator[Any]:
    yield parameters(folder, NOBODY)


@asynccontextmanager
async def http_server(folder: Path) -> AsyncIterator[Any]:
    settings = bridge_settings(folder, NOBODY)
    async with open_runtime(settings) as services, open_sidecar(services, settings) as sidecar:
        yield sidecar.url


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("serve", [stdio_server, http_server])
async def test_who_declares_apps_gets_the_view_and_others_see_no_difference(
    tmp_path: Path, serve: Any, mode: str
) -> None:
    async with serve(tmp_path) as server:
        async with Client(server, mode=mode, extensions=[APPS]) as client:
            with_apps = await client.list_tools()
            version, capabilities = client.protocol_version, client.server_capabilities
            uris = [resource.uri for resource in (await client.list_resources()).resources]
            (contents,) = (await client.read_resource(VIEW_URI)).contents
        async with Client(server, mode=mode) as client:
            without = await client.list_tools()
            assert client.server_capabilities.extensions is None
            assert VIEW_URI not in [resource.uri for resource in (await client.list_resources()).resources]
            with pytest.raises(MCPError, match=r"\bnot_found"):
                await client.read_resource(VIEW_URI)

    local = serve is not http_server  # over HTTP no argument names a file of the server's
    shown = {tool.name: tool.meta for tool in with_apps.tools if tool.meta is not None}
    assert shown == {name: {"ui": {"resourceUri": VIEW_URI}} for name in TOOLS}
    assert _wire(without.tools) == _wire(tools(local=local))
    assert _wire(tool.model_copy(update={"meta": None}) for tool in with_apps.tools) == _wire(
        tools(local=local)
    )
    assert capabilities.extensions == ({EXTENSION_ID: {}} if version == MODES[0] else None)
    assert VIEW_URI in uris
    assert isinstance(contents, TextResourceContents)
    assert contents.mime_type == APP_MIME_TYPE
    assert contents.text.startswith("<!DOCTYPE html>")
    assert contents.meta == {
        "ui": {"csp": {"connectDomains": [], "resourceDomains": []}, "prefersBorder": True}
    }


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("declared", NOT_THESE)
async def test_another_declaration_is_none(
    tmp_path: Path, mode: str, declared: list[ClientExtension]
) -> None:
    async with (
        open_surface(tmp_path, engine_url=NOBODY) as surface,
        surface.client(mode, extensions=declared) as client,
    ):
        assert _wire((await client.list_tools()).tools) == _wire(tools())
        assert client.server_capabilities.extensions is None
        with pytest.raises(MCPError):
            await client.read_resource(VIEW_URI)


async def test_on_the_wire_the_tool_lists_differ_in_three_members_and_their_scope(tmp_path: Path) -> None:
    answers = []
    async with http_server(tmp_path) as url, aiohttp.ClientSession() as http:
        for capabilities in ({}, {"extensions": {EXTENSION_ID: {"mimeTypes": [APP_MIME_TYPE]}}}):
            request = modern_request("tools/list")
            request["json"]["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities
            async with http.post(url, **request) as answer:
                answers.append(await answer.text())
    without, with_apps = answers
    view = f'"_meta":{{"ui":{{"resourceUri":"{VIEW_URI}"}}}},'
    assert with_apps.count(view) == len(TOOLS)
    scope = '"cacheScope":"{}"'.format
    assert with_apps.replace(view, "").replace(scope("private"), scope("public")) == without


async def test_a_tool_list_with_a_view_is_not_for_a_cache_that_others_share(tmp_path: Path) -> None:
    async with open_surface(tmp_path, engine_url=NOBODY) as surface:
        async with surface.client(MODES[0], extensions=[APPS]) as client:
            with_apps = await client.list_tools()
        async with surface.client(MODES[0]) as client:
            without = await client.list_tools()
    assert (with_apps.cache_scope, without.cache_scope) == ("private", "public")
    assert with_apps.ttl_ms == without.ttl_ms > 0


@pytest.mark.parametrize("mode", MODES)
async def test_the_view_is_listed_once_whatever_the_pages(tmp_path: Path, mode: str) -> None:
    async with open_surface(tmp_path) as surface, surface.client(mode, extensions=[APPS]) as client:
        for seed in range(21):  # one more than a page has
            await submit(client, slow_graph(steps=1, step_ms=1, seed=seed))
        first = await client.list_resources()
        assert first.next_cursor is not None
        second = await client.list_resources(cursor=first.next_cursor)
    assert [each.uri for each in [*first.resources, *second.resources]].count(VIEW_URI) == 1


async def test_the_view_is_there_while_the_store_is_not(tmp_path: Path) -> None:
    settings = bridge_settings(tmp_path, NOBODY)
    async with (
        open_bus(send_timeout_s=1) as bus,
        Client(build_server(_Broken(), settings, bus=bus), extensions=[APPS]) as client,
    ):
        assert VIEW_URI in [resource.uri for resource in (await client.list_resources()).resources]
        assert (await client.read_resource(VIEW_URI)).contents


class _Broken:
    async def get(self) -> Bridge:
        raise StoreFault("The store can't be opened.", next_step="Look at its folder.")


def _wire(listed: Any) -> str:
    dumped = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed]
    return json.dumps(dumped, sort_keys=True)
