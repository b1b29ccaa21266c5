"""Property: all work on a workflow takes steps in proportion to its bytes, whatever it holds.

A step is a line of the domain's code that runs. Lines that take long by themselves show in the time of the
processor. Each family of workflows is what somebody sent, or could send, to make a process stand still;
`size` says how much of it.
"""

import gzip
import importlib
import inspect
import json
import pkgutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from comfy_mcp import domain
from comfy_mcp.domain import file_inputs, parameter_values
from comfy_mcp.domain.api_format import api_format
from comfy_mcp.domain.batches import require_other, seeds_of, with_new_seeds, with_seeds
from comfy_mcp.domain.client_files import foreign_files
from comfy_mcp.domain.errors import InvalidGraph, InvalidInput
from comfy_mcp.domain.extra_data import submitted_file
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.domain.job_names import prompt_words, purpose
from comfy_mcp.domain.judging import Judged, in_ui_format, judge
from comfy_mcp.domain.node_times import keys_of, times_of
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.parameters import parameters_of
from comfy_mcp.domain.partner_nodes import partner_nodes
from comfy_mcp.domain.progress import Progress
from comfy_mcp.domain.ui_format import off_count
from comfy_mcp.domain.ui_scopes import Budget, OverBudget

PER_BYTE = 40
"""Steps per byte of the workflow."""

AT_ONCE = 2_000_000
"""Steps that any workflow may take beyond, for subgraphs that are opened and names that are compared."""

DOMAIN = str(Path(domain.__path__[0]))

with gzip.open("tests/data/editor/object_info_0.33.0.json.gz") as stream:
    INFO = ObjectInfo.parse(json.load(stream))

Workflow = dict[str, Any]


def steps_of(work: Callable[[], object]) -> int:
    taken = 0

    def line(_frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal taken
        taken += event == "line"
        return line

    def call(frame: FrameType, _event: str, _arg: object) -> Any:
        return line if frame.f_code.co_filename.startswith(DOMAIN) else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        work()
    finally:
        sys.settrace(before)
    return taken


def judged(raw: Workflow, info: ObjectInfo | None = INFO) -> Judged | None:
    try:
        return judge(raw, info)
    except InvalidGraph:
        return None


def computed(raw: Workflow, info: ObjectInfo | None = INFO) -> None:
    """All that is computed of a workflow on its way to an engine, with every value of it set anew."""
    submitted_file(raw)
    in_ui_format(raw)
    found = judged(raw, info)
    if found is None:
        return
    assert found.report.error() is not None or found.report.warnings is not None
    graph, sent, nodes = found.graph, found.graph.raw, found.graph.nodes
    parameters = parameters_of(graph, info, file=raw, controls=found.controls)
    values = {each.name: each.value for each in parameters}
    values |= {
        f"{node.id}.{name}": "x" for node in list(nodes.values())[:90] for name in list(node.inputs)[:1]
    }
    with suppress(InvalidInput):
        parameter_values.with_inputs(graph, parameters, values, info=info, controls=found.controls)
    files = list(file_inputs.file_inputs(graph, info))
    file_inputs.graph_with_outputs_named(sent)
    file_inputs.with_inputs(sent, {(each.node, each.name): "x" for each in files})
    file_inputs.with_texts(sent, dict.fromkeys(file_inputs.placed(sent), "x"))
    seeds = seeds_of(graph, parameters)
    varied = with_seeds(with_new_seeds(sent, seeds, 1), seeds, 1)
    with suppress(InvalidInput):
        require_other(varied, sent, seeds)
    prompt_words(graph)
    purpose(graph)
    list(foreign_files({node.id: node.inputs for node in nodes.values()}, ClientId("me")))
    off_count(raw)
    partner_nodes(graph, frozenset(nodes), info)
    keys_of(times_of(graph))
    Progress(graph, nodes.keys(), {}, started_at=0)


def node(class_type: str, **inputs: object) -> Workflow:
    return {"class_type": class_type, "inputs": inputs}


def ui(*nodes: Workflow, links: object = (), subgraphs: object = ()) -> Workflow:
    return {"nodes": list(nodes), "links": list(links), "definitions": {"subgraphs": list(subgraphs)}}  # type: ignore[call-overload]


def nested(levels: int, *leaves: Workflow, uses: int = 2) -> Workflow:
    """Each subgraph holds `uses` of the next; the last holds `leaves`."""
    inner = [{"id": f"s{levels}", "nodes": list(leaves)}]
    outer = [
        {"id": f"s{at}", "nodes": [{"id": use, "type": f"s{at + 1}"} for use in range(uses)]}
        for at in range(levels)
    ]
    return ui({"id": 1, "type": "s0"}, subgraphs=[*outer, *inner])


def seen(size: int, **inputs: object) -> Workflow:
    """`size` nodes of a class with many inputs, each behind an output node."""
    nodes = {f"k{at}": node("KSampler", **inputs) for at in range(size)}
    return nodes | {f"s{at}": node("SaveLatent", samples=[f"k{at}", 0]) for at in range(size)}


FAMILIES: dict[str, Callable[[int], Workflow]] = {
    "links to missing nodes": lambda size: {
        str(at): node("PreviewImage", images=[f"x{at}", 0]) for at in range(size)
    },
    "nodes that link back to the first": lambda size: (
        {"0": node("ImageInvert", image=[str(size), 0])}
        | {str(at): node("ImageBatch", image1=[str(at - 1), 0], image2=["0", 0]) for at in range(1, size + 1)}
        | {"end": node("PreviewImage", images=[str(size), 0])}
    ),
    "loops in loops": lambda size: (
        {
            str(at): node("ImageBatch", image1=[str(at - 1), 0], image2=[str((at + 1) % size), 0])
            for at in range(size)
        }
        | {"end": node("PreviewImage", images=["0", 0])}
    ),
    "one wrong option behind many outputs": lambda size: (
        {"0": node("KSampler", sampler_name="x" * 10 * size)}
        | {f"s{at}": node("SaveLatent", samples=["0", 0]) for at in range(size)}
    ),
    "unknown inputs on one node": lambda size: {
        "1": node("EmptyImage", **{f"x{at}": 1 for at in range(5 * size)}),
        "2": node("PreviewImage", images=["1", 0]),
    },
    "unknown inputs on many nodes": lambda size: seen(size, **{f"x{at}": 1 for at in range(100)}),
    "wrong values everywhere": lambda size: seen(
        size, seed=-1, steps="x", cfg="y", sampler_name="x", scheduler="z", positive=["1", 9], model="m"
    ),
    "a chain": lambda size: (
        {"0": node("EmptyImage", width=64, height=64, batch_size=1, color=0)}
        | {str(at): node("ImageInvert", image=[str(at - 1), 0]) for at in range(1, size + 1)}
        | {"end": node("PreviewImage", images=[str(size), 0])}
    ),
    "no nodes at all": lambda size: {str(at): 1 for at in range(size)},
    "unknown classes": lambda size: {str(at): node(f"Nope{at}") for at in range(size)},
    "models that are missing": lambda size: (
        {f"m{at}": node("CheckpointLoaderSimple", ckpt_name=f"m{at}.safetensors") for at in range(size)}
        | {f"p{at}": node("PreviewAny", source=[f"m{at}", 0]) for at in range(size)}
    ),
    "lists as values": lambda size: {
        "1": node("KSampler", sampler_name={"__value__": [1] * size}),
        "2": node("PreviewAny", source=["1", 0]),
    },
    "subgraphs in subgraphs, empty at the bottom": lambda size: nested(
        min(95, size // 10), {"id": 1, "type": "Note"}
    ),
    "subgraphs in subgraphs": lambda size: nested(
        min(95, size // 10), {"id": 1, "type": "KSampler", "widgets_values": ["x" * size]}
    ),
    "many subgraphs, each deep": lambda size: ui(
        *({"id": at, "type": "s0"} for at in range(size)),
        subgraphs=nested(90, {"id": 1, "type": "KSampler"}, uses=1)["definitions"]["subgraphs"],
    ),
    "a long text that many nodes show": lambda size: nested(
        8, {"id": 1, "type": "CLIPTextEncode", "widgets_values": ["x" * 10 * size]}
    ),
    "long ids around many nodes": lambda size: ui(
        {"id": "i" * size, "type": "s"},
        subgraphs=[{"id": "s", "nodes": [{"id": at, "type": "KSampler"} for at in range(size)]}],
    ),
    "one control for many": lambda size: ui(
        {"id": 1, "type": "s"},
        subgraphs=[
            {
                "id": "s",
                "nodes": [
                    {"id": 1, "type": "?", "inputs": [{"name": f"x{at}", "link": at} for at in range(size)]}
                ],
                "links": [
                    {"id": at, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": at}
                    for at in range(size)
                ],
                "inputs": [{"name": "a"}],
            }
        ],
    ),
    "reroutes behind reroutes": lambda size: ui(
        *({"id": at, "type": "Reroute", "inputs": [{"link": at}]} for at in range(size)),
        *(
            {"id": f"p{at}", "type": "PreviewImage", "inputs": [{"name": "images", "link": 50}]}
            for at in range(size)
        ),
        links=[[at, at - 1, 0, at, 0, "*"] for at in range(size)],
    ),
    "a wide bypassed node": lambda size: ui(
        {"id": 0, "type": "?", "mode": 4, "inputs": [{"name": f"x{at}", "type": "A"} for at in range(size)]},
        *(
            {"id": f"p{at}", "type": "PreviewImage", "inputs": [{"name": "images", "link": at}]}
            for at in range(size)
        ),
        links=[[at, 0, at, f"p{at}", 0, "*"] for at in range(size)],
    ),
    "more values than the class has": lambda size: ui(
        {"id": 1, "type": "SaveImage", "widgets_values": ["x"] * 10 * size}
    ),
    "more names than the class has": lambda size: ui(
        {
            "id": 1,
            "type": "CustomCombo",
            "widgets_values": ["x"] * size,
            "widgets_values_named": {f"x{at}": 1 for at in range(size)},
        }
    ),
    "values of subgraphs by name": lambda size: ui(
        {"id": 1, "type": "s", "widgets_values_named": {f"x{at}": 1 for at in range(size)}},
        subgraphs=[{"id": "s", "nodes": [], "inputs": [{"name": f"x{at}"} for at in range(size)]}],
    ),
    "dots behind a percent sign": lambda size: ui(
        {"id": 1, "type": "SaveImage", "widgets_values": ["%" + "." * 10 * size]}
    ),
    "kept files on one node": lambda size: {
        "1": node("EmptyImage", **{f"x{at}": f"bridge-files/output-{'a' * 36}" for at in range(5 * size)}),
        "2": node("PreviewImage", images=["1", 0]),
    },
    "files of others": lambda size: {
        "1": node("LoadImage", image="bridge-clients/" * size),
        "2": node("PreviewImage", images=["1", 0]),
    },
    "pictures": lambda size: (
        {str(at): node("LoadImage", image=f"a{at}.png") for at in range(size)}
        | {f"p{at}": node("PreviewImage", images=[str(at), 0]) for at in range(size)}
    ),
    "group nodes that stay closed": lambda size: {
        "nodes": [{"id": at, "type": "workflow>G"} for at in range(size)],
        "links": [[at, at, 0, at, 0, "*"] for at in range(size)],
        "extra": {"groupNodes": {"G": {"nodes": [{"type": "X"}] * size + [{"type": "PrimitiveNode"}]}}},
    },
    "pairs of an unknown pack": lambda size: ui(
        *(
            {"id": f"s{at}", "type": "XSet", "widgets_values": [f"{at}"], "inputs": [{"link": 0}]}
            for at in range(size)
        ),
        *({"id": f"g{at}", "type": "XGet", "widgets_values": [f"{at}"]} for at in range(size)),
        *({"id": at, "type": "PreviewAny", "inputs": [{"name": "source", "link": at}]} for at in range(size)),
        links=[[at, f"g{at}", 0, at, 0, "*"] for at in range(size)],
    ),
    "links in a ring": lambda size: ui(
        {"id": 0, "type": "Reroute", "inputs": [{"link": 0}]},
        *(
            {"id": at, "type": "PreviewAny", "inputs": [{"name": "source", "link": at}]}
            for at in range(1, size)
        ),
        links=[[at, 0, 0, at, 0, "*"] for at in range(size)],
    ),
    "seeds": lambda size: seen(size, seed=1, noise_seed=2),
    "prompts": lambda size: (
        {str(at): node("CLIPTextEncode", text="a fox " * 9, clip=["c", 1]) for at in range(size)}
        | {f"k{at}": node("KSampler", positive=[str(at), 0], negative=[str(at), 0]) for at in range(size)}
        | {"p": node("PreviewAny", source=["k0", 0])}
    ),
    "samplers behind the same prompts": lambda size: (
        {
            f"c{at}": node(
                "ConditioningCombine", conditioning_1=[f"c{at - 1}", 0], conditioning_2=[f"c{at - 2}", 0]
            )
            for at in range(size)
        }
        | {f"k{at}": node("KSampler", positive=[f"c{size - 1}", at]) for at in range(size)}
        | {"p": node("PreviewAny", source=["k0", 0])}
    ),
    "samplers behind a wide node": lambda size: (
        {"w": node("X", **{f"x{at}": "A" * 9 for at in range(10 * size)})}
        | {f"k{at}": node("KSampler", model=["w", 0]) for at in range(size)}
        | {"p": node("PreviewAny", source=["k0", 0])}
    ),
    "nodes in a wrapper": lambda size: {
        "prompt": {str(at): node("X", x=[f"{at + 1}", 0]) for at in range(size)}
    },
    "braces and comments": lambda size: ui(
        {"id": 1, "type": "CLIPTextEncode", "widgets_values": ["{" * size + "/*" * size + "|\\}" * size]}
    ),
}


@pytest.mark.parametrize("size", [100, 1_000])
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_the_work_on_a_workflow_is_in_proportion_to_its_bytes(
    family: Callable[[int], Workflow], size: int
) -> None:
    raw = family(size)
    for info in (INFO, None):
        assert steps_of(lambda info=info: computed(raw, info)) <= PER_BYTE * len(json.dumps(raw)) + AT_ONCE  # type: ignore[misc]


CPU_S_PER_BYTE, CPU_S = 1e-5, 0.5
"""Several times of what the slowest family takes on a busy machine. What is quadratic takes ten times as much
and more."""


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_no_line_takes_long_by_itself(family: Callable[[int], Workflow]) -> None:
    size = 1_000
    while len(json.dumps(raw := family(size))) < 600_000 and size < 50_000:
        size *= 4
    before = time.process_time()
    computed(raw)
    assert time.process_time() - before <= CPU_S_PER_BYTE * len(json.dumps(raw)) + CPU_S


WALKED = {"graph", "raw", "workflow"}


def test_every_walk_over_a_workflow_is_measured() -> None:
    """Whoever adds a public function of the domain that gets a workflow adds it to `computed`."""
    walks: dict[CodeType, str] = {}
    for module in pkgutil.iter_modules(domain.__path__):
        members = vars(importlib.import_module(f"{domain.__name__}.{module.name}")).items()
        for name, member in members:
            is_own = inspect.isfunction(member) and member.__module__.endswith(f".{module.name}")
            if is_own and not name.startswith("_") and WALKED & inspect.signature(member).parameters.keys():
                walks[member.__code__] = f"{module.name}.{name}"
    entered: set[CodeType] = set()
    sys.setprofile(lambda frame, event, _arg: entered.add(frame.f_code) if event == "call" else None)
    try:
        for family in FAMILIES.values():
            computed(family(10))
    finally:
        sys.setprofile(None)
    assert len(walks) > 20
    assert [name for code, name in walks.items() if code not in entered] == []


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_share_of_the_budget_bounds_what_comes_out_of_subgraphs(family: Callable[[int], Workflow]) -> None:
    """For small files, which the event loop waits for: beyond it the work is left to another process."""
    raw = family(100)

    def work() -> None:
        with suppress(InvalidGraph, OverBudget):
            api_format(raw, INFO, Budget(share=0.05))

    assert steps_of(work) <= PER_BYTE * len(json.dumps(raw)) + AT_ONCE // 30
