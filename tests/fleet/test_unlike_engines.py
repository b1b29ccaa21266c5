"""A job goes to an engine that can run it, whichever was asked first."""

import asyncio
from typing import Any

import pytest

from comfy_mcp.domain.errors import InvalidGraph, InvalidInput, NotFound
from tests.fleet.conftest import Open
from tests.support.graphs import picture, slow
from tests.support.held import held

RARE = frozenset({"BridgeSlowImage"})


def with_model(model: str, *, step_ms: int = 10, load_ms: int = 0) -> dict[str, Any]:
    graph = slow(steps=1)
    seed = graph["1"]["inputs"]["seed"]
    graph["1"] = {
        "class_type": "BridgeModelImage",
        "inputs": {
            "model": model, "width": 64, "height": 64, "load_ms": load_ms, "step_ms": step_ms, "seed": seed,
        },
    }  # fmt: skip
    return graph


def inverted(graph: dict[str, Any]) -> dict[str, Any]:
    graph["3"] = {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}}
    graph["2"]["inputs"]["images"] = ["3", 0]
    return graph


@pytest.mark.parametrize("rare_first", [True, False])
async def test_a_graph_runs_where_its_classes_are(open_fleet: Open, rare_first: bool) -> None:
    options: dict[str, Any] = {"plain": {"without": RARE}, "rare": {}}
    ordered = dict(sorted(options.items(), reverse=rare_first))
    async with open_fleet(**ordered) as fleet:
        for _ in range(5):
            async with asyncio.TaskGroup() as group:
                runs = [group.create_task(fleet.run(slow(steps=1, step_ms=1))) for _ in range(4)]
            ended = [run.result() for run in runs]
            assert {(each.status, each.engine) for each in ended} == {("completed", "rare")}
        assert (await fleet.run(picture())).status == "completed"


INVERT = frozenset({"ImageInvert"})
FIVE: dict[str, dict[str, Any]] = {
    "plain": {"without": RARE | {"BridgeModelImage"}},
    "slow": {"without": INVERT},
    "model": {"without": INVERT, "models": ["a.safetensors"], "speed": 2.0},
    "fast": {"without": frozenset({"BridgeModelImage"}), "speed": 8.0},
    "both": {"models": ["a.safetensors", "b.safetensors"], "labels": ["eu"], "speed": 2.0},
}


async def test_of_five_unlike_engines_each_gets_what_it_can_run(open_fleet: Open) -> None:
    def kinds() -> list[tuple[dict[str, Any], dict[str, Any], set[str]]]:
        return [
            (picture(), {}, {*FIVE}),
            (slow(steps=4, step_ms=50), {}, {*FIVE} - {"plain"}),
            (slow(steps=4, step_ms=50), {"not_on": ["fast", "slow"]}, {"model", "both"}),
            (with_model("a.safetensors", load_ms=100), {}, {"model", "both"}),
            (with_model("b.safetensors", load_ms=100), {}, {"both"}),
            (inverted(slow(steps=4, step_ms=50)), {}, {"fast", "both"}),
            (picture(), {"labels": ["eu"]}, {"both"}),
            (picture(), {"engine": "plain"}, {"plain"}),
        ]

    async with open_fleet(**FIVE) as fleet:
        await fleet.connected()
        for graph, wish, able in kinds():
            checked = await fleet("submit_workflow", workflow=graph, dry_run=True, **wish)
            assert set(checked.engines) == able
        assert checked.text().startswith("It would run on plain (2 nodes).")
        jobs = [
            ((await fleet("submit_workflow", workflow=graph, **wish)).workflow_id, able)
            for _ in range(6)
            for graph, wish, able in kinds()
        ]
        for job, able in jobs:
            ended = await fleet.end(job)
            assert (ended.status, ended.attempt) == ("completed", 1)
            assert ended.engine in able


@pytest.mark.parametrize("first", ["a", "b"])
async def test_a_graph_runs_where_its_model_file_is(open_fleet: Open, first: str) -> None:
    names = [first, *({"a", "b"} - {first})]
    async with open_fleet(**{name: {"models": [f"{name}.safetensors"]} for name in names}) as fleet:
        for name in "abba":
            ended = await fleet.run(with_model(f"{name}.safetensors"))
            assert (ended.status, ended.engine) == ("completed", name)


async def test_a_graph_that_no_engine_can_run_is_refused_with_what_each_lacks(open_fleet: Open) -> None:
    async with open_fleet(a={"without": RARE}, b={"without": INVERT}) as fleet:
        with pytest.raises(InvalidGraph) as refused:
            await fleet("submit_workflow", workflow=inverted(slow(steps=1)))
        assert "Engine a: The workflow can't run: this engine lacks 1 class: BridgeSlowImage" in str(
            refused.value
        )
        assert "Engine b lacks node class ImageInvert." in str(refused.value)


async def test_two_jobs_run_on_two_engines_at_once(open_fleet: Open) -> None:
    async with open_fleet(a={}, b={}) as fleet:
        await fleet.connected()
        jobs = [(await fleet("submit_workflow", workflow=slow())).workflow_id for _ in range(2)]
        running = [await fleet.running(job) for job in jobs]
        assert {each.engine for each in running} == {"a", "b"}
        waiting = [(await fleet("submit_workflow", workflow=slow())).workflow_id for _ in range(2)]
        for job in waiting:  # bound as late as possible: no engine holds a second one
            assert (await fleet("workflow_status", workflow_id=job)).engine is None
        for job in [*waiting, *jobs]:
            await fleet("cancel_workflow", workflow_id=job)


@pytest.mark.parametrize("wish", [{"engine": "b"}, {"labels": ["fast"]}, {"not_on": ["a", "c"]}])
async def test_a_submit_may_ask_for_an_engine(open_fleet: Open, wish: dict[str, Any]) -> None:
    async with open_fleet(a={}, b={"labels": ["fast", "eu"]}, c={}) as fleet:
        for _ in range(2):
            async with asyncio.TaskGroup() as group:
                runs = [group.create_task(fleet.run(slow(steps=1, step_ms=1), **wish)) for _ in range(3)]
            assert {(run.result().status, run.result().engine) for run in runs} == {("completed", "b")}
        late = await fleet("submit_workflow", workflow=slow(), **wish)
        await fleet("cancel_workflow", workflow_id=late.workflow_id)
        await fleet.end(late.workflow_id)
        again = await fleet("retry_workflow", workflow_id=late.workflow_id)
        await fleet("cancel_workflow", workflow_id=again.workflow_id)
        kept = [await fleet.services.store.get_graph(job.workflow_id) for job in (late, again)]
        assert len({each.wish for each in kept if each is not None}) == 1
        with pytest.raises(InvalidInput, match="There is no engine 'd'"):
            await fleet("submit_workflow", workflow=picture(), engine="d")


async def test_a_drained_engine_gets_nothing_new_until_it_is_resumed(open_fleet: Open) -> None:
    async with open_fleet(a={}, b={}) as fleet:
        with held() as go_on:
            first = await fleet("submit_workflow", workflow=slow(steps=20), engine="a")
            await fleet.running(first.workflow_id)
            assert (await fleet("drain_engine", engine="a")).drained
            listed = {each.id: each.drained for each in (await fleet("system_status")).engines}
            assert listed == {"a": True, "b": False}
            for _ in range(3):
                assert (await fleet.run(picture())).engine == "b"
            go_on()
        assert (await fleet.end(first.workflow_id)).engine == "a"
        waiting = await fleet("submit_workflow", workflow=picture(), engine="a")
        state = await fleet("workflow_status", workflow_id=waiting.workflow_id)
        assert state.status == "queued"
        assert state.waiting_for.message == "Engine a is drained."
        assert not (await fleet("resume_engine", engine="a")).drained
        assert (await fleet.end(waiting.workflow_id)).engine == "a"
        with pytest.raises(NotFound, match="There is no engine 'c'"):
            await fleet("drain_engine", engine="c")
