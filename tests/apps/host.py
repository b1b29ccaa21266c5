"""A host of MCP Apps in headless Chromium: the view in a sandbox, its calls passed on to a real server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp.client import Client
from mcp.client.extension import advertise
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, TextResourceContents
from playwright.async_api import FrameLocator, Page, Route

from comfy_mcp.server.app_view import VIEW_URI

APPS = advertise(EXTENSION_ID, {"mimeTypes": [APP_MIME_TYPE]})

EVERYTHING: dict[str, Any] = {"serverTools": {}, "serverResources": {}}
"""Host capabilities: the view may call tools and read resources."""

DEFAULT_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; media-src 'self' data:; connect-src 'none'"
)
"""What a host must enforce where a view names no domains (MCP Apps 2026-01-26, "Host Behavior"). A document
in `srcdoc` is under the policy of the page around it."""

_PAGE = Path(__file__).with_name("host.html")
_ADDRESS = "http://host.test/"

ALONE = "http://host.test/view"
"""The view itself, without a host around it."""

Answer = dict[str, Any]


@dataclass(kw_only=True)
class Host:
    """The agent's side of a client, and a page that shows the view of what it calls."""

    page: Page
    client: Client
    html: str
    denied: set[str] = field(default_factory=set)
    """Tools and methods that the view is refused from now on."""

    forged: dict[str, Callable[[Answer], Answer]] = field(default_factory=dict)
    """By tool: changes what the server answered before the view gets it."""

    files: dict[str, Answer] = field(default_factory=dict)
    """By URI: `mimeType` and `blob` of resources that the server does not have."""

    calls: list[str] = field(default_factory=list)
    """Tools and methods that the view asked for, in order."""

    faults: list[str] = field(default_factory=list)
    """Errors on the page's console, and requests to anywhere."""

    open_calls: int = 0
    answered: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def leave(self) -> None:
        """Close the view, and wait for the answers to what it asked: the client must not be closed before."""
        await self.page.goto("about:blank")
        async with self.answered:
            await self.answered.wait_for(lambda: self.open_calls == 0)

    @property
    def view(self) -> FrameLocator:
        return self.page.frame_locator("iframe")

    async def show(
        self, *, context: dict[str, Any] | None = None, capabilities: dict[str, Any] | None = None
    ) -> None:
        hello = {
            "protocolVersion": "2026-01-26",
            "hostInfo": {"name": "test", "version": "1"},
            "hostCapabilities": EVERYTHING if capabilities is None else capabilities,
            "hostContext": context or {},
        }
        await self.page.evaluate("([html, hello]) => show(html, hello)", [self.html, {"result": hello}])

    async def call(self, tool: str, **arguments: Any) -> Answer:
        """The agent calls a tool, and the view gets its input and result."""
        await self.tell("ui/notifications/tool-input", {"arguments": arguments})
        result = _dump(await self.client.call_tool(tool, arguments))
        await self.tell("ui/notifications/tool-result", result)
        return result

    async def tell(self, method: str, params: dict[str, Any]) -> None:
        await self.page.evaluate("([method, params]) => tell(method, params)", [method, params])

    async def ask(self, method: str, params: dict[str, Any] | None = None) -> Any:
        return await self.page.evaluate("([method, params]) => ask(method, params)", [method, params or {}])

    async def heard(self, method: str) -> list[dict[str, Any]]:
        """The params of the view's messages with this method."""
        heard: list[dict[str, Any]] = await self.page.evaluate("heard")
        return [message["params"] for message in heard if message.get("method") == method]

    async def pass_time(self, ms: int) -> None:
        """On the page's clock, which the test has installed; what the view asks then is in `calls`."""
        await self.page.clock.fast_forward(ms)
        await self.page.evaluate("settled()")

    async def relay(self, method: str, params: dict[str, Any]) -> Answer:
        self.open_calls += 1
        try:
            return await self._relay(method, params)
        finally:
            self.open_calls -= 1
            async with self.answered:
                self.answered.notify_all()

    async def _relay(self, method: str, params: dict[str, Any]) -> Answer:
        name = params["name"] if method == "tools/call" else method
        self.calls.append(name)
        if name in self.denied:
            return {"error": {"code": -32000, "message": "The user said no"}}
        if method == "resources/read" and params["uri"] in self.files:
            return {"result": {"contents": [{"uri": params["uri"], **self.files[params["uri"]]}]}}
        try:
            if method == "tools/call":
                result = _dump(await self.client.call_tool(name, params["arguments"]))
                return {"result": self.forged[name](result) if name in self.forged else result}
            return {"result": _dump(await self.client.read_resource(params["uri"]))}
        except MCPError as error:
            return {"error": {"code": error.code, "message": str(error)}}


@asynccontextmanager
async def open_host(page: Page, server: Any) -> AsyncIterator[Host]:
    """`server`: what the SDK's client connects to. Fails at the end if the view did what it may not."""
    async with Client(server, extensions=[APPS]) as client:
        (contents,) = (await client.read_resource(VIEW_URI)).contents
        assert isinstance(contents, TextResourceContents)
        host = Host(page=page, client=client, html=contents.text)

        pages = {_ADDRESS: _PAGE.read_text(), ALONE: host.html}

        async def answer(route: Route) -> None:
            url = route.request.url
            if url in pages:
                headers = {"Content-Type": "text/html", "Content-Security-Policy": DEFAULT_POLICY}
                await route.fulfill(body=pages[url], headers=headers)
            else:
                host.faults.append(f"request: {url}")
                await route.abort()

        await page.route("**/*", answer)
        await page.expose_function("relay", lambda method, params: host.relay(method, params))
        page.on("console", lambda said: host.faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: host.faults.append(str(error)))
        await page.goto(_ADDRESS)
        yield host
        assert host.faults == [], host.faults
        await host.leave()


def _dump(result: Any) -> Answer:
    dumped: Answer = result.model_dump(
        mode="json", by_alias=True, exclude_none=not isinstance(result, CallToolResult)
    )
    return dumped
