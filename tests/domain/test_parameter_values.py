"""Setting inputs of a workflow by the names that callers use."""

import copy
from typing import Any

import pytest

from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.domain.parameter_values import MAX_SET, with_inputs
from comfy_mcp.domain.parameters import parameters_of
from tests.domain.test_parameters import TINY
from tests.editor.recorded import node_list

GRAPH = parse_graph(copy.deepcopy(dict(TINY)))
CONTROLS = {(NodeId("50"), "words"): ((NodeId("20"), "value"),)}


def after(**values: Any) -> dict[str, Any]:
    return setting(values)[0]


def setting(values: dict[str, Any], *, known: bool = True) -> tuple[dict[str, Any], tuple[str, ...]]:
    info = node_list() if known else None
    parameters = parameters_of(GRAPH, info)
    return with_inputs(GRAPH, parameters, values, info=info, controls=CONTROLS)


@pytest.mark.parametrize(
    "name",
    ["prompt", "Prompt", "positive", "positive prompt", "POSITIVE_PROMPT", "value", "20.value", "50.words"],
)
def test_a_name_in_any_spelling_means_the_same_input(name: str) -> None:
    assert after(**{name: "a cat"})["20"]["inputs"] == {"value": "a cat"}


@pytest.mark.parametrize(
    ("name", "value", "node", "given", "sent"),
    [
        ("seed", "7", "3", "seed", 7),
        ("seed", 7.0, "3", "seed", 7),
        ("steps", "7.0", "3", "steps", 7),
        ("steps", "many", "3", "steps", "many"),
        ("cfg", "7.5", "3", "cfg", 7.5),
        ("cfg", "nan", "3", "cfg", "nan"),
        ("cfg", "-inf", "3", "cfg", "-inf"),
        ("cfg_scale", 3, "3", "cfg", 3),
        ("sampler_name", "EULER_ANCESTRAL", "3", "sampler_name", "euler_ancestral"),
        ("sampler", "Euler Ancestral", "3", "sampler_name", "euler_ancestral"),
        ("sampler", "dpmpp-2m", "3", "sampler_name", "dpmpp_2m"),
        ("sampler", "DPM++ 2M", "3", "sampler_name", "dpmpp_2m"),
        ("sampler", "nothing", "3", "sampler_name", "nothing"),
        ("sampler", "?", "3", "sampler_name", "?"),
        ("seed", ["6", 0], "3", "seed", ["6", 0]),
        ("prompt", [["6"], 0], "20", "value", {"__value__": [["6"], 0]}),
        ("model", "b.ckpt", "4", "ckpt_name", "b.ckpt"),
        ("prompt", 7, "20", "value", "7"),
        ("prompt", True, "20", "value", True),
        ("batch", 2, "5", "batch_size", 2),
        ("5.width", "7", "5", "width", 7),
        ("6.text", "direct", "6", "text", "direct"),
        ("6.text", ["7", 0], "6", "text", ["7", 0]),
        ("prompt", ["404", 0], "20", "value", {"__value__": ["404", 0]}),
        ("prompt", ["a", "b", "c"], "20", "value", {"__value__": ["a", "b", "c"]}),
        ("10.strength", 0.5, "10", "strength", 0.5),
    ],
)
def test_a_value_is_taken_as_its_input_has_it(
    name: str, value: Any, node: str, given: str, sent: Any
) -> None:
    assert after(**{name: value})[node]["inputs"][given] == sent


@pytest.mark.parametrize("values", [[1, 2, 3], [[6], 0], []])
def test_a_list_where_one_value_belongs_is_sent_to_the_matrix(values: list[Any]) -> None:
    with pytest.raises(InvalidInput, match="seed takes one value, not the list") as caught:
        after(seed=values)
    assert 'matrix={"seed": [' in caught.value.next_step


def test_only_a_choice_that_was_taken_otherwise_is_told() -> None:
    assert setting({"seed": "7", "prompt": 8})[1] == ("prompt 8 was read as '8'.",)
    assert setting({"sampler": "Euler"})[1] == ("sampler 'Euler' was read as 'euler'.",)


@pytest.mark.parametrize("size", ["96x32", "96 X 32", "96\u00d732"])
def test_a_size_is_a_width_and_a_height(size: str) -> None:
    inputs = after(size=size)["5"]["inputs"]
    assert (inputs["width"], inputs["height"]) == (96, 32)


@pytest.mark.parametrize("size", ["big", "1x2x3", 512, None])
def test_a_size_that_is_none_is_said_to_be_one(size: object) -> None:
    with pytest.raises(InvalidInput, match=r"size is .* a width and a height") as caught:
        after(size=size)
    assert "768x512" in caught.value.next_step


def test_the_graph_itself_does_not_change() -> None:
    changed = after(prompt="a cat", seed=1)
    assert dict(GRAPH.raw) == dict(TINY)
    assert changed["3"]["inputs"]["model"] == ["4", 0]
    assert changed["8"] is GRAPH.raw["8"]


@pytest.mark.parametrize(
    ("name", "message", "next_step"),
    [
        ("promt", "has no input 'promt'. Nearest: prompt.", "It has: prompt,"),
        ("size", "size is 1; it is a width and a height.", "768x512"),
        ("zzz", "has no input 'zzz'.", '"NODE.INPUT"'),
        ("404.text", "has no input '404.text'.", "It has: prompt,"),
        ("3.stepz", "Node 3 (KSampler) has no input 'stepz'.", "Use one of: steps."),
        ("3.q", "Node 3 (KSampler) has no input 'q'.", "Use one of: model, seed,"),
    ],
)
def test_a_name_that_does_not_exist_is_an_error_with_the_nearest(
    name: str, message: str, next_step: str
) -> None:
    with pytest.raises(InvalidInput) as raised:
        after(**{name: 1})
    assert message in raised.value.message
    assert next_step in raised.value.next_step


def test_a_name_that_means_two_inputs_means_none() -> None:
    graph = parse_graph(
        dict(TINY)
        | {
            "40": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "a"}},
        }
    )
    parameters = parameters_of(graph, node_list())
    assert [each.name for each in parameters][-2:] == ["filename_prefix", "filename_prefix_2"]
    changed, _ = with_inputs(graph, parameters, {"filename prefix": "x"})
    assert changed["9"]["inputs"]["filename_prefix"] == "x", "the first of them has that name"
    with pytest.raises(InvalidInput):
        with_inputs(graph, [each for each in parameters if "prefix" in each.name], {"images": 1})


def test_without_a_node_list_any_input_of_a_node_is_taken() -> None:
    changed, _ = setting({"3.anything": 1}, known=False)
    assert changed["3"]["inputs"]["anything"] == 1


def test_a_workflow_without_parameters_says_so() -> None:
    with pytest.raises(InvalidInput) as raised:
        with_inputs(GRAPH, (), {"prompt": "a"})
    assert raised.value.next_step.startswith("It has no named inputs.")


def test_a_long_list_of_names_is_cut() -> None:
    nodes = {
        str(at): {
            "class_type": "PrimitiveInt",
            "inputs": {"value": at},
            "_meta": {"title": f"Number {at} of it"},
        }
        for at in range(40)
    }
    graph = parse_graph(nodes)
    with pytest.raises(InvalidInput, match="has no input") as raised:
        with_inputs(graph, parameters_of(graph, node_list()), {"zzz": 1})
    assert "and 10 more" in raised.value.next_step


def test_a_submit_sets_a_bounded_number_of_inputs() -> None:
    with pytest.raises(InvalidInput, match="the maximum is 200"):
        setting({f"input {at}": at for at in range(MAX_SET + 1)})
