"""A workflow is good if one engine finds it good; else the error says what each lacks."""

from typing import Any
from uuid import UUID

import pytest

from comfy_mcp.domain.errors import InvalidGraph, InvalidInput
from comfy_mcp.domain.ids import ClientId, EngineId
from comfy_mcp.domain.judging import Judged, judge
from comfy_mcp.domain.needs import NO_WISH, Equipment, Wish
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.operations.judging import engine_named, judged_by_engines, with_names
from comfy_mcp.operations.shapes import SubmitParams

A, B = EngineId("a"), EngineId("b")
GRAPH = {
    "1": {"class_type": "Load", "inputs": {"name": "m.ckpt"}},
    "2": {"class_type": "Save", "inputs": {"images": ["1", 0]}},
}


def nodes(*files: str, **more: Any) -> ObjectInfo:
    return ObjectInfo.parse(
        {
            "Load": {"input": {"required": {"name": [list(files)]}}, "output": ["IMAGE"]},
            "Save": {"input": {"required": {"images": ["IMAGE"]}}, "output": [], "output_node": True},
            **more,
        }
    )


class Engines:
    """Engines by their node lists, None for one that does not answer; `fresh` are those of a later look."""

    def __init__(
        self,
        known: dict[EngineId, ObjectInfo | None],
        fresh: dict[EngineId, ObjectInfo] | None = None,
        labels: dict[EngineId, frozenset[str]] | None = None,
    ) -> None:
        self.known = known
        self.fresh = fresh
        self.labels = labels or {}
        self.old: dict[EngineId, str] = {}
        self.asleep: set[EngineId] = set()

    def old_list(self, engine: EngineId) -> str | None:
        return self.old.get(engine)

    def equipment(self) -> dict[EngineId, Equipment]:
        return {
            name: Equipment(engine=name, nodes=info, labels=self.labels.get(name, frozenset()))
            for name, info in self.known.items()
        }

    async def node_lists(self, *, max_age_s: float | None = None) -> dict[EngineId, ObjectInfo]:
        if max_age_s is not None and self.fresh is not None:
            return self.fresh
        return {name: info for name, info in self.known.items() if info is not None}


class Services:
    """What judging uses of the services."""

    def __init__(self, engines: Engines) -> None:
        self.engines = engines
        self.checker = self
        self.asked: list[ObjectInfo | None] = []

    async def judge(self, raw: object, text: bytes, info: ObjectInfo | None, *, client: ClientId) -> Judged:
        self.asked.append(info)
        return judge(raw, info)


async def nothing_is_there(_info: ObjectInfo | None, _judged: Judged) -> tuple[()]:
    return ()


async def judged(engines: Engines, *, graph: object = GRAPH, wish: Wish = NO_WISH) -> tuple[Any, Judged, int]:
    services = Services(engines)
    info, result = await judged_by_engines(
        services,  # type: ignore[arg-type]
        graph,
        b"",
        wish,
        client=ClientId("me"),
        present=nothing_is_there,
    )
    return info, result, len(services.asked)


async def test_the_first_engine_that_misses_nothing_judges() -> None:
    has, lacks = nodes("m.ckpt"), nodes("other.ckpt")
    info, result, asked = await judged(Engines({A: has, B: lacks}))
    assert (info, asked, result.needs.files) == (has, 1, ("m.ckpt",))
    info, result, asked = await judged(Engines({A: lacks, B: has}))
    assert (info, asked, result.needs.files) == (has, 2, ("m.ckpt",))


async def test_without_an_engine_that_answers_the_graph_is_taken_as_it_is() -> None:
    info, result, asked = await judged(Engines({A: None, B: None}))
    assert (info, asked, result.needs.files, result.report.runnable) == (None, 1, (), True)


async def test_in_ui_format_it_waits_for_an_engine_s_first_list() -> None:
    """Without any it would be refused; a graph in API format is taken as it is."""
    late = nodes("m.ckpt")
    file = {"nodes": [{"id": 1, "type": "Load", "widgets_values": ["m.ckpt"]}, {"id": 2, "type": "Save"}]}
    with pytest.raises(InvalidGraph, match="no engine answers that knows the names of its values"):
        await judged(Engines({A: None}, fresh={}), graph=file)
    with pytest.raises(InvalidGraph) as refused:
        await judged(Engines({A: None}, fresh={A: late}), graph=file)
    assert "no engine answers" not in refused.value.message, "it was read with the list"
    info, _, _ = await judged(Engines({A: None}, fresh={A: late}))
    assert info is None


async def test_of_engines_that_all_miss_something_the_one_that_runs_most_judges() -> None:
    two = {
        **GRAPH,
        "3": {"class_type": "Load", "inputs": {"name": "n.ckpt"}},
        "4": {"class_type": "Save", "inputs": {"images": ["3", 0]}},
    }
    engines = Engines({A: ObjectInfo.parse({"Save": {}}), B: nodes("m.ckpt")})
    _, result, _ = await judged(engines, graph=two)
    assert result.report.runnable
    assert result.needs.files == ("m.ckpt",)


async def test_a_list_that_may_be_old_is_asked_for_again() -> None:
    fresh = {A: nodes("m.ckpt")}
    info, result, _ = await judged(Engines({A: nodes()}, fresh))
    assert (info, result.report.runnable) == (fresh[A], True)
    old = nodes()
    info, result, _ = await judged(Engines({A: old, B: None}, {A: old, B: fresh[A]}))  # the first of B
    assert (info, result.report.runnable) == (fresh[A], True)
    with pytest.raises(InvalidGraph, match="Engine b does not answer"):
        await judged(Engines({A: old, B: old}, {A: old}))


async def test_a_list_that_nobody_confirms_says_how_old_it_is() -> None:
    engines = Engines({A: nodes()})
    engines.old[A] = "old"
    with pytest.raises(InvalidGraph) as error:
        await judged(engines)
    assert error.value.warnings == ("old",)
    engines.known = {A: nodes("m.ckpt")}
    _, result, _ = await judged(engines)
    assert result.warnings == (), "nothing is doubted"


async def test_the_error_of_the_closest_engine_comes_with_what_the_others_lack() -> None:
    engines = Engines({A: ObjectInfo.parse({}), B: nodes(), EngineId("c"): None, EngineId("d"): nodes()})
    with pytest.raises(InvalidGraph) as error:
        await judged(engines)
    message = str(error.value)
    assert message.startswith("No engine can run the workflow. Engine b:")
    assert "Engine a lacks node class Load, Save. Engine c does not answer." in message
    assert "Engine d would refuse it too." in message
    assert error.value.details["engines"] == {"a": ["Load", "Save"], "b": [], "c": [], "d": []}
    with pytest.raises(InvalidGraph, match=r"^(?!No engine)"):
        await judged(Engines({A: nodes()}))


ASK = "Engines that have it: b. Ask for one of them, or for none. "


@pytest.mark.parametrize(
    ("graph", "has", "way"),
    [
        (GRAPH, nodes("m.ckpt"), ASK),
        (GRAPH, nodes(), ""),
        ({**GRAPH, "2": {"class_type": "Send", "inputs": {"images": ["1", 0]}}}, nodes(Send={}), ""),
        ({"2": {"class_type": "Send", "inputs": {}}}, nodes(Send={}), ASK),
    ],
)
async def test_what_the_asked_engine_lacks_another_may_have(graph: object, has: ObjectInfo, way: str) -> None:
    with pytest.raises(InvalidGraph) as error:
        await judged(Engines({A: nodes(), B: has}), graph=graph, wish=Wish(engine=A))
    assert error.value.next_step.startswith(f"{way}Install" if "Send" in str(graph) else f"{way}Put")


async def test_an_engine_whose_list_is_not_known_may_have_what_the_others_lack() -> None:
    engines = Engines({A: nodes(), B: None, EngineId("c"): None})
    engines.asleep = {B}
    with pytest.raises(InvalidGraph) as error:
        await judged(engines)
    assert "Engine b sleeps. Engine c does not answer." in error.value.message
    assert error.value.next_step.startswith(
        "Engines that sleep or do not answer may have it: b, c. If one has, ask for that one. Put"
    )
    _, result, _ = await judged(engines, wish=Wish(engine=B))
    assert result.report.runnable
    with pytest.raises(InvalidGraph) as error:  # nobody has that
        await judged(engines, graph={"1": {"class_type": str(UUID(int=1)), "inputs": {}}})
    assert "sleep" not in error.value.next_step


async def test_what_can_not_be_converted_with_any_node_list_is_refused() -> None:
    with pytest.raises(InvalidGraph):
        await judged(Engines({A: nodes(), B: nodes()}), graph=[])


@pytest.mark.parametrize(
    ("given", "meant"),
    [("GPU-1", "GPU-1"), ("gpu-1 ", "GPU-1"), ("twin", "twin"), ("TWIN", "TWIN"), ("c", "c")],
)
def test_an_engine_is_found_in_any_case_of_its_name(given: str, meant: str) -> None:
    assert engine_named(dict.fromkeys(map(EngineId, ("GPU-1", "twin", "Twin"))), given) == meant


def test_a_wish_is_read_in_any_case() -> None:
    engines = Engines({A: None, B: None}, labels={B: frozenset({"H100"})})
    params = SubmitParams(workflow=GRAPH, engine="B", not_on=["A", "z"], labels=["h100", "l4"])
    read = with_names(engines.equipment, params)
    assert (read.engine, read.not_on, read.labels) == ("b", ["a", "z"], ["H100", "l4"])
    params = SubmitParams(workflow=GRAPH)
    assert with_names(engines.equipment, params) is params


async def test_a_wish_names_engines_that_there_are() -> None:
    engines = Engines({A: nodes(), B: nodes("m.ckpt")}, labels={B: frozenset({"fast"})})
    for wish in (Wish(engine=B), Wish(labels=("fast",)), Wish(not_on=(A,))):
        _, result, asked = await judged(engines, wish=wish)
        assert (asked, result.needs.wish) == (1, wish)
    with pytest.raises(InvalidInput, match="There is no engine 'c'"):
        await judged(engines, wish=Wish(engine=EngineId("c")))
    with pytest.raises(InvalidInput) as error:
        await judged(engines, wish=Wish(labels=("slow",)))
    assert error.value.message == "No engine fits labels: slow."
    assert error.value.next_step == "Engines: a, b. Labels: fast."
    with pytest.raises(InvalidInput, match=r"No engine fits engine: b; labels: fast; notOn: a, b\."):
        await judged(engines, wish=Wish(engine=B, labels=("fast",), not_on=(A, B)))
    _, result, _ = await judged(engines, wish=Wish(not_on=(A, EngineId("c"), EngineId("d"))))
    assert result.warnings == ("notOn: there is no engine 'c', 'd'. The engines are 'a', 'b'.",)
    _, result, _ = await judged(Engines({}), wish=Wish(not_on=(A,)))
    assert result.warnings == ()  # whichever comes may be it
    with pytest.raises(InvalidInput) as error:
        await judged(Engines({A: nodes()}), wish=Wish(not_on=(A,)))
    assert error.value.next_step == "Engines: a. Labels: none."
