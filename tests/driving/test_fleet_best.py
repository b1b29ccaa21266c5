"""The best engine of many is the one that a plain walk over all of them finds."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.ids import EngineId, PromptId
from comfy_mcp.domain.needs import Equipment, Needs
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.placing import EngineNow, Speeds, Waiting, choose, expected_end, takes_first
from comfy_mcp.driving.fleet import Fleet

T = TypeVar("T")

ENGINES = tuple(EngineId(each) for each in "abcd")
SHAPES = ("s", "t")
MODELS = ((), ("m",), ("n",))
LISTS = (None, ObjectInfo.parse({"N": {}}), ObjectInfo.parse({"M": {}}))

runs = st.tuples(
    st.sampled_from(ENGINES),
    st.sampled_from(SHAPES),
    st.sampled_from(MODELS),
    st.sampled_from((1, 2, 2.1, 8)),  # seconds that it takes
    st.sampled_from(("waits", "runs", "ended", "failed")),
)
machines = st.tuples(
    st.sampled_from(LISTS),
    st.booleans(),  # it is there
    st.booleans(),  # it has room
    st.sampled_from((None, 8, 24)),  # its memory
)
jobs = st.builds(
    lambda node, shape, models, memory, known: Waiting(
        priority=0,
        shape=shape,
        needs=Needs(node_classes=(node,), models=models, shape=shape, memory=memory),
        key=node if known else None,
    ),
    st.sampled_from(("N", "M", "gone")),
    st.sampled_from((*SHAPES, "unknown")),
    st.sampled_from(MODELS),
    st.sampled_from((None, 20)),
    st.booleans(),
)


def always(value: T) -> Callable[[], T]:
    return lambda: value


class Asked(Speeds):
    """Without the bound: each engine is asked."""

    def least(self, shape: str | None) -> float:
        return 0.0


def has_same_choice(fleet: Fleet, engine: EngineId, job: Waiting) -> bool:
    """A claim of the engine says the same as with each of the others before it."""
    speeds = Asked(fleet.speeds._paces, fleet.speeds._measured)
    now = {each: fleet._engine_now(member, member.equipment()) for each, member in fleet._members.items()}
    others = [now[each] for each, member in fleet._members.items() if each != engine and member.is_there()]
    choice = fleet.chooser(engine)
    return (choice.takes_first("1", job), choice.choose([("1", job)], more=False)) == (
        takes_first(job, now[engine], others, speeds),
        choose([job], now[engine], others, speeds, more=False),
    )


def walked(fleet: Fleet, able: Collection[EngineId], job: Waiting) -> EngineId | None:
    """What `Fleet.best` says, by a look at each engine."""
    speeds = Asked(fleet.speeds._paces, fleet.speeds._measured)
    fits = fleet._fitting(job, fleet._renew())
    there: dict[EngineId, EngineNow] = {
        each: fleet._engine_now(member, member.equipment())
        for each, member in fits.items()
        if member.is_there()
    }
    if len(there) == 1:
        return next((engine for engine in able if engine in there), None)

    def end(each: EngineNow) -> tuple[bool, float]:
        return bool(each.prompts), expected_end(job, each, speeds) or 0.0

    for me in sorted((there[engine] for engine in able if engine in there), key=end):
        if not me.prompts or me.about_to_end:
            others = [each for each in there.values() if each is not me]
            if choose([job], me, others, speeds, more=False) is not None:
                return me.engine
    return None


@given(st.tuples(machines, machines, machines, machines), st.lists(runs, max_size=12), jobs)
def test_the_best_engine_is_that_of_a_walk_over_all(
    each: tuple[tuple[ObjectInfo | None, bool, bool, int | None], ...],
    history: list[tuple[EngineId, str, tuple[str, ...], float, str]],
    job: Waiting,
) -> None:
    now = 0.0
    fleet = Fleet(lambda: now)
    for engine, (nodes, there, _, memory) in zip(ENGINES, each, strict=True):
        fleet.enter(
            engine,
            equipment=always(Equipment(engine=engine, nodes=nodes)),
            is_there=always(there),
            driven_here=always(True),
            memory=always(memory),
        )
    for number, (engine, shape, models, seconds, how) in enumerate(history):
        prompt, needs = PromptId(str(number)), Needs(node_classes=(), models=models, shape=shape)
        fleet.sent(engine, prompt, shape, needs)
        if how != "waits":
            fleet.began(engine, prompt)
            now += seconds
        if how in {"ended", "failed"}:
            fleet.over(engine, prompt, completed=how == "ended")
    able = [engine for engine, (_, _, has_room, _) in zip(ENGINES, each, strict=True) if has_room]
    assert fleet.best(ENGINES, job, lambda engine: engine in able) == walked(fleet, able, job)
    assert all(has_same_choice(fleet, engine, job) for engine in ENGINES)
    for shape in SHAPES:
        for engine in ENGINES:
            for warm in (True, False):
                expected = fleet.speeds.expect(engine, shape, warm=warm)
                assert expected is None or expected >= fleet.speeds.least(shape)


def test_the_bound_spares_a_look_at_engines_that_could_not_end_a_job_sooner() -> None:
    """Of equal engines, once each has run such a job, one takes it without being compared with the others."""
    fleet, asked = Fleet(lambda: 0.0), list[EngineId]()
    for engine in ENGINES:

        def is_there(engine: EngineId = engine) -> bool:
            asked.append(engine)
            return True

        equipment = always(Equipment(engine=engine))
        fleet.enter(engine, equipment=equipment, is_there=is_there, driven_here=always(True))
        fleet.speeds.observe(engine, "s", 2_000, warm=True)
    job = replace(Waiting(priority=0), shape="s")
    assert fleet.best(ENGINES, job, lambda _: True) == ENGINES[0]
    assert asked == [ENGINES[0]]
