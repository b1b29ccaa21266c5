"""An engine that sleeps: nobody asks it anything until there is work that no idle engine takes."""

import asyncio
from typing import Any

import pytest

from comfy_mcp.domain.errors import InvalidGraph
from comfy_mcp.driving import tenure
from tests.fleet.conftest import Open
from tests.fleet.test_unlike_engines import RARE
from tests.support.fake_engine import FakeEngine
from tests.support.graphs import picture, slow

ASLEEP = {"on_demand": True}


async def test_it_is_started_by_work_and_rests_after_it(
    open_fleet: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenure, "REST_S", 0.0)
    async with open_fleet(a=ASLEEP) as fleet:
        place: Any = fleet.services.engines.pool["a"]  # type: ignore[index]
        (engine,) = (await fleet("system_status")).engines
        assert (engine.up, engine.error) == (False, "It sleeps until there is work.")
        assert (await fleet("queue")).foreign_count == 0
        for _ in range(2):
            ended = await fleet.run(slow(steps=1, step_ms=1))
            assert (ended.status, ended.engine) == ("completed", "a")
            async with asyncio.timeout(30):
                while not place.asleep or place.listener.connected:
                    await asyncio.sleep(0.02)


async def test_an_engine_that_sleeps_is_not_asked(open_fleet: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeEngine() as asleep, open_fleet(a={}) as fleet:
        await fleet.connected()  # or another would be worth a start
        text = f'[z]\nurl = "{asleep.url}"\non_demand = true\n'
        fleet.file.write_text(fleet.file.read_text(encoding="utf-8") + text, encoding="utf-8")
        await fleet.are("a", "z")
        assert (await fleet.run(picture())).engine == "a"
        await fleet("system_status")
        await fleet("find_workflow")
        assert (asleep.requests, asleep.sockets) == ([], {})


async def test_it_is_not_started_for_what_it_is_not_to_run(open_fleet: Open) -> None:
    async with open_fleet(busy={}, other={**ASLEEP, "labels": ["other"]}) as fleet:
        first, second = [
            await fleet("submit_workflow", workflow=slow(steps=10_000), engine="busy") for _ in range(2)
        ]
        await fleet.running(first.workflow_id)
        assert fleet.services.engines.pool["other"].asleep  # type: ignore[index]
        ended = await fleet.run(slow(steps=1, step_ms=1))  # nobody is idle: it is worth a start
        assert ended.engine == "other"
        for job in (first, second):
            await fleet("cancel_workflow", workflow_id=job.workflow_id)


async def test_only_the_one_with_the_classes_is_started(open_fleet: Open) -> None:
    async with open_fleet(a={"without": RARE}, b=ASLEEP) as fleet:
        with pytest.raises(InvalidGraph, match="Engines that sleep or do not answer may have it: b"):
            await fleet("submit_workflow", workflow=slow(steps=1, step_ms=1))
        ended = await fleet.run(slow(steps=1, step_ms=1), engine="b")
        assert ended.engine == "b"


async def test_a_token_in_the_url_goes_with_every_request_and_is_shown_nowhere(
    open_fleet: Open, capfd: pytest.CaptureFixture[str]
) -> None:
    async with FakeEngine() as engine, open_fleet(a={}) as fleet:
        text = f'[z]\nurl = "{engine.url}/?token=s3cret-word"\nconnect_timeout_s = 7\n'
        fleet.file.write_text(fleet.file.read_text(encoding="utf-8") + text, encoding="utf-8")
        await fleet.are("a", "z")
        connection = await asyncio.wait_for(engine.connections.get(), 30)
        assert connection.query == {"clientId": connection.client_id, "token": "s3cret-word"}
        status = await fleet("system_status")
        assert engine.requests
        assert all(request.query.get("token") == "s3cret-word" for request in engine.requests)
        assert "s3cret" not in status.model_dump_json() + repr(fleet.services.settings.read_engines())
        assert fleet.services.settings.read_engines()[1].over(fleet.services.settings).connect_timeout_s == 7
        assert "s3cret" not in "".join(capfd.readouterr())
