"""What is asked once the faults are over and every job is final. Each returns what is wrong."""

from contextlib import suppress
from pathlib import Path

from tests.faults.stage import Stage
from tests.faults.world import Bridge
from tests.support import graphs

REFUSED_S = 20.0
"""A submit that is taken although the engine would refuse it fails within this."""


async def outputs_deleted(stage: Stage, bridge: Bridge) -> list[str]:
    """The files go; the jobs stay completed, and asking for the bytes says what is the matter."""
    for path in _pictures(stage):
        path.unlink()
    return await _codes(stage, bridge, "output_gone")


async def outputs_unreadable(stage: Stage, bridge: Bridge) -> list[str]:
    """The engine may not read its files, or not look into its folder, which it can't tell from an empty one.
    When it may again, so it is."""
    folder = stage.world.engine.outputs
    if stage.rng.random() < 0.5:
        stage.note("the files may not be read")
        places, code = _pictures(stage), "output_unreadable"
    else:
        stage.note("the folder may not be looked into")
        places, code = [folder / "t"] if (folder / "t").exists() else [], "output_gone"
    for place in places:
        place.chmod(0o000)
    try:
        found = await _codes(stage, bridge, code)
    finally:
        for place in places:
            place.chmod(0o700)
    return found + await _codes(stage, bridge, "")


async def the_new_version_counts(stage: Stage, bridge: Bridge) -> list[str]:
    """Each bridge, however long it has been there, judges a graph by the engine that there is now."""
    world, found = stage.world, []
    stats = await stage.at_engine("GET", "/system_stats")
    status = await world.session.get(f"{bridge.url}/v1/status")
    seen = (await status.json())["engines"][0]["version"]
    if seen != stats["system"]["comfyui_version"]:
        found.append(f"the engine is {stats['system']['comfyui_version']}, and REST says {seen}")
    refused = "BridgeSlowImage" not in (known := await stage.at_engine("GET", "/object_info")) or (
        known["BridgeSlowImage"]["input"]["required"]["steps"][1]["max"] < 3
    )
    for each in [each for each in world.bridges if each.usable]:
        before = len(stage.clients.refusals)
        entry = await stage.clients.submit(each, "slow", graphs.slow(steps=3, step_ms=5))
        codes = [code for _tool, code in stage.clients.refusals[before:]]
        if entry.job_id is None and (codes != ["graph_invalid"] or not refused):
            found.append(f"a graph that is {'bad' if refused else 'good'} now was answered with {codes}")
        if entry.job_id is not None:
            state = await stage.until_final(bridge, entry, REFUSED_S)
            wanted = "failed" if refused else "completed"
            if state != wanted:
                found.append(f"a job should have {wanted}; it is {state}")
    return found


async def a_new_store_works(stage: Stage, bridge: Bridge) -> list[str]:
    entry = await stage.clients.submit(bridge, "picture", graphs.picture())
    state = None if entry.job_id is None else await stage.until_final(bridge, entry, REFUSED_S)
    return [] if state == "completed" else [f"a job after the damage is {state}"]


async def _codes(stage: Stage, bridge: Bridge, wanted: str) -> list[str]:
    """How the bytes of each picture are refused on both surfaces; "" stands for not at all."""
    agent = await stage.world.start_bridge("mcp")
    if agent is None:
        return ["an MCP server did not start"]
    async with stage.world.session.get(f"{bridge.url}/v1/comfyui/outputs?limit=200") as answer:
        listed = (await answer.json())["outputs"]
    found = []
    for output in listed:
        if output["type"] != "image":
            continue
        for surface in (bridge, agent):
            code = await stage.clients.output_code(surface, output["outputId"])
            if code != wanted:
                found.append(f"{surface.kind} says {code!r} of an output, not {wanted!r}")
    return found


def _pictures(stage: Stage) -> list[Path]:
    found: list[Path] = []
    with suppress(FileNotFoundError):
        found = list(stage.world.engine.outputs.rglob("*.png"))
    return found
