"""The sidecar as a process: opens the runtime, listens, and shuts down in order on a signal."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial

import structlog
from aiohttp import web

from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.pauses import short_pauses
from comfy_mcp.runtime import open_bridge
from comfy_mcp.server.stdio import serve_stdio
from comfy_mcp.settings import HttpGroup, Settings
from comfy_mcp.signals import stopped_by_signals
from http_sidecar.api_keys import KeyRing
from http_sidecar.app import build_app
from http_sidecar.bounds import BOUNDS
from http_sidecar.door.addresses import is_loopback, networks_of
from http_sidecar.drain import Drain
from http_sidecar.process.connections import Connections, raise_file_limit
from http_sidecar.process.runner import Runner

log = structlog.get_logger(__name__)

Ready = Callable[[str], None]

BACKLOG = 1_024
"""Connections that wait to be accepted. The system drops those beyond; they try again after a second."""


async def serve(
    settings: Settings,
    *,
    host: str | None = None,
    port: int | None = None,
    insecure: bool = False,
    also_stdio: bool = False,
    ready: Ready = lambda _url: None,
) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, or with `also_stdio` until the MCP client on stdin exits.

    `host` and `port` override the settings'; `ready` is called with the URL once connections are accepted.
    Raises InvalidInput (`configuration`) when the address can't be bound, or is not loopback without a key
    and without `insecure`; StoreFault.
    """
    given = {"http_host": host, "http_port": port}
    settings = settings.model_copy(update={name: value for name, value in given.items() if value is not None})
    stop = asyncio.Event()
    with contextlib.ExitStack() as signals:
        # From the very start: whoever reads that it serves may ask for its end in the same moment.
        signals.enter_context(stopped_by_signals(stop))
        async with open_bridge(settings) as bridge:
            keys = KeyRing(settings, bridge)
            if not insecure:
                await _refuse_open_door(settings, keys)
            if await keys.locked():
                log.error("door_locked", meaning=_LOCKED)
            elif "*" in settings.cors_origins and not await keys.required():
                log.warning("open_to_every_web_page", meaning=_ANY_PAGE)
            drain = Drain()
            app = build_app(bridge, settings, keys=keys, drain=drain)
            async with _listening(app, settings) as url, short_pauses():
                log.info("http_serves", url=url, keys=await keys.required())
                ready(url)
                if also_stdio and not stop.is_set():
                    # Its end is ours: whoever started this process on its pipes expects it to go with them.
                    await serve_stdio(settings, open_bridge=partial(_borrowed, bridge))
                else:
                    await stop.wait()
                signals.close()  # a second signal ends the process at once
                await _drained(drain, settings)


_LOCKED = (
    "No API key is valid, but keys were in use with this state folder. Requests that need a key are refused. "
    "Make a new key with `comfy-bridge keys add NAME`, or set MANAGEMENT_API_KEY. To serve without keys, "
    "delete bridge.sqlite3.keys-required in the state folder and start again."
)


_ANY_PAGE = (
    "CORS_ALLOWED_ORIGINS is * and no key is required: every web page in a browser on this machine may "
    "submit workflows and read outputs. List the origins, or require a key with `comfy-bridge keys add NAME`."
)


async def _refuse_open_door(settings: HttpGroup, keys: KeyRing) -> None:
    if is_loopback(settings.http_host) or await keys.required():
        return
    raise InvalidInput(
        f"Without a key the server listens on loopback only, not on {settings.http_host}.",
        next_step="Create a key with `comfy-bridge keys add NAME` or set MANAGEMENT_API_KEY. `--insecure` "
        "lets everybody in who reaches the address.",
        code=ErrorCode.CONFIGURATION,
    )


@contextlib.asynccontextmanager
async def _listening(app: web.Application, settings: HttpGroup) -> AsyncIterator[str]:
    connections = Connections.within(raise_file_limit(), networks_of(settings.trusted_proxies))
    runner = Runner(app, send_timeout_s=app[BOUNDS].send_timeout_s, connections=connections)
    await runner.setup()
    try:
        try:
            await _site(runner, settings).start()
        except OSError as error:
            raise InvalidInput(
                f"Can't listen on {settings.http_host}:{settings.http_port}: "
                f"{error.strerror or type(error).__name__}.",
                next_step="Use another --port (0 = any free port) or --host.",
                code=ErrorCode.CONFIGURATION,
            ) from None
        host, port = runner.addresses[0][:2]
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        await runner.cleanup()


def _site(runner: Runner, settings: HttpGroup) -> web.BaseSite:
    """`::` is every address of both families; asyncio would listen on those of IPv6 alone. Raises OSError."""
    host, port = settings.http_host, settings.http_port
    if host != "::" or not socket.has_dualstack_ipv6():
        return web.TCPSite(runner, host, port, backlog=BACKLOG)
    listening = socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True)
    return web.SockSite(runner, listening, backlog=BACKLOG)


async def _drained(drain: Drain, settings: HttpGroup) -> None:
    """New work is refused from here on, streams say their last word; what takes too long is cut off after."""
    log.info("http_drains")
    drain.begin()
    try:
        async with asyncio.timeout(settings.drain_timeout_s):
            await drain.wait_idle()
    except TimeoutError:
        log.warning("drain_cut_short", after_s=settings.drain_timeout_s)


@contextlib.asynccontextmanager
async def _borrowed(bridge: Bridge, _settings: Settings) -> AsyncIterator[Bridge]:
    """The one that is open already, for MCP on stdio."""
    yield bridge
