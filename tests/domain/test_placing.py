"""Which engine takes which job, by the pure rule, and how close to the best plan that comes."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.needs import NO_WISH, Equipment, Lack, Needs, Wish
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.placing import (
    AHEAD_MS,
    MAX_SHAPES,
    PATIENCE_MS,
    EngineNow,
    Others,
    Speeds,
    Waiting,
    choose,
    expected_end,
    takes_first,
    why_nowhere,
)

A, B = EngineId("a"), EngineId("b")


def needs(
    *models: str, nodes: tuple[str, ...] = ("N",), files: tuple[str, ...] = (), wish: Wish = NO_WISH
) -> Needs:
    return Needs(node_classes=nodes, models=models, shape=f"shape of {models}", files=files, wish=wish)


def job(*models: str, priority: int = 1, passed_ms: float = 0, of: Needs | None = None) -> Waiting:
    of = of or needs(*models)
    return Waiting(priority=priority, shape=of.shape, needs=of, passed_ms=passed_ms)


def engine(
    name: EngineId = A,
    *,
    prompts: int | None = 0,
    free_in_ms: float | None = 0.0,
    loaded: Sequence[str] = (),
    memory: int | None = None,
) -> EngineNow:
    return EngineNow(
        equipment=Equipment(engine=name),
        prompts=prompts,
        free_in_ms=free_in_ms,
        loaded=frozenset(loaded),
        memory=memory,
    )


def took(*runs: tuple[EngineId, str, float], warm: bool = True) -> Speeds:
    speeds = Speeds()
    for name, shape, ms in runs:
        speeds.observe(name, shape, ms, warm=warm)
    return speeds


def chosen(
    waiting: Sequence[Waiting],
    me: EngineNow,
    *others: EngineNow,
    speeds: Speeds | None = None,
    more: bool = False,
) -> int | None:
    return choose(waiting, me, others, speeds or Speeds(), more=more)


def test_an_idle_engine_takes_the_first_job() -> None:
    assert chosen([job(), job()], engine()) == 0
    assert chosen([Waiting(priority=1)], engine(), engine(B)) == 0


def test_a_busy_engine_takes_a_second_one_only_if_nobody_else_could() -> None:
    busy = engine(prompts=1, free_in_ms=60_000)
    assert chosen([job()], busy) == 0
    assert chosen([job()], busy, engine(B)) is None
    assert chosen([job()], busy, engine(B, prompts=1)) is None
    only_here = job(of=needs(wish=Wish(engine=A)))
    assert chosen([job(), only_here], busy, engine(B)) == 1


@pytest.mark.parametrize(
    ("free_in_ms", "other", "takes"),
    [
        (AHEAD_MS, 1, True),
        (AHEAD_MS, None, True),
        (AHEAD_MS, 0, False),
        (AHEAD_MS + 1, 1, False),
        (None, 1, False),
    ],
)
def test_an_engine_that_is_about_to_end_takes_the_next_unless_another_idles(
    free_in_ms: float | None, other: int | None, takes: bool
) -> None:
    me = engine(prompts=1, free_in_ms=free_in_ms)
    assert (chosen([job()], me, engine(B, prompts=other, free_in_ms=None)) == 0) is takes


def test_a_job_whose_model_is_loaded_goes_first_but_not_before_a_higher_priority() -> None:
    me, other = engine(loaded=["x"]), engine(B, prompts=1, loaded=["y"])
    assert chosen([job("y"), job("x")], me, other) == 1
    assert chosen([job("y"), job("y")], me, other) == 0
    assert chosen([job("y", priority=0), job("x")], me, other) == 0
    assert chosen([job(), job("x")], me, other) == 0


def test_a_job_that_was_passed_over_for_too_long_is_loaded_unless_another_has_its_model() -> None:
    late, me = job("y", passed_ms=PATIENCE_MS), engine(loaded=["x"])
    assert chosen([late, job("x")], me, engine(B, prompts=1)) == 0
    assert chosen([late, job("x")], me, engine(B, prompts=1, loaded=["y"])) == 1


def test_the_last_jobs_are_left_to_engines_that_end_them_sooner() -> None:
    speeds = took((A, job().shape or "", 8000), (B, job().shape or "", 1000))
    busy = engine(B, prompts=1, free_in_ms=1000)
    assert chosen([job()] * 6, engine(), busy, speeds=speeds) is None
    assert chosen([job()] * 7, engine(), busy, speeds=speeds) == 0
    assert chosen([job()], engine(), busy, speeds=speeds, more=True) == 0
    assert chosen([job()], engine(), engine(B, prompts=None, free_in_ms=None), speeds=speeds) == 0
    assert chosen([job()], engine(B), engine(), speeds=speeds) == 0
    assert chosen([job()], engine(), busy, speeds=took((A, job().shape or "", 8000))) == 0
    ending = engine(prompts=1, free_in_ms=AHEAD_MS)
    assert chosen([job()] * 6, ending, busy, speeds=speeds) is None
    assert chosen([job()] * 7, ending, busy, speeds=speeds) == 0


def test_who_is_sure_of_the_first_job_takes_it_whatever_waits_behind_it() -> None:
    chance, sure = random.Random(7), 0
    for _ in range(2_000):
        me, *others = [
            engine(
                EngineId(name),
                prompts=chance.choice([0, 0, 1, None]),
                free_in_ms=chance.choice([0.0, AHEAD_MS / 2, 900.0, None]),
                loaded=chance.choice([(), ("x",), ("y",)]),
                memory=chance.choice([None, 5, 50]),
            )
            for name in "abc"
        ]
        speeds = took(*((EngineId(name), "shape of ('x',)", chance.choice([10, 1_000])) for name in "abc"))
        of = [replace(needs(chance.choice("xy")), memory=chance.choice([None, 9])) for _ in range(5)]
        waiting = [job(priority=each // 3, of=of[each]) for each in range(chance.randint(1, 5))]
        if takes_first(waiting[0], me, others, speeds):
            sure += 1
            assert choose(waiting, me, others, speeds, more=chance.choice([False, True])) == 0
    assert 100 < sure < 1_900


def test_of_two_equal_engines_one_always_takes_the_job() -> None:
    speeds = took((A, job().shape or "", 1000), (B, job().shape or "", 999))
    assert 0 in {
        chosen([job()], engine(), engine(B), speeds=speeds),
        chosen([job()], engine(B), engine(), speeds=speeds),
    }


@pytest.mark.parametrize(
    ("need", "mine", "other", "takes"),
    [
        (20, 8, 24, False),
        (20, 8, 20, False),
        (20, 8, 16, True),  # nobody has enough: ComfyUI works with what there is
        (20, 8, None, True),  # nothing is known of the other
        (20, None, 24, True),
        (None, 8, 24, True),
        (8, 8, 24, True),
        (20, 24, 8, True),
    ],
)
def test_a_job_is_left_to_an_engine_that_has_the_memory_for_it(
    need: int | None, mine: int | None, other: int | None, takes: bool
) -> None:
    large = job(of=replace(needs(), memory=need))
    me, busy = engine(memory=mine), engine(B, memory=other, prompts=1, free_in_ms=None)
    assert (chosen([large], me, busy) == 0) is takes
    assert chosen([large, job()], me, busy) == (0 if takes else 1)
    assert (chosen([large], me) == 0) is True


def test_what_a_workflow_held_elsewhere_counts_less_than_its_end_here() -> None:
    """Models stay loaded where there is room for them."""
    large = job(of=replace(needs(), memory=20))
    me, other = engine(memory=8), engine(B, memory=24, prompts=1, free_in_ms=None)
    assert chosen([large], me, other, speeds=took((A, large.shape or "", 1000))) == 0
    assert chosen([large], me, other, speeds=took((B, large.shape or "", 1000))) is None


@pytest.mark.parametrize(("other", "takes"), [(24, False), (8, True), (None, True)])
def test_a_job_that_ran_out_of_memory_is_left_to_an_engine_that_has_more(
    other: int | None, takes: bool
) -> None:
    """Whatever such workflows needed before: this one may be larger."""
    short = replace(job(of=replace(needs(), memory=4)), ran_short=8)
    me, busy = engine(memory=8), engine(B, memory=other, prompts=1, free_in_ms=None)
    assert (chosen([short], me, busy, speeds=took((A, short.shape or "", 1000))) == 0) is takes
    assert chosen([short], engine(), busy) == 0


def test_no_engine_waits_for_one_that_lacks_the_memory() -> None:
    """The large engine keeps its pipeline where only a small one idles."""
    large = job(of=replace(needs(), memory=20))
    me = engine(memory=24, prompts=1, free_in_ms=60_000)
    assert chosen([large], me, engine(B, memory=8)) == 0
    assert chosen([large], me, engine(B, memory=8), engine(EngineId("c"), memory=24)) is None
    assert chosen([job()], me, engine(B, memory=8)) is None


def test_what_is_known_of_one_shape_is_carried_over_to_others() -> None:
    speeds = took((A, "s", 1000), (B, "s", 4000), (A, "t", 500))
    assert speeds.expect(B, "t", warm=True) == pytest.approx(2000)
    assert speeds.expect(A, "t", warm=False) == 500
    assert speeds.expect(EngineId("c"), "t", warm=True) is None
    assert speeds.expect(A, None, warm=True) is None
    speeds.observe(A, "t", 5000, warm=False)
    assert (speeds.expect(A, "t", warm=False), speeds.expect(A, "t", warm=True)) == (5000, 500)
    speeds.observe(A, "t", 1500, warm=True)
    assert speeds.expect(A, "t", warm=True) == pytest.approx(800)
    assert took((A, "z", 0.0), (B, "z", 0.0), (A, "t", 5.0)).expect(B, "t", warm=True) is None


def test_shapes_that_nobody_runs_any_more_are_forgotten() -> None:
    speeds = took(*((A, str(number), 10) for number in range(MAX_SHAPES + 1)))
    assert speeds.expect(A, "0", warm=True) is None
    assert speeds.expect(A, str(MAX_SHAPES), warm=True) == 10


def test_the_expected_end_counts_what_is_at_the_engine() -> None:
    speeds = took((A, job().shape or "", 300))
    assert expected_end(job(), engine(free_in_ms=200), speeds) == 500
    assert expected_end(job(), engine(free_in_ms=None), speeds) is None
    assert expected_end(job(), engine(B), speeds) is None


def test_why_no_engine_takes_a_job() -> None:
    nodes = ObjectInfo.parse({"N": {}})
    fleet = [Equipment(engine=A, nodes=nodes, labels=frozenset({"fast"})), Equipment(engine=B, nodes=nodes)]
    wanted = needs(wish=Wish(labels=("fast",)))
    assert why_nowhere(wanted, fleet, {}) is None
    assert why_nowhere(wanted, fleet, {A: "Engine a is drained."}) == (
        "Engine a is drained. Engine b lacks label fast."
    )


def test_a_job_that_asks_for_one_engine_says_why_that_one_does_not_take_it() -> None:
    fleet = [Equipment(engine=EngineId(f"e{number}")) for number in range(200)]
    drained = {each.engine: f"Engine {each.engine} is drained." for each in fleet}
    one = needs(wish=Wish(engine=EngineId("e7")))
    assert why_nowhere(one, fleet, drained) == "Engine e7 is drained."
    assert why_nowhere(one, fleet[:3], {}) == (
        "There is no engine e7 any more. Add it again, or cancel the workflow."
    )
    many = why_nowhere(needs(), fleet, drained)
    assert many is not None
    assert many.endswith("Engine e9 is drained. And 190 more engines.")


def test_a_lack_says_what_it_is() -> None:
    lack = Lack(engine=A, classes=tuple("abcdefg"), files=("m.ckpt",), labels=("fast",))
    assert lack.sentence == "Engine a lacks node class a, b, c, d, e and 2 more; file m.ckpt; label fast."
    assert Lack(engine=A, other=True).sentence == "Engine a was not asked for."


def test_no_engine_takes_less_than_the_least_that_is_known_once_each_has_run_such_a_job() -> None:
    speeds, one, two = Speeds(), EngineId("one"), EngineId("two")
    assert speeds.least("s") == 0
    speeds.observe(one, "s", 2_000, warm=True)
    assert speeds.least("s") == 2_000
    speeds.observe(two, "s", 1_000, warm=False)
    assert [speeds.least("s") for _ in range(2)] == [1_000, 1_000]
    speeds.observe(two, "s", 500, warm=True)
    assert speeds.least("s") == 500
    speeds.observe(EngineId("three"), "t", 1, warm=True)  # how long that takes for the others is estimated
    assert (speeds.least("s"), speeds.least("t"), speeds.least(None)) == (0, 0, 0)


def test_others_are_looked_for_when_they_are_asked_for_and_once() -> None:
    found = []

    def find() -> list[EngineNow]:
        found.append(1)
        return [EngineNow(equipment=Equipment(engine=EngineId("one")))]

    others = Others(find)
    assert not found
    assert list(others) == list(others)
    assert len(found) == 1


def test_a_job_is_not_left_to_an_engine_that_has_refused_it() -> None:
    speeds, first = Speeds(), replace(job("m"), key="k")
    speeds.observe(A, str(first.shape), 8_000, warm=True)
    speeds.observe(B, str(first.shape), 1_000, warm=True)
    others = [engine(B)]
    assert choose([first, first], engine(A), others, speeds, more=False) is None
    refused = replace(first, refused_by=(B,))
    assert choose([first, refused], engine(A), others, speeds, more=False) == 1
