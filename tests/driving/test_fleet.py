"""What engines of one process know of each other, and what one of them does with a refusal."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from comfy_mcp.domain.events import FailureKind, JobFailure
from comfy_mcp.domain.ids import EngineId, PromptId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.domain.needs import NO_WISH, Equipment, Needs, Wish
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.placing import Waiting
from comfy_mcp.domain.prompt import PromptEnding, PromptResult
from comfy_mcp.driving.fleet import Fleet
from comfy_mcp.places.protocol import Rejected
from tests.driving.conftest import GRAPH, House
from tests.support.jobs import queued_event
from tests.support.scripted_place import ScriptedPlace

A, B, C = EngineId("a"), EngineId("b"), EngineId("c")


def needs(*nodes: str, models: tuple[str, ...] = (), wish: Wish = NO_WISH) -> Needs:
    return Needs(node_classes=nodes, models=models, shape="s", files=models, wish=wish)


def job(of: Needs) -> Waiting:
    return Waiting(priority=1, shape=of.shape, needs=of)


@dataclass
class Machine:
    name: EngineId
    nodes: ObjectInfo | None = None
    there: bool = True
    ours: bool = True
    memory: int | None = None

    def enter(self, fleet: Fleet) -> None:
        fleet.enter(
            self.name,
            equipment=lambda: Equipment(engine=self.name, nodes=self.nodes),
            is_there=lambda: self.there,
            driven_here=lambda: self.ours,
            memory=lambda: self.memory,
        )


@dataclass
class World:
    """A fleet of machines, with a clock that stands."""

    machines: Sequence[Machine]
    seconds: float = 100.0
    fleet: Fleet = field(init=False)

    def __post_init__(self) -> None:
        self.fleet = Fleet(lambda: self.seconds)
        for machine in self.machines:
            machine.enter(self.fleet)

    def ran(self, engine: EngineId, seconds: float, of: Needs, *, completed: bool = True) -> None:
        prompt = PromptId("p")
        self.fleet.sent(engine, prompt, of.shape, of)
        self.fleet.began(engine, prompt)
        self.seconds += seconds
        self.fleet.over(engine, prompt, completed=completed)


def best(fleet: Fleet, able: Sequence[EngineId], of: Waiting) -> EngineId | None:
    return fleet.best((A, B, C), of, lambda engine: engine in able)


def nodes(*names: str) -> ObjectInfo:
    return ObjectInfo.parse({name: {} for name in names})


def test_an_engine_that_nobody_entered_takes_the_first_that_waits() -> None:
    fleet = Fleet()
    choice = fleet.chooser(A)
    assert choice.alone
    assert choice.fits("k", needs("N"))
    assert choice.takes_first("1", job(needs("N")))
    assert choice.choose([("1", job(needs("N")))], more=False) == 0
    fleet.sent(A, PromptId("p"), None, None)
    fleet.began(A, PromptId("p"))
    fleet.over(A, PromptId("p"), completed=True)
    fleet.forget(A)
    assert fleet.free_in_s(A) is None


def test_what_an_engine_can_not_run_is_remembered_until_a_node_list_changes() -> None:
    world = World([first := Machine(A, nodes("N")), Machine(B, nodes("N", "Rare"))])
    choice = world.fleet.chooser(A)
    assert not choice.fits("rare", needs("Rare"))
    assert not choice.fits("rare", needs("N"))  # by its key
    assert world.fleet.chooser(A).unfit == ["rare"]
    first.nodes = nodes("N", "Rare")
    choice = world.fleet.chooser(A)
    assert choice.unfit == []
    assert choice.fits("rare", needs("Rare"))
    assert choice.fits(None, None)


def test_what_no_engine_can_run_any_may_have_for_its_refusal_but_a_wish_is_kept() -> None:
    world = World([Machine(A, nodes("N")), Machine(B, nodes("N"))])
    choice = world.fleet.chooser(A)
    assert choice.fits("gone", needs("Gone"))
    assert not choice.fits("other", needs("N", wish=Wish(engine=EngineId("c"))))
    assert not choice.fits("label", needs("N", wish=Wish(labels=("x",))))


def test_an_engine_may_come_while_a_thread_of_the_store_chooses() -> None:
    fleet, chosen = Fleet(), False

    def equipment() -> Equipment:
        if chosen:
            Machine(C, nodes("c")).enter(fleet)
        return Equipment(engine=A, nodes=nodes("a"))

    fleet.enter(A, equipment=equipment, is_there=lambda: True, driven_here=lambda: True)
    Machine(B, nodes("b")).enter(fleet)
    choice = fleet.chooser(A)
    chosen = True
    assert not choice.fits("key", needs("b"))


def test_where_else_a_job_may_go() -> None:
    fleet = World([Machine(A, nodes("N")), Machine(B, nodes("N"))]).fleet
    assert fleet.may_go_elsewhere(needs("N"), A)
    assert not fleet.may_go_elsewhere(needs("N"), A, (B,))
    assert not fleet.may_go_elsewhere(needs("N", wish=Wish(engine=A)), A)


def test_the_time_until_an_engine_is_free_comes_from_runs_of_the_same_shape() -> None:
    world, of = World([Machine(A), Machine(B)]), needs("N", models=("m",))
    fleet = world.fleet
    assert fleet.free_in_s(A) == 0
    world.ran(A, 8, of)  # loads the model
    world.ran(A, 2, of)
    fleet.sent(A, PromptId("p"), of.shape, of)
    assert fleet.free_in_s(A) == 2
    fleet.began(A, PromptId("p"))
    world.seconds += 0.5
    assert fleet.free_in_s(A) == 1.5
    fleet.sent(A, PromptId("q"), "unknown", None)
    assert fleet.free_in_s(A) is None
    fleet.over(A, PromptId("q"), completed=False)
    world.seconds += 2
    assert fleet.free_in_s(A) == 0
    world.seconds += 2
    assert fleet.free_in_s(A) is None  # far longer than it should take
    fleet.forget(A)
    assert fleet.free_in_s(A) == 0


def test_a_run_that_failed_teaches_nothing() -> None:
    world, of = World([Machine(A)]), needs("N")
    world.ran(A, 8, of, completed=False)
    assert world.fleet.speeds.expect(A, "s", warm=True) is None


def test_an_engine_of_another_process_may_be_busy() -> None:
    world = World([Machine(A), Machine(B, ours=False)])
    waiting = [("1", job(needs("N")))]
    assert world.fleet.chooser(A).takes_first(*waiting[0])
    assert world.fleet.chooser(A).choose(waiting, more=False) == 0
    world.fleet.sent(A, PromptId("p"), "s", needs("N"))
    choice = world.fleet.chooser(A)
    assert not choice.takes_first(*waiting[0])
    assert (choice.choose(waiting, more=False), choice.left) == (None, True)
    world.machines[1].there = False
    assert world.fleet.chooser(A).choose(waiting, more=False) == 0


def test_the_only_job_that_waits_goes_to_an_idle_engine_that_ends_it_first() -> None:
    world, of = World([Machine(A, nodes("N")), Machine(B, nodes("N")), Machine(C, nodes("M"))]), needs("N")
    fleet, only = world.fleet, replace(job(of), key=of.key)
    world.ran(A, 8, of)
    world.ran(B, 2, of)
    assert best(fleet, [A, B, C], only) == B
    assert best(fleet, [A], only) is None  # it is left to B, which ends it sooner
    assert best(fleet, [C], only) is None
    fleet.sent(B, PromptId("p"), of.shape, of)
    assert best(fleet, [B], only) is None  # A is idle
    assert best(fleet, [A, B], only) is None  # B ends both before A ends one
    fleet.sent(B, PromptId("q"), "unknown", None)
    assert best(fleet, [A, B], only) == A
    world.machines[0].there = False
    assert best(fleet, [B], only) == B  # nobody else is there
    assert best(fleet, [C], replace(job(of), needs=None)) == C


def test_a_busy_engine_looks_for_work_only_when_it_is_about_to_end_or_alone() -> None:
    world, of = World([Machine(A), Machine(B)]), needs("N")
    fleet = world.fleet
    world.ran(A, 8, of)
    assert (fleet.is_idle(A), fleet.is_free(A)) == (True, True)
    fleet.sent(A, PromptId("p"), of.shape, of)
    fleet.began(A, PromptId("p"))
    assert (fleet.is_idle(A), fleet.is_free(A)) == (False, False)
    world.seconds += 7.8
    assert fleet.is_free(A)
    fleet.sent(A, PromptId("q"), "unknown", None)
    assert not fleet.is_free(A)
    world.machines[1].there = False
    assert fleet.is_free(A)
    assert fleet.has_others(A)
    assert not fleet.has_others(EngineId("nobody"))
    assert fleet.is_idle(EngineId("nobody"))
    assert fleet.is_free(EngineId("nobody"))


def test_a_job_that_is_passed_over_ages() -> None:
    world = World([Machine(A), Machine(B)])
    x, y = needs("N", models=("x",)), needs("N", models=("y",))
    world.ran(A, 1, x)
    world.ran(B, 1, y)
    waiting = [("1", job(y)), ("2", job(x))]
    assert world.fleet.noted("1", job(y)) == job(y)
    assert world.fleet.chooser(A).choose(waiting, more=False) == 1
    world.seconds += 3
    assert world.fleet.noted("1", job(y)).passed_ms == 3000
    assert world.fleet.chooser(A).choose(waiting, more=False) == 1
    assert world.fleet.noted("1", job(y)).passed_ms == 3000


@pytest.mark.parametrize("ours", [True, False])
def test_a_job_goes_where_its_memory_is_at_once_and_from_the_queue(ours: bool) -> None:
    fleet = World([Machine(A, memory=8), Machine(B, memory=24, ours=ours)]).fleet
    large = job(replace(needs("N"), memory=20))
    assert best(fleet, [A], large) is None
    assert best(fleet, [A, B], large) == B
    assert fleet.chooser(A).choose([("1", large)], more=False) is None
    assert fleet.chooser(B).choose([("1", large)], more=False) == 0


def test_a_job_that_ran_out_of_memory_goes_to_an_engine_that_has_more() -> None:
    fleet = World([Machine(A, memory=8), Machine(B, memory=24), Machine(C)]).fleet
    waiting = [("1", job(needs("N")))]
    assert fleet.chooser(A).choose(waiting, more=False) == 0
    for unknown in (C, EngineId("nobody")):
        fleet.ran_short(unknown, "1")
    assert fleet.chooser(A).choose(waiting, more=False) == 0
    fleet.ran_short(A, "1")
    assert fleet.chooser(A).choose(waiting, more=False) is None
    assert fleet.chooser(A).choose([("2", job(needs("N")))], more=False) == 0
    assert fleet.chooser(B).choose(waiting, more=False) == 0


def test_a_job_is_not_left_to_an_engine_that_refused_it() -> None:
    """However much faster that one is."""
    world, of = World([Machine(A), Machine(B, memory=24)]), needs("N")
    world.ran(A, 8, of)
    world.ran(B, 1, of)
    assert world.fleet.chooser(A).choose([("1", job(of))], more=False) is None
    refused = replace(job(of), refused_by=(B,))
    assert world.fleet.chooser(A).choose([("1", refused)], more=False) == 0


@pytest.mark.parametrize(("need", "wanted"), [(20, True), (4, False), (None, False)])
def test_an_engine_that_sleeps_is_wanted_for_what_an_idle_one_lacks_the_memory_for(
    need: int | None, wanted: bool
) -> None:
    fleet = World([Machine(A, memory=8), Machine(B, memory=24)]).fleet
    peek = fleet.chooser(B).peek()
    peek.choose([("1", job(replace(needs("N"), memory=need)))], more=False)
    assert peek.wanted is wanted


# ---------------------------------------------------------------------------------- under a driver


REFUSED = Rejected(failure=JobFailure(kind=FailureKind.VALIDATION, message="There is no node N."))


def enter(house: House, *places: ScriptedPlace, memory: Sequence[int | None] = (None, None)) -> None:
    for place, there in zip(places, memory, strict=False):
        Machine(place.engine, memory=there).enter(house.fleet)


@pytest.mark.parametrize("among", [2, 1])
async def test_a_refused_job_goes_to_another_engine_or_ends(house: House, among: int) -> None:
    wrong, right = ScriptedPlace("wrong"), ScriptedPlace("right")
    enter(house, *[wrong, right][:among])
    wrong.answer = lambda _: REFUSED
    house.drive(wrong)
    of = Needs(node_classes=("EmptyImage", "SaveImage"), models=(), shape="s")
    job, _ = await house.store.add_job(queued_event(at=house.clock.now_ms()), GRAPH, max_queued=9, needs=of)
    if among == 1:
        ended = await house.final(job.id)
        assert (ended.status, ended.failure) == (JobStatus.FAILED, REFUSED.failure)
        return
    await house.until(job.id, lambda job: job.refused_by == (wrong.engine,))
    house.drive(right, holder="other")
    await right.until(lambda: len(right.posted) == 1)
    await right.finish(right.posted[0])
    ended = await house.final(job.id)
    assert (ended.status, ended.engine, ended.attempt) == (JobStatus.COMPLETED, right.engine, 2)
    assert len(wrong.posted) == 1


OUT_OF_MEMORY = PromptResult(
    ending=PromptEnding.ERROR,
    outputs=(),
    failure=JobFailure(kind=FailureKind.OOM, message="CUDA out of memory."),
)


async def test_a_job_is_not_tried_again_where_it_ran_out_of_memory(house: House) -> None:
    """Though that engine idles, and the larger one is busy."""
    small, large = ScriptedPlace("small"), ScriptedPlace("large")
    enter(house, small, large, memory=(8, 24))
    of = Needs(node_classes=("EmptyImage", "SaveImage"), models=(), shape="s")
    house.drive(large)
    first = await house.submit(needs=of)
    await large.until(lambda: len(large.posted) == 1)
    house.drive(small)
    job_id = await house.submit(needs=of)
    await small.until(lambda: len(small.posted) == 1)
    await small.finish(small.posted[0], OUT_OF_MEMORY)
    waiting = await house.until(job_id, lambda job: job.oom_retried)
    assert waiting.engine is None
    await large.finish(large.posted[0])
    await house.final(first)
    await large.until(lambda: len(large.posted) == 2)
    await large.finish(large.posted[1])
    ended = await house.final(job_id)
    assert (ended.status, ended.engine, ended.attempt) == (JobStatus.COMPLETED, large.engine, 2)
    assert len(small.posted) == 1
