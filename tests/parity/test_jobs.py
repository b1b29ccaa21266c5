"""A job submitted on any surface is listed, followed and cancelled on every other."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.parity.people import Agent, Person, RestUser, ShellUser
from tests.parity.surfaces import House, Mcp, open_house
from tests.support.graphs import picture, slow


@pytest.mark.timeout(300)
async def test_whoever_submits_everybody_else_lists_follows_and_cancels(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        people = _people(house, tmp_path)
        names = list(people)
        for owner, canceller in zip(names, names[1:] + names[:1], strict=True):
            await _one_job(owner, canceller, people)


async def _one_job(owner: str, canceller: str, people: dict[str, Person]) -> None:
    """`owner` submits; everybody else lists it; all follow it; `canceller` cancels; all hear of that."""
    job = await people[owner].submit(half_done_at_once())
    for name in people.keys() - {owner}:
        assert job in await people[name].listed(), f"{owner} → {name}"
    hears = {name: asyncio.Event() for name in people}
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        following = {
            name: group.create_task(people[name].follow(job, heard)) for name, heard in hears.items()
        }
        for heard in hears.values():
            await heard.wait()
        assert await people[canceller].cancel(job) == "cancelled", f"{canceller} cancels for {owner}"
    ends = {name: task.result() for name, task in following.items()}
    assert ends == dict.fromkeys(people, "cancelled"), owner


def half_done_at_once() -> dict[str, Any]:
    """A picture, and a slow one after it: the command line shows progress by quarters."""
    node, save = slow(steps=1000).values()
    return picture() | {"slow": node, "save": {**save, "inputs": {**save["inputs"], "images": ["slow", 0]}}}


def _people(house: House, folder: Path) -> dict[str, Person]:
    [engine] = house.sidecar.settings.engines
    people: dict[str, Person] = {
        "rest": RestUser(sidecar=house.sidecar),
        "cli": ShellUser(folder=folder, engine_url=engine.url),
    }
    for name in ("mcp on stdio", "mcp over http"):
        surface = house.surfaces[name]
        assert isinstance(surface, Mcp)
        people[name] = Agent(client=surface.client)
    return people
