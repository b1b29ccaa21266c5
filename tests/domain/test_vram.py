"""What workflows of a shape needed, which engine has room for one, and what is said of it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.deadlines import Deadline, timed_out
from comfy_mcp.domain.events import JobClaimed, JobWaiting
from comfy_mcp.domain.gpu import EngineVram, GpuSample, GpuSource
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.ids import EngineId, JobId
from comfy_mcp.domain.job import IllegalTransition, JobStatus
from comfy_mcp.domain.needs import needs_of
from comfy_mcp.domain.transitions import evolve, queued
from comfy_mcp.domain.vram import (
    UNLIMITED,
    Admission,
    EngineRoom,
    Rooms,
    WaitingFor,
    held_by,
    need_of,
    rooms_of,
    warning_of,
)
from tests.support import jobs
from tests.support.gpus import GIB

A, B = EngineId("a"), EngineId("b")


def room(engine: EngineId, free: int, total: int = 24) -> EngineRoom:
    return EngineRoom(engine=engine, room_bytes=free * GIB, total_bytes=total * GIB)


def rooms(*engines: EngineRoom, open_: bool = False) -> Rooms:
    return Rooms(engines=engines, open=open_)


def graph(**inputs: Any) -> dict[str, Any]:
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd/base.safetensors"}},
        "2": {"class_type": "KSampler", "inputs": {"model": ["1", 0], "seed": 1, **inputs}},
    }


def shape(raw: dict[str, Any]) -> str:
    return needs_of(parse_graph(raw)).shape


# ---------------------------------------------------------------------------- shapes


def test_a_shape_is_the_same_for_ever() -> None:
    assert shape(graph()) == "ae37ef3c78868e71345c98537f079d20"


@pytest.mark.parametrize(
    "other",
    [
        graph(seed=2, text="a cat.", steps=1.5, flag=True, nothing=None),
        {"b": graph()["2"] | {"inputs": {}}, "a": graph()["1"], "c": graph()["1"]},
        {"1": graph()["1"] | {"inputs": {"ckpt_name": "sd\\base.safetensors"}}, "2": graph()["2"]},
    ],
    ids=["values", "ids, order and count", "a Windows engine's path"],
)
def test_what_does_not_count(other: dict[str, Any]) -> None:
    assert shape(other) == shape(graph())


@pytest.mark.parametrize(
    "other",
    [
        graph(lora="x.SafeTensors"),
        graph(lora_1={"on": True, "lora": "x.pt"}),
        graph(loras=[["x.gguf", 1.0]]),
        {"1": graph()["1"]},
    ],
    ids=["a model", "a model in an object", "a model in a list", "a class less"],
)
def test_what_counts(other: dict[str, Any]) -> None:
    assert shape(other) != shape(graph())


def test_texts_that_are_half_a_character_have_a_shape() -> None:
    assert len(shape(graph(name="\ud800.ckpt"))) == 32


# ---------------------------------------------------------------------------- what was needed


@pytest.mark.parametrize(
    ("peaks", "need"),
    [
        ([], None),
        ([7], 7),
        ([20, 7], 7),
        ([20, 20, 7, 20], 7),
        ([1, 20, 20, 7, 20], 7),
        ([1, 20, 20, 7, 20, 20, 20, 20], 7),
    ],
)
def test_three_in_four_peaks_may_be_too_high_and_one_in_four_too_low(
    peaks: list[int], need: int | None
) -> None:
    assert need_of(peaks) == need


# ---------------------------------------------------------------------------- what there is room for


def vram(engine: EngineId = A, **changes: Any) -> EngineVram:
    said = {
        "vram_total_bytes": 24 * GIB,
        "vram_free_bytes": 9 * GIB,
        "torch_total_bytes": 5 * GIB,
        "torch_free_bytes": 2 * GIB,
    }
    return EngineVram(engine=engine, name="Card", type="cuda", **(said | changes))


def sample(*engines: EngineVram, without_gpu: tuple[str, ...] = ()) -> GpuSample:
    return GpuSample(source=GpuSource.ENGINE, devices=(), at_ms=1, engines=engines, without_gpu=without_gpu)


def test_what_an_engines_own_torch_holds_is_room_and_what_others_use_is_not() -> None:
    assert rooms_of(sample(vram())) == rooms(room(A, 12))


def test_an_engine_with_several_devices_has_the_room_of_the_best() -> None:
    two = (vram(), vram(vram_free_bytes=19 * GIB), vram(vram_free_bytes=10 * GIB))
    assert rooms_of(sample(*two)) == rooms(room(A, 22))


@pytest.mark.parametrize(
    "lie",
    [
        {"vram_total_bytes": None},
        {"vram_free_bytes": None},
        {"torch_total_bytes": None},
        {"torch_free_bytes": None},
        {"torch_total_bytes": 25 * GIB},
    ],
)
def test_an_engine_that_does_not_say_enough_may_take_anything(lie: dict[str, int | None]) -> None:
    found = rooms_of(sample(vram(A, **lie), vram(B)))
    assert found == rooms(room(B, 12), open_=True)
    assert Admission(engine=A, rooms=found).limit == UNLIMITED


def test_an_engine_without_a_gpu_may_take_anything() -> None:
    assert rooms_of(sample(vram(), without_gpu=("cpu",))) == rooms(room(A, 12), open_=True)


def test_numbers_that_contradict_each_other_make_no_more_room_than_there_is() -> None:
    assert rooms_of(sample(vram(vram_free_bytes=24 * GIB, torch_free_bytes=0))) == rooms(room(A, 24))
    assert rooms_of(sample(vram(vram_free_bytes=0))) == rooms(room(A, 5))


def test_what_a_torch_holds_is_what_its_engine_says() -> None:
    shown = sample(vram(), vram(torch_total_bytes=None), vram(torch_total_bytes=6), vram(B))
    assert held_by(shown, A) == 5 * GIB
    assert held_by(sample(vram(torch_total_bytes=None)), A) is None
    assert held_by(sample(), A) is None


# ---------------------------------------------------------------------------- who lacks it


def test_a_job_lacks_room_when_an_engine_could_have_it_and_none_has() -> None:
    both = rooms(room(A, 4, total=8), room(B, 10))
    assert both.lacks(20 * GIB)
    assert not both.lacks(10 * GIB)
    assert not both.lacks(11 * GIB), "short by less than 5 % of the device"
    assert not both.lacks(25 * GIB), "no engine could ever have it"
    assert both.exceeds(25 * GIB)
    assert not both.exceeds(24 * GIB)
    assert not both.lacks(None)
    assert not both.exceeds(None)


@pytest.mark.parametrize("unknown", [rooms(), rooms(room(A, 4), open_=True)])
def test_where_memory_is_unknown_nobody_lacks_it(unknown: Rooms) -> None:
    admission = Admission(engine=B, rooms=unknown)
    assert not unknown.lacks(20 * GIB)
    assert not unknown.exceeds(99 * GIB)
    assert admission.admits(20 * GIB, None)
    assert admission.most == UNLIMITED
    assert admission.wait(20 * GIB, now=1, before=None) is None


def test_an_engine_leaves_alone_what_another_has_room_for() -> None:
    admission = Admission(engine=A, rooms=rooms(room(A, 4, total=8), room(B, 20)))
    assert not admission.admits(18 * GIB, None)
    assert admission.wait(18 * GIB, now=1, before=None) is None
    assert admission.admits(4 * GIB, None)
    assert admission.admits(None, None)


def test_who_has_been_held_for_too_long_goes_all_the_same() -> None:
    short = rooms(room(A, 4))
    assert not Admission(engine=A, rooms=short, due=99).admits(20 * GIB, None)
    assert not Admission(engine=A, rooms=short, due=99).admits(20 * GIB, 100)
    assert Admission(engine=A, rooms=short, due=100).admits(20 * GIB, 100)
    assert not Admission(engine=A, rooms=short).admits(20 * GIB, 0), "-1: for as long as it takes"


def test_a_waiting_job_is_told_anew_when_the_numbers_are_others() -> None:
    def wait(free: int, need: int, before: WaitingFor | None, *more: EngineRoom) -> WaitingFor | None:
        admission = Admission(engine=A, rooms=rooms(room(A, free, total=100), *more))
        return admission.wait(need * GIB, now=9 if before else 1, before=before)

    told = wait(10, 50, None)
    assert told is not None
    assert (told.since, told.need_bytes, told.free_bytes) == (1, 50 * GIB, 10 * GIB)
    assert told.sentence == "Similar workflows needed 50.0 GiB of VRAM; a has 10.0 GiB of 100.0 GiB."
    assert wait(14, 50, told) is told
    again = wait(15, 50, told)
    assert again == replace(told, engines=(room(A, 15, total=100),))
    assert wait(10, 51, told) == replace(told, need_bytes=51 * GIB)
    assert wait(10, 50, told, room(B, 1, total=60)) == replace(
        told, engines=(room(A, 10, total=100), room(B, 1, total=60))
    )
    assert wait(10, 50, told, room(B, 1, total=8)) is told, "an engine that is too small has no say"
    assert wait(10, 5, told) is None
    assert Admission(engine=A, rooms=rooms()).wait(None, now=1, before=told) is None


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=4),
    st.integers(0, 40),
    st.booleans(),
)
def test_a_job_is_held_only_where_no_engine_takes_it_and_one_could(
    devices: list[tuple[int, int]], need: int, open_: bool
) -> None:
    names = [EngineId(str(number)) for number in range(len(devices))]
    all_rooms = Rooms(
        engines=tuple(
            EngineRoom(engine=name, room_bytes=min(pair), total_bytes=max(pair))
            for name, pair in zip(names, devices, strict=True)
        ),
        open=open_,
    )
    admissions = [Admission(engine=name, rooms=all_rooms) for name in names]
    taken = [each.admits(need, None) for each in admissions]
    told = [each.wait(need, now=1, before=None) for each in admissions]
    assert len(set(map(repr, told))) == 1, "whoever is asked says the same"
    assert (told[0] is not None) == (not open_ and not any(taken))
    if told[0] is not None:
        assert told[0].free_bytes < need <= max(each.total_bytes for each in told[0].engines)
        assert any(max(pair) >= need for pair in devices), "so it can end"


# ---------------------------------------------------------------------------- what is said


def test_the_submitter_is_warned_of_what_will_happen() -> None:
    short = rooms(room(A, 4), room(B, 6))
    said = "Similar workflows needed 20.0 GiB of VRAM; a has 4.0 GiB of 24.0 GiB, b has 6.0 GiB of 24.0 GiB."
    assert warning_of(20 * GIB, short, holds=True) == f"{said} It waits until an engine has enough."
    assert warning_of(20 * GIB, short, holds=False) == f"{said} It may be slow or run out of memory."
    too_much = warning_of(40 * GIB, short, holds=True)
    assert too_much is not None
    assert too_much.endswith("It may be slow or run out of memory.")
    assert warning_of(5 * GIB, short, holds=True) is None
    assert warning_of(None, short, holds=True) is None


# ---------------------------------------------------------------------------- jobs


WAIT = WaitingFor(since=5, need_bytes=20 * GIB, engines=(room(A, 4),))


def waiting(job_id: JobId, wait: WaitingFor | None = WAIT) -> JobWaiting:
    return JobWaiting(job_id=job_id, at=5, waiting_for=wait)


def test_a_queued_job_waits_until_it_does_not_or_is_claimed_or_ends() -> None:
    job = queued(replace(jobs.queued_event(), shape="s", queue_timeout_ms=1_000))
    assert job.shape == "s"
    held = evolve(job, waiting(job.id))
    assert (held.status, held.waiting_for) == (JobStatus.QUEUED, WAIT)
    assert evolve(held, waiting(job.id, None)) == job
    claimed = evolve(
        held, JobClaimed(job_id=job.id, at=6, attempt=1, engine=A, prompt_id=jobs.new_prompt_id())
    )
    assert claimed.waiting_for is None
    with pytest.raises(IllegalTransition):
        evolve(claimed, waiting(job.id))
    late = timed_out(held, Deadline.QUEUE, at=9)
    assert late.failure.message == (
        "It did not start within 1 s (queue timeout). "
        "Similar workflows needed 20.0 GiB of VRAM; a has 4.0 GiB of 24.0 GiB."
    )
    ended = evolve(held, late)
    assert ended.waiting_for is None
    with pytest.raises(IllegalTransition):
        evolve(ended, waiting(job.id))


def test_a_running_job_waits_for_nothing() -> None:
    job = queued(jobs.queued_event())
    job = evolve(job, JobClaimed(job_id=job.id, at=6, attempt=1, engine=A, prompt_id=jobs.new_prompt_id()))
    running = evolve(job, jobs.started(job))
    with pytest.raises(IllegalTransition):
        evolve(running, waiting(job.id))
    again = evolve(running, jobs.requeued(running))
    assert evolve(again, waiting(job.id)).waiting_for == WAIT
