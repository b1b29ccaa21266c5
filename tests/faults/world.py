"""What one trial has: a folder, an engine behind a proxy, bridges on one store, and what is known of each.

Everything is a real process. `heal` ends every fault, whatever the trial did.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM
from typing import Any

import aiohttp

from tests.faults.engines import Engine
from tests.support.chaos_proxy import ChaosProxy, open_proxy
from tests.support.chaos_store import Mood, SharedNumber
from tests.support.cloud_service import CloudService
from tests.support.constants import OWNERS
from tests.support.postgres import Server
from tests.support.spawned import Spawned, spawn

KEY = "the-key-of-every-trial"
"""One client on every surface, so that an idempotency key means the same on all."""

LEASE_TTL_S = 1.0
QUIET_S = 0.4
REQUEST_TIMEOUT_S = 2.0
# Settings, and constants of the product (tests/support/constants.py).
SETTINGS = {
    "LEASE_TTL_S": str(LEASE_TTL_S),
    "QUIET_S": str(QUIET_S),
    "MAX_PAUSE_S": "0.4",
    "CONNECT_TIMEOUT_S": "1",
    "REQUEST_TIMEOUT_S": str(REQUEST_TIMEOUT_S),
    "BUSY_S": "5",
    "CANCEL_WAIT_S": "0.5",
    "DRAIN_TIMEOUT_S": "2",
    "RATE_LIMIT_PER_MINUTE": "0",
    "HASH_MODELS": "false",
    "LOG_FORMAT": "json",
    "HTTP_KEY": KEY,
    "REFRESH_S": "60",
    # Everything but the fault has room: a busy machine must not look like a fault.
    "PROGRESS_S": "0.1",
}
AIMED_AT = "one"
"""The name of the engine that the faults are aimed at, where there are several."""

END_LIMIT_S = 30.0
"""A bridge that was asked to go goes within this; its own limit is DRAIN_TIMEOUT_S."""


@dataclass(eq=False, slots=True)
class Bridge:
    """A process of the product. `url` for a sidecar, None for an MCP server on stdio."""

    kind: str
    process: Spawned
    url: str | None = None
    ready: bool = False
    leaving: bool = False
    """It was asked to go: what it is asked meanwhile may be cut off."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    next_id: int = 0

    @property
    def usable(self) -> bool:
        return self.ready and self.process.alive and not (self.process.paused or self.leaving)


@dataclass(eq=False, slots=True)
class World:
    folder: Path
    engine: Engine
    proxy: ChaosProxy
    session: aiohttp.ClientSession
    settings: dict[str, str]
    mood: SharedNumber
    clock: SharedNumber | None = None
    bridges: list[Bridge] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the schedule did, for the report of a violation."""

    others: list[tuple[Engine, ChaosProxy]] = field(default_factory=list)
    """Engines that no fault of the trial is aimed at, each with its proxy."""

    cloud: CloudService | None = None
    """Services that run workflows, if the trial has some."""
    server: Server | None = None
    """PostgreSQL's, if the store is there."""
    store_url: str | None = None

    @property
    def store(self) -> Path | str:
        """Its file, or its URL."""
        return self.store_path if self.store_url is None else self.store_url

    @property
    def store_path(self) -> Path:
        return self.folder / "state" / "bridge.sqlite3"

    @property
    def ports(self) -> list[int]:
        """Of every engine, past its proxy."""
        return [proxy.upstream_port for proxy in (self.proxy, *(proxy for _, proxy in self.others))]

    @property
    def _engines(self) -> dict[str, str]:
        """How the bridges are told of the engines."""
        if not self.others:
            return {"COMFYUI_URL": f"http://127.0.0.1:{self.proxy.port}"}
        file = self.folder / "engines.toml"
        named = {AIMED_AT: self.proxy} | {
            f"other-{number}": proxy for number, (_, proxy) in enumerate(self.others)
        }
        if file.exists():  # the bridges read it at any time
            return {"COMFY_BRIDGE_ENGINES_FILE": str(file)}
        file.write_text(
            "".join(f'[{name}]\nurl = "http://127.0.0.1:{proxy.port}"\n' for name, proxy in named.items()),
            encoding="utf-8",
        )
        return {"COMFY_BRIDGE_ENGINES_FILE": str(file)}

    async def start_engine(self) -> None:
        self.proxy.upstream_port = await self.engine.start()

    async def start_bridge(
        self, kind: str, *more: str, chaos: Mapping[str, Any] | None = None
    ) -> Bridge | None:
        """`serve` or `mcp`, with `more` arguments. None when it died on the way, which only a kill point
        explains."""
        faults: dict[str, Any] = {"mood": str(self.mood.path), **(chaos or {})}
        if self.clock is not None and (self.server is None or len(self.bridges) % 2 == 0):
            faults["clock"] = str(self.clock.path)  # of several machines, every second one's is right
        arguments = ("serve", "--port", "0") if kind == "serve" else ("mcp",)
        env = {f"COMFY_BRIDGE_{name}": value for name, value in self.settings.items() if name not in OWNERS}
        faults["constants"] = {name: float(self.settings[name]) for name in OWNERS if name in self.settings}
        env |= self._engines | {"COMFY_BRIDGE_STATE_DIR": str(self.folder / "state")}
        if self.cloud is not None:
            faults["constants"]["SALAD_URL"] = f"{self.cloud.url}/api/public"
            env |= {
                "COMFY_BRIDGE_COMFY_API_URL": self.cloud.url,
                "COMFY_BRIDGE_SALAD_QUEUE": "pictures/comfy",
            }
            env |= {"SALAD_API_KEY": "the-key", "SALAD_ORG_NAME": "org"}
        if self.store_url is not None:
            env["COMFY_BRIDGE_STORE"] = self.store_url
        number = len(self.bridges)
        process = await spawn(
            "comfy_mcp", *arguments, *more,
            folder=self.folder, log=self.folder / f"bridge-{number}.log", env=env, chaos=faults,
        )  # fmt: skip
        bridge = Bridge(kind=kind, process=process)
        self.bridges.append(bridge)
        line = await (process.line() if kind == "serve" else _handshake(bridge))
        if line:
            bridge.url = line.strip() if kind == "serve" else None
            bridge.ready = True
            return bridge
        await process.wait()
        self.notes.append(f"bridge {number} ended on start: {process.status}")
        return None

    async def heal(self) -> None:
        """No fault is left; the engine runs, and a sidecar does that was started without kill points."""
        self.proxy.heal()
        self.mood.set(Mood.GOOD)
        for bridge in self.bridges:
            if bridge.process.paused:
                bridge.process.go_on()
        if self.engine.alive:
            self.engine.go_on()
        else:
            await self.start_engine()

    async def end(self) -> list[int]:
        """Ask every bridge that lives to go. Their exit statuses. Raises TimeoutError when one does not."""
        alive = [bridge.process for bridge in self.bridges if bridge.process.alive]
        for bridge in self.bridges:
            bridge.leaving = True
        for process in alive:
            process.go_on()
            process.signal(SIGTERM)
        return [await process.wait(END_LIMIT_S) for process in alive]

    async def destroy(self) -> None:
        for bridge in self.bridges:
            bridge.process.kill()
            await bridge.process.wait()


@asynccontextmanager
async def open_world(
    folder: Path,
    engine: Engine,
    *,
    others: Sequence[Engine] = (),
    bent_clock: bool = False,
    server: Server | None = None,
    cloud: CloudService | None = None,
    **settings: str,
) -> AsyncIterator[World]:
    folder.mkdir(parents=True, exist_ok=True)
    async with (
        AsyncExitStack() as proxies,
        open_proxy(0) as proxy,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20), headers={"X-API-Key": KEY}) as session,
    ):
        clock = SharedNumber(folder / "clock") if bent_clock else None
        world = World(
            folder=folder,
            engine=engine,
            proxy=proxy,
            session=session,
            settings=SETTINGS | settings,
            mood=SharedNumber(folder / "mood"),
            clock=clock,
            server=server,
            cloud=cloud,
            store_url=None if server is None else await asyncio.to_thread(server.database),
        )
        try:
            await world.start_engine()
            for other in others:
                world.others.append(
                    (other, await proxies.enter_async_context(open_proxy(await other.start())))
                )
            yield world
        finally:
            await world.destroy()
            for each in (engine, *others):
                await each.release()


async def _handshake(bridge: Bridge) -> str:
    """MCP's initialize, by hand: what the client does is not under test here."""
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "faults", "version": "1"},
    }
    answer = await mcp_request(bridge, "initialize", params)
    if answer is None:
        return ""
    bridge.process.stdin.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
    return "ready"


async def mcp_request(
    bridge: Bridge, method: str, params: Mapping[str, Any], *, limit_s: float = 20.0
) -> dict[str, Any] | None:
    """The answer; None when the process went before it came, or it did not come in time. One at a time."""
    async with bridge.lock:
        bridge.next_id += 1
        message = {"jsonrpc": "2.0", "id": bridge.next_id, "method": method, "params": params}
        try:
            async with asyncio.timeout(limit_s):
                bridge.process.stdin.write(json.dumps(message).encode() + b"\n")
                await bridge.process.stdin.drain()
                while line := await bridge.process.line(limit_s):
                    answer: dict[str, Any] = json.loads(line)
                    if answer.get("id") == bridge.next_id:
                        return answer
        except (OSError, TimeoutError):
            return None
    return None
