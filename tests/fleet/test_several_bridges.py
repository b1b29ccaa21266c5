"""Bridges that share a store and a file of engines drive an equal part of the engines each."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from tests.fleet.conftest import Fleet
from tests.support import postgres
from tests.support.graphs import slow
from tests.support.held import held

TTL_S = 0.6

OpenBridge = Callable[..., AbstractAsyncContextManager[Fleet]]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> str | None:
    return postgres.shared().database() if request.param == "postgresql" else None


@asynccontextmanager
async def engines(tmp_path: Path, *names: str) -> AsyncIterator[dict[str, EmbeddedEngine]]:
    async with contextlib.AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(
                EmbeddedEngine(EngineConfig(base_directory=tmp_path / name))
            )
            for name in names
        }


@asynccontextmanager
async def bridge(
    tmp_path: Path, store: str | None, engines: dict[str, EmbeddedEngine], url: str = ""
) -> AsyncIterator[Fleet]:
    """A process, as far as its stores, leases and tasks are concerned. `url`: where it looks for engines."""
    file = tmp_path / f"{'-'.join(engines)}{len(url)}.toml"
    file.write_text(
        "".join(f'["{name}"]\nurl = "{url.format(name) or each.url}"\n' for name, each in engines.items()),
        encoding="utf-8",
    )
    settings = load_settings(engines_file=file, state_dir=tmp_path / "state", store=store, lease_ttl_s=TTL_S)
    async with open_runtime(settings) as services:
        yield Fleet(services, engines, file)


def driven(bridge: Fleet) -> set[str]:
    return {driver.engine for driver in bridge.services.engines._roster.drivers if driver.connected}


async def until_driven(*bridges: Fleet, counts: tuple[int, ...]) -> list[set[str]]:
    """Once each bridge drives that many engines, whichever: the most first."""
    async with asyncio.timeout(60):
        while True:
            parts = sorted((driven(each) for each in bridges), key=len, reverse=True)
            if tuple(len(part) for part in parts) == counts:
                return parts
            await asyncio.sleep(0.02)


async def run_on_each(bridge: Fleet) -> list[Any]:
    """Two jobs on each engine, whoever drives it."""
    jobs = [
        await bridge("submit_workflow", workflow=slow(steps=2, step_ms=20), engine=name)
        for name in (*bridge.engines, *bridge.engines)
    ]
    return [await bridge.end(job.workflow_id) for job in jobs]


async def test_each_has_a_part_while_bridges_come_and_go(tmp_path: Path, store: str | None) -> None:
    async with engines(tmp_path, *"abcde") as there, bridge(tmp_path, store, there) as one:
        await until_driven(one, counts=(5,))
        async with bridge(tmp_path, store, there) as two:
            await until_driven(one, two, counts=(3, 2))
            async with bridge(tmp_path, store, there) as three:
                parts = await until_driven(one, two, three, counts=(2, 2, 1))
                assert set().union(*parts) == set(there)
                ended = await run_on_each(three)
                assert {(job.status, job.engine) for job in ended} == {("completed", name) for name in there}
        await until_driven(one, counts=(5,))


async def test_what_runs_is_ended_before_its_engine_is_given_up(tmp_path: Path, store: str | None) -> None:
    async with engines(tmp_path, "a", "b") as there, bridge(tmp_path, store, there) as one:
        await until_driven(one, counts=(2,))
        with held() as go_on:
            jobs = [await one("submit_workflow", workflow=slow(steps=30), engine=name) for name in there]
            for job in jobs:
                await one.running(job.workflow_id)
            async with bridge(tmp_path, store, there) as two:
                async with asyncio.timeout(60):
                    while not any(driver.giving_up for driver in one.services.engines._roster.drivers):
                        await asyncio.sleep(0.02)
                go_on()
                for job in jobs:
                    ended = await two.end(job.workflow_id)
                    assert (ended.status, ended.attempt) == ("completed", 1)
                await until_driven(one, two, counts=(1, 1))
                assert {job.status for job in await run_on_each(two)} == {"completed"}


async def test_an_engine_stays_where_it_is_if_the_other_bridge_has_gone_meanwhile(tmp_path: Path) -> None:
    async with engines(tmp_path, "a", "b") as there, bridge(tmp_path, None, there) as one:
        await until_driven(one, counts=(2,))
        jobs = [
            await one("submit_workflow", workflow=slow(steps=1_000, step_ms=50), engine=name)
            for name in there
        ]
        for job in jobs:
            await one.running(job.workflow_id)
        drivers = one.services.engines._roster.drivers
        async with asyncio.timeout(60), bridge(tmp_path, None, there):
            while sum(driver.giving_up for driver in drivers) != 1:
                await asyncio.sleep(0.02)
        async with asyncio.timeout(60):
            while any(driver.giving_up for driver in drivers):
                await asyncio.sleep(0.02)
        for job in jobs:
            await one("cancel_workflow", workflow_id=job.workflow_id)
        assert {job.engine for job in await run_on_each(one)} == {"a", "b"}


async def test_bridges_with_other_engines_take_none_of_each_other(tmp_path: Path) -> None:
    async with engines(tmp_path, *"abcd") as there:
        left, right = ({name: there[name] for name in names} for names in ("abc", "cd"))
        async with bridge(tmp_path, None, left) as one, bridge(tmp_path, None, left) as two:
            await until_driven(one, two, counts=(2, 1))
            async with bridge(tmp_path, None, right) as other:
                await until_driven(other, counts=(1,))
                assert driven(other) == {"d"}
                assert driven(one) | driven(two) == set("abc")


async def test_a_bridge_that_reaches_no_engine_takes_none_from_those_that_do(tmp_path: Path) -> None:
    async with engines(tmp_path, *"abcde") as there, bridge(tmp_path, None, there) as one:
        await until_driven(one, counts=(5,))
        async with (
            bridge(tmp_path, None, there, "http://127.0.0.1:9/{}") as lost,
            bridge(tmp_path, None, there) as two,
        ):
            await until_driven(one, two, counts=(3, 2))
            holders = set((await one.services.store.live_leases()).values())
            assert len(holders) == 2
            assert lost.services.engines._roster.holder not in holders


async def test_every_bridge_says_why_a_job_waits(tmp_path: Path, store: str | None) -> None:
    """Also those that have not accepted it."""
    async with (
        engines(tmp_path, *"ab") as there,
        bridge(tmp_path, store, there) as one,
        bridge(tmp_path, store, there) as two,
    ):
        await two("drain_engine", engine="a")
        job = await one("submit_workflow", workflow=slow(steps=1), engine="a")
        shown = [
            await two("workflow_status", workflow_id=job.workflow_id),
            *(await two("list_workflows")).workflows,
            *(await two("queue")).queued,
        ]
        assert [each.waiting_for.message for each in shown] == ["Engine a is drained."] * 3
        await two("resume_engine", engine="a")
        assert (await two.end(job.workflow_id)).engine == "a"
