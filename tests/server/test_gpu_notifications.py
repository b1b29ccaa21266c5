"""comfy://gpu: real changes reach both eras, and nobody is asked for nobody."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mcp.client import Client
from mcp.client.subscriptions import ResourceUpdated
from mcp_types import TextResourceContents

from comfy_mcp.driving.clock import system_clock
from comfy_mcp.gpu import GpuMonitor
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.server import ReadyBridge, build_server
from comfy_mcp.server.app import BridgeServer
from comfy_mcp.server.bus import ResourceBus
from comfy_mcp.server.notifications import GPU, publish_gpu_changes
from tests.support.constants import constants
from tests.support.gpus import ScriptedDriver, busy, reading
from tests.support.mcp_surface import LIMIT_S, Heard, background, open_surface, subscribe, unsubscribe


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    server: BridgeServer
    bus: ResourceBus
    driver: ScriptedDriver
    monitor: GpuMonitor

    def client(self, mode: str, heard: Heard | None = None) -> Client:
        return Client(self.server, mode=mode, message_handler=heard)


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[Watched]:
    """A surface over a driver of the test's own."""
    async with open_surface(folder) as surface:
        driver = ScriptedDriver()
        with constants(SAMPLE_S=0.01):
            monitor = GpuMonitor(surface.settings, engines={}, now_ms=system_clock().now_ms, driver=driver)
        services = replace(surface.services, gpu=monitor)
        server = build_server(ReadyBridge(Bridge(services)), surface.settings, bus=surface.bus)
        async with background(monitor.run()), background(publish_gpu_changes(Bridge(services), surface.bus)):
            yield Watched(server=server, bus=surface.bus, driver=driver, monitor=monitor)


async def load(client: Client) -> float:
    contents = (await client.read_resource(GPU, cache_mode="bypass")).contents[0]
    assert isinstance(contents, TextResourceContents)
    return float(json.loads(contents.text)["gpus"][0]["utilization"])


async def test_a_legacy_subscriber_hears_of_a_real_change_and_reads_it(tmp_path: Path) -> None:
    heard = Heard()
    async with watched(tmp_path) as house, house.client("legacy", heard) as client:
        await subscribe(client, GPU)
        assert await load(client) == 50.0
        house.driver.shows = reading(busy(90.0))
        assert await heard.next_update() == GPU
        assert await load(client) == 90.0


async def test_a_listener_hears_of_a_real_change_and_reads_it(tmp_path: Path) -> None:
    async with (
        watched(tmp_path) as house,
        house.client("2026-07-28") as client,
        client.listen(resource_subscriptions=[GPU]) as stream,
    ):
        assert await load(client) == 50.0
        house.driver.shows = reading(busy(90.0))
        async with asyncio.timeout(LIMIT_S):
            assert await anext(stream) == ResourceUpdated(uri=GPU)
        assert await load(client) == 90.0


async def test_it_is_followed_as_long_as_somebody_follows_it(tmp_path: Path) -> None:
    async with watched(tmp_path) as house:
        assert not house.bus.is_followed(GPU)
        async with (
            house.client("2026-07-28") as client,
            client.listen(resource_subscriptions=[GPU, "comfy://queue"]),
        ):
            assert house.bus.is_followed(GPU)
            assert not house.bus.is_followed("comfy://workflows")
        async with house.client("legacy") as client:
            await subscribe(client, GPU)
            assert house.bus.is_followed(GPU)
            await unsubscribe(client, GPU)
            assert not house.bus.is_followed(GPU)


async def test_where_nobody_follows_the_driver_is_left_alone(tmp_path: Path) -> None:
    async with watched(tmp_path) as house, house.client("legacy") as client:
        await subscribe(client, "comfy://queue")
        for _ in range(20):
            await house.monitor.tick()
        assert house.driver.reads == 0
