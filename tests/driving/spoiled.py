"""A place that fails on chosen prompts, and what a job that met a defect comes to."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from comfy_mcp.domain.errors import EngineBadAnswer
from comfy_mcp.domain.events import FailureKind
from comfy_mcp.domain.extra_data import ExtraData
from comfy_mcp.domain.ids import JobId, PromptId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.driving.containment import RETRY_S
from comfy_mcp.places.protocol import Accepted, PromptView, PromptWhere, Rejected
from tests.driving.conftest import House, posted
from tests.support.scripted_place import ScriptedPlace


class Defect(Exception):
    """What nobody foresaw."""


class Spoiled(ScriptedPlace):
    """Fails on chosen prompts: in `prepare`, `submit`, `lookup` or `cancel`."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: dict[str, Callable[[Sequence[PromptId]], bool]] = {}
        self.unreadable: set[PromptId] = set()
        self.nothing_readable = False
        self.first: PromptId | None = None

    def _maybe(self, step: str, *prompts: PromptId) -> None:
        if step in self.fails and self.fails[step](prompts):
            raise Defect(step)

    async def prepare(self, graph: Mapping[str, Any]) -> Mapping[str, Any]:
        ready = await super().prepare(graph)
        self._maybe("prepare")
        return ready

    async def submit(
        self, prompt_id: PromptId, graph: Mapping[str, Any], extra_data: ExtraData | None = None
    ) -> Accepted | Rejected:
        self._maybe("before the POST", prompt_id)
        answer = await super().submit(prompt_id, graph, extra_data)
        self._maybe("after the POST", prompt_id)
        return answer

    async def lookup(self, prompt_ids: Sequence[PromptId]) -> Mapping[PromptId, PromptView]:
        views = dict(await super().lookup(prompt_ids))
        self._maybe("lookup", *prompt_ids)
        if self.nothing_readable:
            raise EngineBadAnswer("Nothing can be read.", next_step="")
        for prompt_id in self.unreadable.intersection(prompt_ids):
            views[prompt_id] = PromptView(
                where=PromptWhere.UNREADABLE, fault="It is larger than all the world."
            )
        return views

    async def cancel(self, prompt_id: PromptId) -> None:
        self._maybe("cancel", prompt_id)
        await super().cancel(prompt_id)


async def hurry(house: House, job_id: JobId, by_s: float = RETRY_S) -> None:
    """Until it is final, while time flies."""
    while not (await house.job(job_id)).is_final:
        house.ahead_s += by_s
        for driver, _ in house.drivers:
            driver.work_arrived()
        await asyncio.sleep(0.01)


async def ended(house: House, job_id: JobId) -> tuple[JobStatus, FailureKind | None]:
    async with asyncio.timeout(20):
        await hurry(house, job_id)
    job = await house.job(job_id)
    return job.status, job.failure.kind if job.failure else None


INTERNAL = (JobStatus.FAILED, FailureKind.INTERNAL)


async def another_completes(house: House, place: Spoiled, *, posts: int) -> None:
    """The tenure goes on: the same one, with the next job."""
    job_id = await house.submit()
    prompt = await posted(place, posts)
    await place.start(prompt)
    await place.finish(prompt)
    assert (await house.final(job_id)).status is JobStatus.COMPLETED
    lease = await house.store.lease_of(place.engine)
    assert lease is not None
    assert lease.fence == 1


def only(prompt: PromptId) -> Callable[[Sequence[PromptId]], bool]:
    return lambda asked: prompt in asked
