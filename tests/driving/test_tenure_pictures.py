"""What travels beside the graph, and pictures that come over the event stream."""

import pytest

from comfy_mcp.domain.events import (
    PreviewFrame,
)
from comfy_mcp.domain.extra_data import ExtraData, Submitted
from comfy_mcp.domain.ids import ClientId, JobId, NodeId, PromptId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.driving import attempt as attempt_module
from comfy_mcp.driving.driver import Driver
from tests.driving.conftest import House, posted
from tests.support.scripted_place import ScriptedPlace


async def test_what_was_submitted_beside_the_graph_goes_to_the_engine(
    house: House, place: ScriptedPlace
) -> None:
    file = {"nodes": [{"id": 1, "type": "EmptyImage"}], "links": []}
    with_file = await house.submit(submitted=Submitted(file=file))
    spends = await house.submit(submitted=Submitted(may_spend=True))
    alone = await house.submit()
    house.drive(place)
    beside: list[ExtraData | None] = []
    for number, job_id in enumerate((with_file, spends, alone), start=1):
        prompt = await posted(place, number)
        beside.append(place.beside[prompt])
        await place.start(prompt)
        await place.finish(prompt)
        await house.final(job_id)
    assert beside == [
        ExtraData(values={"extra_pnginfo": {"workflow": file}}),
        ExtraData(spender=ClientId("tester")),
        None,
    ]


PNG = b"\x89PNG\r\n\x1a\n..."


def frame(
    prompt: PromptId, node: str = "2", *, media_type: str = "image/png", data: bytes = PNG
) -> PreviewFrame:
    return PreviewFrame(prompt_id=prompt, node=NodeId(node), media_type=media_type, data=data)


async def test_a_picture_that_an_output_node_only_sends_becomes_an_output(
    house: House, place: ScriptedPlace
) -> None:
    job_id, prompt = await house.sent_to(place)
    await place.start(prompt)
    for event in (frame(prompt, "1"), frame(prompt, media_type="image/jpeg"), frame(prompt), frame(prompt)):
        await place.say(event)
    await place.finish(prompt)
    job = await house.final(job_id)
    assert (job.status, job.output_count) == (JobStatus.COMPLETED, 3)
    assert [picture.node for picture in place.kept] == ["2", "2"]
    made = await house.outputs(job_id)
    assert [(each.file.filename, each.size) for each in made][1:] == [
        ("1.png", len(PNG)),
        ("2.png", len(PNG)),
    ]


async def test_a_picture_that_the_engine_does_not_take_ends_nothing(
    house: House, place: ScriptedPlace
) -> None:
    place.takes_no_pictures = True
    job_id, prompt = await house.sent_to(place)
    await place.start(prompt)
    await place.say(frame(prompt))
    await place.finish(prompt)
    job = await house.final(job_id)
    assert (job.status, job.output_count) == (JobStatus.COMPLETED, 1)
    assert job.warnings[0].startswith(
        "1 picture(s) that the workflow sent over the WebSocket could not be saved"
    )


async def test_the_pictures_that_are_held_have_a_bound(
    house: House, place: ScriptedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_module, "PICTURE_BYTES", 2 * len(PNG))
    job_id, prompt = await house.sent_to(place)
    await place.start(prompt)
    for _ in range(3):
        await place.say(frame(prompt))
    await place.finish(prompt)
    job = await house.final(job_id)
    assert (job.output_count, len(job.warnings)) == (3, 1)


async def test_the_last_preview_of_a_running_job_is_kept_until_its_end(
    house: House, place: ScriptedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_module, "PREVIEW_BYTES", len(PNG))
    job_id, prompt = await house.sent_to(place)
    driver, _ = house.drivers[0]
    await place.start(prompt)
    assert driver.preview(job_id) is None
    await place.say(frame(prompt, "1", media_type="image/jpeg", data=b"one"))
    await place.say(frame(prompt, "1", media_type="image/jpeg", data=b"two"))
    await place.say(frame(prompt, "1", media_type="image/jpeg", data=b"x" * 100))  # too large
    await place.say(frame(prompt, "1", media_type="text/html", data=b"odd"))
    kept = driver.preview(job_id)
    assert kept is not None
    assert (kept.data, kept.node) == (b"two", "1")
    assert driver.preview(JobId("another")) is None
    await place.finish(prompt)
    await house.final(job_id)
    await place.until(lambda: driver.preview(job_id) is None)


async def test_a_process_that_drives_nothing_has_no_preview(house: House, place: ScriptedPlace) -> None:
    assert Driver(place, house.means(), holder="me").preview(JobId("any")) is None
