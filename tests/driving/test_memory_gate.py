"""A driver that holds jobs until its engine has room for them."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.events import JobQueued, JobWaiting
from comfy_mcp.domain.gpu import EngineVram, GpuSample, GpuSource
from comfy_mcp.domain.gpu_use import GpuUse
from comfy_mcp.domain.ids import EngineId, JobId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.vram import UNLIMITED
from comfy_mcp.driving import ledger, tenure
from comfy_mcp.driving.clock import Clock
from comfy_mcp.driving.driver import Driver
from comfy_mcp.driving.memory_gate import KEPT_S, MAX_HOLD_MS, MemoryGate
from comfy_mcp.gpu import monitor
from comfy_mcp.settings import Settings
from tests.driving.conftest import GRAPH, House
from tests.support.gpus import GIB
from tests.support.jobs import completed, new_prompt_id, queued_event, started
from tests.support.scripted_place import ScriptedPlace

BIG, SMALL = "big", "small"


def vram(engine: str, free: int) -> EngineVram:
    return EngineVram(
        engine=engine,
        name="Card",
        type="cuda",
        vram_total_bytes=24 * GIB,
        vram_free_bytes=free * GIB,
        torch_total_bytes=0,
        torch_free_bytes=0,
    )


def sample(*engines: EngineVram, without_gpu: tuple[str, ...] = ()) -> GpuSample:
    return GpuSample(source=GpuSource.ENGINE, devices=(), at_ms=1, engines=engines, without_gpu=without_gpu)


@dataclass
class Gpus:
    """What the test says there is free. `hang`: nobody answers."""

    engine: EngineId
    free: int | None = 4
    asked: int = 0
    hang: bool = False
    without_gpu: tuple[str, ...] = ()
    more: tuple[EngineVram, ...] = ()
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def sample(self) -> GpuSample:
        self.asked += 1
        self.heard.set()
        if self.hang:
            await asyncio.Event().wait()
        own = () if self.free is None else (vram(self.engine, self.free),)
        return sample(*own, *self.more, without_gpu=self.without_gpu)

    async def until_asked_again(self) -> None:
        self.heard.clear()
        async with asyncio.timeout(20):
            await self.heard.wait()


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(monitor, "SAMPLE_S", 0.02)
    return settings.model_copy(update={"vram_hold": True, "connect_timeout_s": 0.01})


@pytest.fixture
def gpus(place: ScriptedPlace) -> Gpus:
    return Gpus(place.engine)


def drive(house: House, place: ScriptedPlace, gpus: Gpus, holder: str = "me") -> asyncio.Task[None]:
    driver = Driver(place, house.means(), holder=holder, sampling=gpus.sample)
    house.hub.listen(driver.hear)
    task = house.group.create_task(driver.run())
    house.drivers.append((driver, task))
    return task


async def submit(house: House, shape: str | None, **more: int) -> JobId:
    event: JobQueued = replace(queued_event(at=house.clock.now_ms()), shape=shape, **more)  # type: ignore[arg-type]
    await house.store.add_job(event, GRAPH, max_queued=100)
    return event.job_id


@pytest.fixture
async def taught(house: House) -> House:
    """Big ones needed 20 GiB, small ones 2."""
    lease = await house.store.acquire_lease(EngineId("school"), "teacher", 60)
    assert lease is not None
    for shape, held in ((BIG, 20), (SMALL, 2)):
        job_id = await submit(house, shape)
        claim = await house.store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
        assert claim is not None
        end = replace(completed(claim.job), gpu_use=GpuUse(held_bytes=held * GIB))
        await house.store.record(lease, job_id, [started(claim.job), end])
    return house


def held(job: Job) -> bool:
    return job.waiting_for is not None


async def finish(house: House, place: ScriptedPlace, job_id: JobId) -> None:
    job = await house.until(job_id, lambda job: job.is_claimed)
    assert job.prompt_id is not None
    prompt_id = job.prompt_id
    await place.until(lambda: prompt_id in place.pending)
    await place.start(prompt_id)
    await place.finish(prompt_id)
    assert (await house.final(job_id)).status is JobStatus.COMPLETED


async def test_a_job_is_held_until_there_is_room_and_smaller_ones_go_on(
    taught: House, place: ScriptedPlace, gpus: Gpus
) -> None:
    big, small = await submit(taught, BIG), await submit(taught, SMALL)
    drive(taught, place, gpus)
    waiting = await taught.until(big, held)
    assert waiting.waiting_for is not None
    assert (waiting.waiting_for.need_bytes, waiting.waiting_for.free_bytes) == (20 * GIB, 4 * GIB)
    await finish(taught, place, small)
    assert held(await taught.job(big))
    gpus.free = 21
    await finish(taught, place, big)
    assert await taught.event_types(big) == ["queued", "waiting", "claimed", "started", "completed"]


async def test_while_nothing_changes_the_store_is_not_asked(
    taught: House, place: ScriptedPlace, gpus: Gpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenure, "IDLE_S", 3_600.0)
    drive(taught, place, gpus)
    big = await submit(taught, BIG)
    await taught.until(big, held)
    for _ in range(2):  # by then the log has told everything
        await gpus.until_asked_again()
    looks: list[object] = []
    real = taught.store.claim_next

    async def claim_next(*how: object, **more: object) -> object:
        looks.append(more)
        return await real(*how, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(taught.store, "claim_next", claim_next)
    for _ in range(5):
        await gpus.until_asked_again()
    assert looks == []
    gpus.free = 20
    await finish(taught, place, big)
    assert looks != []


async def test_with_the_setting_off_nobody_is_asked_and_nothing_held(
    taught: House, place: ScriptedPlace, gpus: Gpus
) -> None:
    taught.settings = taught.settings.model_copy(update={"vram_hold": False})
    drive(taught, place, gpus)
    await finish(taught, place, await submit(taught, BIG))
    assert gpus.asked == 0


@pytest.mark.parametrize(
    "silence",
    [{"free": None}, {"hang": True}, {"without_gpu": ("cpu",), "free": None}],
    ids=["not known", "no answer", "no GPU"],
)
async def test_unknown_memory_holds_nothing(
    taught: House, place: ScriptedPlace, gpus: Gpus, silence: dict[str, object]
) -> None:
    for name, value in silence.items():
        setattr(gpus, name, value)
    drive(taught, place, gpus)
    await finish(taught, place, await submit(taught, BIG))


async def test_a_held_job_is_let_go_after_the_longest_time(
    taught: House, place: ScriptedPlace, gpus: Gpus
) -> None:
    drive(taught, place, gpus)
    big = await submit(taught, BIG)
    await taught.until(big, held)
    taught.ahead_s += MAX_HOLD_MS / 1000 + 1
    await finish(taught, place, big)


async def test_a_held_job_still_has_its_deadline(taught: House, place: ScriptedPlace, gpus: Gpus) -> None:
    drive(taught, place, gpus)
    big = await submit(taught, BIG, queue_timeout_ms=60_000)
    await taught.until(big, held)
    taught.ahead_s += 61
    await taught.store.expire_overdue(now=taught.clock.now_ms())
    job = await taught.final(big)
    assert job.failure is not None
    assert job.failure.kind.value == "timeout"


async def test_the_next_process_goes_on_holding_and_one_with_the_setting_off_does_not(
    taught: House, place: ScriptedPlace, gpus: Gpus
) -> None:
    first = drive(taught, place, gpus, "first")
    big, other = await submit(taught, BIG), await submit(taught, BIG)
    since = (await taught.until(other, held)).waiting_for
    first.cancel()
    await asyncio.wait([first])
    second = drive(taught, place, gpus, "second")
    await gpus.until_asked_again()
    await gpus.until_asked_again()
    assert (await taught.job(other)).waiting_for == since
    second.cancel()
    await asyncio.wait([second])
    taught.settings = taught.settings.model_copy(update={"vram_hold": False, "pipeline_depth": 1})
    drive(taught, place, gpus, "third")
    await taught.until(other, lambda job: not held(job))
    assert not (await taught.job(other)).is_claimed
    await finish(taught, place, big)
    await finish(taught, place, other)
    events = [each.event for each in await taught.store.events_after(0, job_id=other)]
    assert [each.waiting_for is None for each in events if isinstance(each, JobWaiting)] == [False, True]


# ---------------------------------------------------------------------------- the gate alone


@dataclass
class Time:
    now: float = 100.0


def gate_of(gpus: Gpus, settings: Settings, time: Time) -> MemoryGate:
    clock = Clock(now_ms=lambda: round(time.now * 1000), monotonic=lambda: time.now)
    return MemoryGate(gpus.engine, settings, clock, gpus.sample)


async def test_an_engine_that_once_does_not_answer_is_taken_at_its_last_word(
    gpus: Gpus, settings: Settings
) -> None:
    time = Time()
    gate = gate_of(gpus, settings, time)
    assert gate.take(await gate.look())
    assert gate.admission().limit == 4 * GIB + round(0.05 * 24 * GIB)
    gpus.free = None
    for _ in range(2):
        time.now += KEPT_S / 2 - 1
        gate.take(await gate.look())
        assert gate.admission().limit < UNLIMITED
    gpus.hang = True
    assert await gate.look() is None
    time.now += 2
    gate.take(None)
    assert gate.admission().limit == UNLIMITED


async def test_only_what_lets_more_through_is_a_reason_to_look_for_work(
    gpus: Gpus, settings: Settings
) -> None:
    time = Time()
    gate = gate_of(gpus, settings, time)
    for free, more in ((4, True), (4, False), (3, False), (5, True)):
        gpus.free = free
        assert gate.take(await gate.look()) is more, free
        if free == 4:
            gate.looked(gate.admission(), holding=True)
    gate.looked(gate.admission(), holding=True)
    gpus.more = (vram("other", 1),)
    assert not gate.take(await gate.look()), "another engine, as large and as full"
    gpus.more = (replace(vram("other", 1), vram_total_bytes=48 * GIB),)
    assert gate.take(await gate.look()), "what needs 30 GiB is not beyond everybody any more"


def due(gate: MemoryGate) -> float | None:
    return gate.due


def ready(gate: MemoryGate) -> bool:
    return gate.ready


async def test_a_gate_is_ready_while_its_sample_is_fresh_and_once_after_it(
    gpus: Gpus, settings: Settings
) -> None:
    time = Time()
    gate = gate_of(gpus, settings, time)
    assert not ready(gate)
    gate.take(await gate.look())
    time.now += 60
    assert ready(gate)
    gate.looked(gate.admission(), holding=False)
    assert not ready(gate)
    assert due(gate) is None
    gate.looked(gate.admission(), holding=True)
    assert due(gate) == time.now - 60 + monitor.SAMPLE_S
    gate.take(await gate.look())
    gate.looked(gate.admission(), holding=True)
    assert ready(gate)
    gate.hurry()
    assert not ready(gate)
    assert due(gate) == float("-inf")


async def test_a_gate_that_is_off_is_open_and_asks_nobody(gpus: Gpus, settings: Settings) -> None:
    gate = gate_of(gpus, settings.model_copy(update={"vram_hold": False}), Time())
    assert ready(gate)
    assert (gate.admission().limit, gate.admission().most) == (UNLIMITED, UNLIMITED)
    assert await gate.look() is None
    assert gpus.asked == 0


async def test_who_has_been_held_for_the_longest_time_is_let_go(gpus: Gpus, settings: Settings) -> None:
    assert gate_of(gpus, settings, Time(now=10_000.0)).admission().due == 10_000_000 - MAX_HOLD_MS


async def test_while_nothing_waits_nobody_is_asked(
    taught: House, place: ScriptedPlace, gpus: Gpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = asyncio.Event()
    real = taught.store.any_waits

    async def any_waits(**how: Any) -> bool:
        looked.set()
        return await real(**how)

    monkeypatch.setattr(taught.store, "any_waits", any_waits)
    drive(taught, place, gpus)
    async with asyncio.timeout(20):
        await looked.wait()
    assert gpus.asked == 0
    await finish(taught, place, await submit(taught, SMALL))
    assert gpus.asked > 0


async def test_a_store_that_refuses_to_be_looked_at_is_looked_at_again(
    taught: House, place: ScriptedPlace, gpus: Gpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = taught.store.any_waits
    refused: list[dict[str, Any]] = []

    async def any_waits(**how: Any) -> bool:
        if not refused:
            refused.append(how)
            raise StoreFault("locked", next_step="Try again.")
        return await real(**how)

    monkeypatch.setattr(taught.store, "any_waits", any_waits)
    monkeypatch.setattr(ledger, "STORE_RETRY_S", 0.01)
    drive(taught, place, gpus)
    await finish(taught, place, await submit(taught, SMALL))
    assert refused
