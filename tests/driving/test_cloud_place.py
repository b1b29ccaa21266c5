"""A second kind of place under a driver: a cloud that gives its own ids, and gives them after the POST.

Here it is scripted. What the driver asks of a place must not be ComfyUI's socket in disguise: no id chosen by
the caller, no stream to follow, files that were put there before.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from comfy_mcp.domain.catalog import OutputFile
from comfy_mcp.domain.errors import EngineBadAnswer
from comfy_mcp.domain.events import EngineConnected, PromptEnded
from comfy_mcp.domain.extra_data import ExtraData
from comfy_mcp.domain.ids import EngineId, PromptId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.prompt import PromptEnding, PromptResult
from comfy_mcp.driving.containment import RETRY_S
from comfy_mcp.driving.driver import Driver
from comfy_mcp.places.protocol import (
    Accepted,
    Hear,
    Picture,
    PromptView,
    PromptWhere,
    Rejected,
    Runner,
    Trouble,
)
from tests.driving.conftest import WITH_FILE, House
from tests.support.scripted_place import PICTURE, unreachable


class Cloud:
    """The service. It knows its own ids only, and keeps what runs whoever asks."""

    def __init__(self) -> None:
        self.jobs: dict[str, PromptResult | None] = {}
        self.cancelled: list[str] = []
        self.loses_answers = 0

    def take(self) -> str:
        name = f"cloud-{len(self.jobs) + 1}"
        self.jobs[name] = None
        if self.loses_answers:
            self.loses_answers -= 1
            raise unreachable()
        return name


class CloudPlace:
    """One process's way to the cloud; `names` are the ids that it has heard of."""

    trouble: Trouble | None = None
    on_demand = False

    def __init__(self, cloud: Cloud) -> None:
        self.engine = EngineId("cloud")
        self.stream_id = ""
        self.known_nodes: ObjectInfo | None = None
        self.cloud = cloud
        self.names: dict[PromptId, str] = {}
        self.steps: list[str] = []
        self.refuses_files = 0
        self.changed = asyncio.Event()
        self.hear: Hear | None = None

    def want(self, wanted: bool) -> None:
        """It is always there."""

    async def run(self, hear: Hear) -> None:
        self.hear = hear
        hear(EngineConnected(sid=None))
        await asyncio.Event().wait()

    def follow(self, stream_ids: Collection[str]) -> None: ...

    def recall(self, prompt_id: PromptId, reference: str | None) -> None:
        if reference is not None:
            self.names[prompt_id] = reference

    async def prepare(self, graph: Mapping[str, Any]) -> Mapping[str, Any]:
        self.steps.append("prepare")
        if self.refuses_files:
            self.refuses_files -= 1
            raise EngineBadAnswer("No room for files.", next_step="Wait.")
        return graph

    async def submit(
        self, prompt_id: PromptId, graph: Mapping[str, Any], extra_data: ExtraData | None = None
    ) -> Accepted | Rejected:
        self.steps.append("submit")
        self.changed.set()
        self.names[prompt_id] = self.cloud.take()
        return Accepted(dropped={}, reference=self.names[prompt_id])

    async def keep(self, prompt_id: PromptId, pictures: Sequence[Picture]) -> Sequence[OutputFile]:
        return []

    async def lookup(self, prompt_ids: Sequence[PromptId]) -> Mapping[PromptId, PromptView]:
        self.changed.set()
        return {prompt_id: self._view(prompt_id) for prompt_id in prompt_ids}

    async def cancel(self, prompt_id: PromptId) -> None:
        name = self.names[prompt_id]
        self.cloud.cancelled.append(name)
        self.cloud.jobs[name] = PromptResult(ending=PromptEnding.INTERRUPTED, outputs=())

    async def free(self) -> None: ...
    async def reconnect(self) -> None: ...

    async def sizes(self, files: Sequence[OutputFile]) -> Mapping[OutputFile, int]:
        return dict.fromkeys(files, 7)

    async def until_submitted(self, count: int = 1) -> None:
        async with asyncio.timeout(20):
            while self.steps.count("submit") < count:
                self.changed.clear()
                await self.changed.wait()

    def end(self, prompt_id: PromptId) -> None:
        assert self.hear is not None
        self.hear(PromptEnded(prompt_id=prompt_id))

    def _view(self, prompt_id: PromptId) -> PromptView:
        name = self.names.get(prompt_id)
        if name is None:
            return PromptView(where=PromptWhere.ABSENT)
        result = self.cloud.jobs[name]
        where = PromptWhere.RUNNING if result is None else PromptWhere.FINISHED
        return PromptView(where=where, result=result)


DONE = PromptResult(ending=PromptEnding.SUCCESS, outputs=(PICTURE,))


def drive(house: House, place: CloudPlace, holder: str = "me") -> asyncio.Task[None]:
    runner: Runner = place
    driver = Driver(runner, house.means(), holder=holder)
    house.hub.listen(driver.hear)
    task = house.group.create_task(driver.run())
    house.drivers.append((driver, task))
    return task


async def reference_of(house: House, prompt_id: PromptId) -> str | None:
    def read(connection: Any) -> str | None:
        found: str | None = connection.exec_driver_sql(
            "SELECT reference FROM attempts WHERE prompt_id = ?", (prompt_id,)
        ).scalar()
        return found

    return await house.store._readers.do(read)


async def test_a_job_runs_there_and_its_files_are_put_there_before(house: House) -> None:
    place = CloudPlace(Cloud())
    drive(house, place)
    job_id = await house.submit(WITH_FILE)
    await place.until_submitted()
    (prompt_id,) = place.names
    place.cloud.jobs["cloud-1"] = DONE
    place.end(prompt_id)
    job = await house.final(job_id)
    assert (job.status, job.output_count, job.engine) == (JobStatus.COMPLETED, 1, "cloud")
    assert [output.size for output in await house.outputs(job_id)] == [7]
    assert place.steps == ["prepare", "submit"]


async def test_the_intent_is_written_before_the_post_and_the_id_after_it(house: House) -> None:
    place = CloudPlace(Cloud())
    seen: list[tuple[PromptId | None, str | None]] = []
    submit = place.submit

    async def look_first(
        prompt_id: PromptId, graph: Mapping[str, Any], extra_data: ExtraData | None = None
    ) -> Accepted | Rejected:
        job = await house.job(job_id)
        seen.append((job.prompt_id, await reference_of(house, prompt_id)))
        return await submit(prompt_id, graph, extra_data)

    place.submit = look_first  # type: ignore[method-assign]
    job_id = await house.submit()
    drive(house, place)
    await place.until_submitted()
    (prompt_id,) = place.names
    assert seen == [(prompt_id, None)]
    async with asyncio.timeout(20):
        while await reference_of(house, prompt_id) is None:
            pass
    assert await reference_of(house, prompt_id) == "cloud-1"
    place.cloud.jobs["cloud-1"] = DONE
    place.end(prompt_id)
    await house.final(job_id)


async def test_who_takes_over_finds_the_job_by_the_clouds_id(house: House) -> None:
    cloud = Cloud()
    first = CloudPlace(cloud)
    task = drive(house, first, "first")
    job_id = await house.submit()
    await first.until_submitted()
    (prompt_id,) = first.names
    async with asyncio.timeout(20):
        while await reference_of(house, prompt_id) is None:
            pass
    task.cancel()
    await asyncio.wait([task])
    cloud.jobs["cloud-1"] = DONE

    second = CloudPlace(cloud)
    drive(house, second, "second")
    job = await house.final(job_id)
    assert (job.status, job.attempt) == (JobStatus.COMPLETED, 1)
    assert list(cloud.jobs) == ["cloud-1"]


async def test_a_post_whose_answer_is_lost_is_tried_again_in_sight_of_everybody(house: House) -> None:
    cloud = Cloud()
    cloud.loses_answers = 1
    place = CloudPlace(cloud)
    drive(house, place)
    job_id = await house.submit()
    await place.until_submitted(2)
    (prompt_id,) = place.names
    cloud.jobs["cloud-2"] = DONE
    place.end(prompt_id)
    job = await house.final(job_id)
    assert (job.status, job.attempt) == (JobStatus.COMPLETED, 2)
    assert "requeued" in await house.event_types(job_id)


async def test_files_that_can_not_be_put_there_send_nothing(house: House) -> None:
    place = CloudPlace(Cloud())
    place.refuses_files = 1
    drive(house, place)
    job_id = await house.submit(WITH_FILE)
    async with asyncio.timeout(20):
        while not place.steps:
            await asyncio.sleep(0)
    house.ahead_s += RETRY_S
    await place.until_submitted()
    assert place.steps == ["prepare", "prepare", "submit"]
    place.cloud.jobs["cloud-1"] = DONE
    place.end(next(iter(place.names)))
    assert (await house.final(job_id)).attempt == 1


async def test_a_cancel_reaches_the_cloud_under_its_id(house: House) -> None:
    place = CloudPlace(Cloud())
    drive(house, place)
    job_id = await house.submit()
    await place.until_submitted()
    await house.store.request_cancel(job_id, at=1, reason=None)
    assert (await house.final(job_id)).status is JobStatus.CANCELLED
    assert place.cloud.cancelled == ["cloud-1"]
