"""MCP over HTTP: the sidecar on a socket, SDK clients with a key, and bare requests of either era."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from httpx2 import AsyncClient
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

import tests.support.ready_client  # noqa: F401 - no event loop stands still for its import
from comfy_mcp.domain.access import DEFAULT_KEY_RIGHTS, ApiKey, Right, digest_of
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.services import Services
from comfy_mcp.settings import Settings
from http_sidecar.api_keys import KeyRing
from http_sidecar.app import build_app
from http_sidecar.app_state import DRAIN
from http_sidecar.bounds import Bounds
from http_sidecar.drain import Drain
from http_sidecar.mcp.mount import ASGI

MODERN = "2026-07-28"
ACCEPT = "application/json, text/event-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """The whole application, served on loopback."""

    app: web.Application
    url: str
    keys: "FakeKeys | None" = None

    @property
    def drain(self) -> Drain:
        return self.app[DRAIN]

    @property
    def open_requests(self) -> int:
        return len(self.app[ASGI]._open)

    async def wait_idle(self) -> None:
        """Until no request to /mcp is open."""
        await self.app[ASGI].wait_idle()


@asynccontextmanager
async def open_sidecar(
    services: Services,
    settings: Settings,
    *,
    keys: dict[str, frozenset[Right]] | None = None,
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
) -> AsyncIterator[Sidecar]:
    """`keys`: names with rights; the secret of each is its name with `-key`. None: no key is asked for."""
    store = FakeKeys(keys) if keys is not None else None
    app = build_app(Bridge(services), settings, keys=KeyRing(settings, store), bounds=bounds)
    async with TestServer(app) as server:
        yield Sidecar(app=app, url=str(server.make_url("/mcp")), keys=store)


class FakeKeys:
    """A store's keys."""

    def __init__(self, rights: dict[str, frozenset[Right]]) -> None:
        self._keys: list[ApiKey] = []
        for name, granted in rights.items():
            self.add(name, granted)

    async def keys(self) -> list[ApiKey]:
        return self._keys

    async def keys_required(self) -> bool:
        return False

    async def require_keys(self) -> None:
        """Nothing outlives the test."""

    def add(self, name: str, rights: frozenset[Right] = DEFAULT_KEY_RIGHTS) -> None:
        key = ApiKey(name=name, digest=digest_of(f"{name}-key"), rights=rights, created_at=0)
        self._keys.append(key)

    def revoke(self, name: str) -> None:
        self._keys = [replace(key, revoked_at=1) if key.name == name else key for key in self._keys]


def default_rights(*names: str) -> dict[str, frozenset[Right]]:
    return dict.fromkeys(names, DEFAULT_KEY_RIGHTS)


@asynccontextmanager
async def client_with_key(url: str, mode: str, key: str, **options: Any) -> AsyncIterator[Client]:
    """The SDK's client as `key`'s owner."""
    async with AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=60) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode, **options) as client:
            yield client


def modern_request(method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Arguments of a POST that asks for `method` as 2026-07-28 does."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    given = params or {}
    headers = {"Accept": ACCEPT, "MCP-Protocol-Version": MODERN, "Mcp-Method": method}
    if "name" in given:
        headers["Mcp-Name"] = given["name"]
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": meta, **given}}
    return {"json": body, "headers": headers}


def legacy_request(
    method: str, params: dict[str, Any] | None = None, *, session: str | None = None
) -> dict[str, Any]:
    """The same as 2025-11-25 does."""
    headers = {"Accept": ACCEPT}
    if session is not None:
        headers |= {"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-11-25"}
    return {
        "json": {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}},
        "headers": headers,
    }


async def open_session(http: aiohttp.ClientSession, url: str, **headers: str) -> str:
    """Initialize as 2025-11-25 does and return the session's id."""
    handshake = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    request = legacy_request("initialize", handshake)
    request["headers"] |= headers
    async with http.post(url, **request) as answer:
        assert answer.status == 200, await answer.text()
        await answer.read()
        session: str = answer.headers["Mcp-Session-Id"]
    done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    sent = legacy_request("", session=session)["headers"] | headers
    async with http.post(url, json=done, headers=sent) as answer:
        assert answer.status == 202
    return session


async def next_frame(answer: aiohttp.ClientResponse) -> dict[str, Any] | None:
    """The next message of an event stream; None at its end."""
    async for line in answer.content:
        if line.startswith(b"data: {"):
            frame: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
            return frame
    return None
