"""The file of engines changes while jobs run: no restart, no job lost."""

import asyncio
from typing import Any

import pytest

from comfy_mcp.domain.errors import InvalidInput, NotFound, StoreFault
from tests.fleet.conftest import Fleet, Open
from tests.support.graphs import slow
from tests.support.held import held


def entry(fleet: Fleet, name: str, more: str = "") -> str:
    return f'["{name}"]\nurl = "{fleet.engines[name].url}"\n{more}\n'


async def until_problem(fleet: Fleet, *, there: bool) -> list[str]:
    while True:
        problems = [each for each in (await fleet("system_status")).problems if "engines of before" in each]
        if bool(problems) is there:
            return problems


async def test_an_engine_is_added_and_removed_while_jobs_run(open_fleet: Open) -> None:
    async with open_fleet(a={}, b={}) as fleet:
        await fleet("remove_engine", engine="b")
        await fleet.are("a")
        running = await fleet("submit_workflow", workflow=slow(steps=200, step_ms=50))
        await fleet.running(running.workflow_id)
        behind, waiting = [
            await fleet("submit_workflow", workflow=slow(steps=1, step_ms=1)) for _ in range(2)
        ]  # an engine that is alone has one more
        added = await fleet("add_engine", engine="b", url=fleet.engines["b"].url, labels=["fast"])
        assert added.file == str(fleet.file)
        assert (await fleet.end(waiting.workflow_id)).engine == "b"
        assert (await fleet.run(slow(steps=1, step_ms=1), labels=["fast"])).engine == "b"
        await fleet("cancel_workflow", workflow_id=running.workflow_id)
        assert (await fleet.end(behind.workflow_id)).status == "completed"


async def test_a_removed_engine_ends_what_it_has_and_gets_nothing_new(open_fleet: Open) -> None:
    async with open_fleet(a={}, b={}) as fleet:
        with held() as go_on:
            running = await fleet("submit_workflow", workflow=slow(steps=20), engine="a")
            await fleet.running(running.workflow_id)
            fleet.file.write_text(entry(fleet, "b"), encoding="utf-8")
            async with asyncio.timeout(60):
                while "a" not in fleet.services.engines._roster.drained:
                    await asyncio.sleep(0.02)
            go_on()
        ended = await fleet.end(running.workflow_id)
        assert (ended.status, ended.engine, ended.attempt) == ("completed", "a", 1)
        await fleet.are("b")
        assert (await fleet.run(slow(steps=1, step_ms=1))).engine == "b"
        gone = await fleet("list_outputs", workflow_id=running.workflow_id)
        assert gone.outputs


async def test_a_job_for_one_engine_says_how_that_one_is(open_fleet: Open) -> None:
    async with open_fleet(a={}, b={}) as fleet:
        fleet.file.write_text(entry(fleet, "a") + '[c]\nurl = "http://127.0.0.1:9"\n', encoding="utf-8")
        await fleet.are("a", "c")
        assert not (await fleet("submit_workflow", workflow=slow(), not_on=["c"])).warnings
        for wish in ({"engine": "c"}, {"not_on": ["a"]}):
            job = await fleet("submit_workflow", workflow=slow(), **wish)
            assert "No ComfyUI answers at http://127.0.0.1:9" in job.warnings[0]
        job = await fleet("submit_workflow", workflow=slow(), engine="c")
        await fleet("remove_engine", engine="c")
        await fleet.are("a")
        why = None
        while why != "There is no engine c any more. Add it again, or cancel the workflow.":
            state = await fleet("workflow_status", workflow_id=job.workflow_id)
            why = state.waiting_for and state.waiting_for.message


async def test_the_job_of_a_changed_engine_goes_on(open_fleet: Open) -> None:
    async with open_fleet(a={}) as fleet:
        with held() as go_on:
            running = await fleet("submit_workflow", workflow=slow(steps=20))
            await fleet.running(running.workflow_id)
            before = fleet.services.engines.pool["a"]  # type: ignore[index]
            fleet.file.write_text(entry(fleet, "a", 'labels = ["new"]'), encoding="utf-8")
            async with asyncio.timeout(60):
                while fleet.services.engines.pool["a"] is before:  # type: ignore[index]
                    await asyncio.sleep(0.02)
            go_on()
        ended = await fleet.end(running.workflow_id)
        assert (ended.status, ended.attempt) == ("completed", 1)
        assert (await fleet.run(slow(steps=1, step_ms=1), labels=["new"])).engine == "a"


@pytest.mark.parametrize("broken", ["[a", '[a]\nurl = "nonsense"\n', None])
async def test_a_broken_file_changes_nothing_and_is_a_problem(open_fleet: Open, broken: str | None) -> None:
    async with open_fleet(a={}, b={}) as fleet:
        good = fleet.file.read_text(encoding="utf-8")
        if broken is None:
            fleet.file.unlink()
        else:
            fleet.file.write_text(broken, encoding="utf-8")
        (problem,) = await until_problem(fleet, there=True)
        assert "The engines of before are used." in problem
        assert (await fleet.run(slow(steps=1, step_ms=1), engine="b")).status == "completed"
        fleet.file.write_text(good, encoding="utf-8")
        await until_problem(fleet, there=False)


async def test_a_pool_may_be_empty_until_an_engine_comes(open_fleet: Open) -> None:
    async with open_fleet(a={}) as fleet:
        await fleet("remove_engine", engine="a")
        await fleet.are()
        status = await fleet("system_status")
        assert (status.engines, any("engines add" in each for each in status.problems)) == ([], True)
        job = await fleet("submit_workflow", workflow=slow(steps=1, step_ms=1))
        assert any("There is no engine." in each for each in job.warnings)
        shown = await fleet("workflow_status", workflow_id=job.workflow_id)
        assert "There is no engine." in shown.waiting_for.message
        await fleet("add_engine", engine="a", url=fleet.engines["a"].url)
        assert (await fleet.end(job.workflow_id)).status == "completed"


async def test_the_health_of_each_engine_is_shown(open_fleet: Open) -> None:
    async with open_fleet(a={}, b={}) as fleet:
        await fleet.run(slow(steps=1, step_ms=1))
        for engine in (await fleet("system_status")).engines:
            assert engine.up
            assert engine.events
            assert engine.age_ms is not None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"engine": "a", "url": "http://127.0.0.1:9"}, "already"),
        ({"engine": "c", "url": "{a}/"}, "a and c have the same address"),
        ({"engine": "c", "url": "ftp://nowhere"}, "of the engine c can.t be used"),
        ({"engine": "c", "url": "http://127.0.0.1:9", "headers": {"a b": "c"}}, "header"),
        ({"engine": "c", "url": "http://127.0.0.1:9", "labels": ["a b"]}, "labels"),
    ],
)
async def test_a_wrong_entry_is_refused_and_changes_nothing(
    open_fleet: Open, arguments: dict[str, Any], error: str
) -> None:
    async with open_fleet(a={}) as fleet:
        before = fleet.file.read_text(encoding="utf-8")
        url = arguments["url"].format(a=fleet.engines["a"].url)
        with pytest.raises(InvalidInput, match=error):
            await fleet("add_engine", **arguments | {"url": url})
        with pytest.raises(NotFound, match="no engine 'z'"):
            await fleet("remove_engine", engine="z")
        assert fleet.file.read_text(encoding="utf-8") == before


async def test_a_store_that_refuses_while_engines_are_asked_is_said_as_that(
    open_fleet: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any) -> None:
        raise StoreFault("The connection was lost.", next_step="Wait.")

    async with open_fleet(a={}, b={}) as fleet:
        for read in ("live_leases", "drained"):
            with monkeypatch.context() as patch:
                patch.setattr(fleet.services.store, read, refuse)
                with pytest.raises(StoreFault, match="lost"):
                    await fleet.services.engines.report()
