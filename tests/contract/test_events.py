"""What a submitter hears while a prompt runs, in which order."""

from __future__ import annotations

import io

from PIL import Image

from tests.contract.graphs import empty_image, new_prefix, node, quick
from tests.contract.harness import Engine, Event, story

FEATURES = {"supports_preview_metadata": True}


async def test_a_prompt_tells_its_story_in_order(engine: Engine) -> None:
    async with engine.listen() as listener:
        prompt_id = await engine.queued(quick(), listener)
        events = await listener.until_done(prompt_id)
    assert story(events) == [
        ("execution_start",),
        ("execution_cached", []),
        ("progress_state", {"1": ("running", 0.0, 1.0)}),
        ("executing", "1"),
        ("progress_state", {"1": ("finished", 1.0, 1.0)}),
        ("progress_state", {"1": ("finished", 1.0, 1.0), "2": ("running", 0.0, 1.0)}),
        ("executing", "2"),
        ("executed", "2"),
        ("progress_state", {"1": ("finished", 1.0, 1.0), "2": ("finished", 1.0, 1.0)}),
        ("execution_success",),
        ("executing", None),
    ]


async def test_status_counts_the_queue_around_a_prompt(engine: Engine) -> None:
    """Queued, taken (still counted), ended; the last one comes before the last event of the prompt."""
    async with engine.listen() as listener:
        prompt_id = await engine.queued(quick(), listener)
        await listener.until_done(prompt_id)
        counts = [
            event.data["status"]["exec_info"]["queue_remaining"]
            for event in listener.seen
            if event.type == "status"
        ]
        assert counts == [0, 1, 1, 0]
        assert [event.type for event in listener.seen[-2:]] == ["status", "executing"]


async def test_the_greeting_names_the_socket(engine: Engine) -> None:
    async with engine.listen("a-client-of-ours") as listener:
        greeting = listener.seen[0]
    assert greeting == Event(
        "status", {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "a-client-of-ours"}
    )


async def test_a_socket_without_an_id_gets_one(engine: Engine) -> None:
    async with engine.http.ws_connect(f"{engine.url}/ws") as ws:
        greeting = await ws.receive_json()
    assert len(greeting["data"]["sid"]) == 32


async def test_feature_flags_are_answered(engine: Engine) -> None:
    async with engine.listen(features=FEATURES) as listener:
        answered = listener.seen[-1]
    flags = {"supports_preview_metadata": True, "max_upload_size": 104857600}
    assert (answered.type, answered.data | flags) == ("feature_flags", answered.data)
    assert answered.data == flags or not engine.is_0_3_75


async def test_every_event_has_the_fields_that_clients_read(engine: Engine) -> None:
    async with engine.listen() as listener:
        prompt_id = await engine.queued(quick(prefix := new_prefix()), listener)
        events = await listener.until_done(prompt_id)
    by_type = {event.type: event.data for event in events}
    stamped = {"prompt_id", "timestamp"}
    assert set(by_type["execution_start"]) == stamped
    assert set(by_type["execution_cached"]) == stamped | {"nodes"}
    assert set(by_type["execution_success"]) == stamped
    saved = {"filename": f"{prefix.split('/')[1]}_00001_.png", "subfolder": "contract", "type": "output"}
    assert by_type["executed"] == {
        "node": "2",
        "display_node": "2",
        "output": {"images": [saved]},
        "prompt_id": prompt_id,
    }
    running = next(event for event in events if event.type == "executing")
    assert running.data == {"node": "1", "display_node": "1", "prompt_id": prompt_id}
    assert events[-1].data == {"node": None, "prompt_id": prompt_id}
    assert by_type["progress_state"]["nodes"]["2"] == {
        "value": 1.0,
        "max": 1.0,
        "state": "finished",
        "node_id": "2",
        "prompt_id": prompt_id,
        "display_node_id": "2",
        "parent_node_id": None,
        "real_node_id": "2",
    }


async def test_a_rerun_is_cached_and_tells_the_old_file_names(engine: Engine) -> None:
    graph = quick(new_prefix())
    first, _ = await engine.run(graph)
    second, events = await engine.run(graph)
    assert story(events) == [
        ("execution_start",),
        ("execution_cached", ["1", "2"]),
        ("executed", "2"),
        ("progress_state", {"2": ("finished", 1, 1)}),
        ("execution_success",),
        ("executing", None),
    ]
    assert second["outputs"] == first["outputs"]
    assert second["status"]["messages"][1][1]["nodes"] == ["1", "2"]


async def test_a_changed_node_runs_again_and_what_it_needs_is_cached(engine: Engine) -> None:
    graph = {**quick(new_prefix()), "3": node("ImageInvert", image=["1", 0])}
    graph["4"] = node("SaveImage", images=["3", 0], filename_prefix=new_prefix())
    await engine.run(graph)
    graph["4"]["inputs"]["filename_prefix"] = new_prefix()
    _, events = await engine.run(graph)
    assert ("execution_cached", ["1", "2", "3"]) in story(events)
    assert [e.data["node"] for e in events if e.type == "executing"] == ["4", None]
    assert {e.data["node"] for e in events if e.type == "executed"} == {"2", "4"}


async def test_the_cache_forgets_what_the_prompt_before_did_not_use(engine: Engine) -> None:
    graph = quick(new_prefix())
    await engine.run(graph)
    await engine.run(quick())
    _, events = await engine.run(graph)
    assert ("execution_cached", []) in story(events)


async def test_titles_do_not_matter_to_the_cache(engine: Engine) -> None:
    graph = quick(new_prefix())
    await engine.run(graph)
    graph["1"]["_meta"] = {"title": "Another title"}
    _, events = await engine.run(graph)
    assert ("execution_cached", ["1", "2"]) in story(events)


async def test_equal_nodes_run_once(engine: Engine) -> None:
    """The second of two equal outputs takes over the files of the first; the history says whose they are."""
    image, prefix = empty_image(), new_prefix()
    graph = {
        "1": image,
        "2": node("SaveImage", images=["1", 0], filename_prefix=prefix),
        "3": node("SaveImage", images=["1", 0], filename_prefix=prefix),
    }
    entry, events = await engine.run(graph)
    assert entry["outputs"]["2"] == entry["outputs"]["3"]
    (made_by,) = {e.data["node"] for e in events if e.type == "executing"} - {"1", None}
    assert {meta["node_id"] for meta in entry["meta"].values()} == {made_by}


async def test_free_memory_empties_the_cache(engine: Engine) -> None:
    graph = quick(new_prefix())
    await engine.run(graph)
    assert (await engine.post("/free", {"free_memory": True})).status == 200
    # ComfyUI frees between two prompts: before the first of these, or after it if that has come at once.
    runs = [story((await engine.run(graph))[1]) for _ in range(2)]
    assert any(("execution_cached", []) in each for each in runs) or not engine.is_0_3_75
    assert all(("execution_success",) in each for each in runs)


async def test_unload_models_leaves_the_cache(engine: Engine) -> None:
    graph = quick(new_prefix())
    await engine.run(graph)
    assert (await engine.post("/free", {"unload_models": True})).status == 200
    _, events = await engine.run(graph)
    assert ("execution_cached", ["1", "2"]) in story(events)


async def test_steps_come_with_plain_previews(engine: Engine) -> None:
    """Without feature flags: the preview follows the step, with an event number, a format and a JPEG."""
    async with engine.listen() as listener:
        prompt_id = await engine.queued(engine.slow(steps=3), listener)
        await listener.until_done(prompt_id)
        steps = [e for e in listener.seen if e.type in {"progress", "preview"}]
    assert story(steps) == [
        ("progress", "5", 1, 3), ("preview", 1),
        ("progress", "5", 2, 3), ("preview", 1),
        ("progress", "5", 3, 3), ("preview", 1),
    ]  # fmt: skip
    assert steps[0].data == {"value": 1, "max": 3, "prompt_id": prompt_id, "node": "5"}
    assert steps[1].data["format"] == 1
    with Image.open(io.BytesIO(steps[1].data["image"])) as image:
        assert (image.format, image.size) == ("JPEG", (512, 512))


async def test_steps_come_with_previews_that_name_their_node(engine: Engine) -> None:
    """With feature flags: the preview comes before the step and carries JSON."""
    async with engine.listen(features=FEATURES) as listener:
        prompt_id = await engine.queued(engine.slow(steps=2), listener)
        await listener.until_done(prompt_id)
        steps = [e for e in listener.seen if e.type in {"progress", "preview"}]
    assert story(steps) == [("preview", 4), ("progress", "5", 1, 2), ("preview", 4), ("progress", "5", 2, 2)]
    assert steps[0].data["metadata"] == {
        "node_id": "5",
        "prompt_id": prompt_id,
        "display_node_id": "5",
        "parent_node_id": None,
        "real_node_id": "5",
        "image_type": "image/jpeg",
    }
    assert steps[0].data["image"].startswith(b"\xff\xd8\xff")


async def test_the_state_of_a_stepping_node_goes_from_running_to_finished(engine: Engine) -> None:
    async with engine.listen() as listener:
        prompt_id = await engine.queued(engine.slow(steps=2), listener)
        events = await listener.until_done(prompt_id)
    states = [e.data["nodes"].get("5") for e in events if e.type == "progress_state"]
    seen = [(s["state"], s["value"], s["max"]) for s in states if s is not None]
    assert list(dict.fromkeys(seen)) == [
        ("running", 0.0, 1.0),
        ("running", 1, 2),
        ("running", 2, 2),
        ("finished", 2, 2),
    ]
