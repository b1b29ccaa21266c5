"""What can be set of a workflow, found on official templates and on small graphs."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from comfy_mcp.domain import parameters
from comfy_mcp.domain.errors import InvalidGraph
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.judging import Judged, judge
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.parameter_kinds import ParameterKind, declared_type
from comfy_mcp.domain.parameter_values import with_inputs
from comfy_mcp.domain.parameters import Parameter, parameters_of
from tests.editor.recorded import load, node_list, template

EXPORTED = sorted(load("exports_1.58.1.json.gz"))


def found_in(raw: Any, info: ObjectInfo | None = None) -> tuple[Judged, dict[str, Parameter]]:
    judged = judge(raw, info or node_list())
    found = parameters_of(judged.graph, info or node_list(), file=raw, controls=judged.controls)
    return judged, {each.name: each for each in found}


NAMES = {
    "image_z_image_turbo": "prompt width height batch_size seed steps cfg denoise sampler scheduler "
    "diffusion_model text_encoder vae filename_prefix",
    "api_sonilo_v2m": "video prompt seed filename_prefix filename_prefix_2 volume_1 volume",
    "image_qwen_image_edit_2509": "prompt negative_prompt image seed steps cfg cfg_2 denoise sampler "
    "scheduler diffusion_model lora lora_strength text_encoder vae filename_prefix enable_lightning_lora "
    "stpes",
    "audio_ace_step_1_t2a_instrumentals": "tags lyrics seconds batch_size seed steps cfg denoise sampler "
    "scheduler checkpoint filename_prefix",
    "template_character_portrait_relighting": "image prompt prompt_2 prompt_3 prompt_4 prompt_5 seed seed_2 "
    "seed_3 seed_4 seed_5 filename_prefix filename_prefix_2 filename_prefix_3 filename_prefix_4 "
    "filename_prefix_5",
}


@pytest.mark.parametrize(("name", "expected"), NAMES.items())
def test_templates_have_the_names_that_a_caller_would_try(name: str, expected: str) -> None:
    assert " ".join(found_in(template(name))[1]) == expected


def test_the_prompts_are_told_apart_by_what_they_are_linked_to() -> None:
    _, found = found_in(template("image_qwen_image_edit_2509"))
    assert str(found["prompt"].value).startswith("Replace the cat")
    assert found["negative_prompt"].value == ""


@pytest.mark.parametrize("name", EXPORTED[::6])
def test_each_parameter_of_a_template_sets_its_inputs_and_nothing_else(name: str) -> None:
    judged, found = found_in(template(name))
    before = copy.deepcopy(dict(judged.graph.raw))
    for each in found.values():
        value = each.value if each.kind is not ParameterKind.TEXT else "set"
        value = value + 1 if isinstance(value, int | float) and not isinstance(value, bool) else value
        after, _ = with_inputs(judged.graph, tuple(found.values()), {each.name: value}, info=node_list())
        changed = {
            (node, given)
            for node in after
            for given in after[node]["inputs"]
            if after[node]["inputs"][given] != before[node]["inputs"].get(given)
        }
        assert changed <= {*each.targets}
        assert all(after[node]["inputs"][given] == value for node, given in each.targets)
    assert dict(judged.graph.raw) == before


def test_what_the_author_s_app_shows_comes_first() -> None:
    _, found = found_in(template("templates-subject_holding_product.app"))
    first = [each.targets[0] for each in found.values()][:3]
    assert first == [("10", "image"), ("11", "image"), ("17", "resolution")]
    _, found = found_in(template("api_sonilo_v2m"))
    assert [each.targets[0] for each in found.values()][:2] == [("705", "file"), ("703", "prompt")]


TINY: Mapping[str, Any] = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 42, "steps": 4, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal",
            "denoise": 1.0,
            "model": ["4", 0], "positive": ["10", 0], "negative": ["10", 1], "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.ckpt"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 64, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["20", 0], "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "fox", "images": ["8", 0]}},
    "10": {
        "class_type": "ControlNetApplyAdvanced",
        "inputs": {
            "positive": ["6", 0], "negative": ["7", 0], "control_net": ["11", 0], "image": ["12", 0],
            "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0,
        },
    },
    "11": {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "c.safetensors"}},
    "12": {"class_type": "LoadImage", "inputs": {"image": "none.png"}, "_meta": {"title": "The pose"}},
    "20": {"class_type": "PrimitiveString", "inputs": {"value": "a fox"}},
}  # fmt: skip


@pytest.mark.parametrize("known", [True, False], ids=["with a node list", "without one"])
def test_prompts_are_found_through_what_changes_both_and_through_constants(known: bool) -> None:
    info = node_list() if known else None
    found = {each.name: each for each in parameters_of(parse_graph(TINY), info)}
    assert found["prompt"].targets == (("20", "value"),)
    assert found["negative_prompt"].targets == (("7", "text"),)
    assert found["seed"].value == 42
    assert found["checkpoint"].kind is ParameterKind.MODEL
    assert found["controlnet"].value == "c.safetensors"
    assert (found["width"].value, found["height"].value) == (128, 64)
    if known:
        assert found["image"].needs_value
        assert found["image"].label == "The pose"
        assert (found["steps"].minimum, found["steps"].maximum) == (1, 10000)


def test_one_prompt_sets_all_parts_of_an_encoder() -> None:
    graph = dict(TINY) | {
        "6": {
            "class_type": "CLIPTextEncodeFlux",
            "inputs": {"clip": ["4", 1], "clip_l": "a", "t5xxl": "a", "guidance": 3.5},
        }
    }
    _, found = found_in(graph)
    assert found["prompt"].targets == (("6", "clip_l"), ("6", "t5xxl"))
    assert found["guidance"].value == 3.5


def test_a_size_that_a_text_is_told_is_no_size_of_the_picture() -> None:
    graph = dict(TINY) | {
        "7": {
            "class_type": "CLIPTextEncodeSDXL",
            "inputs": {
                "clip": ["4", 1], "width": 1024, "height": 1024, "crop_w": 0, "crop_h": 0,
                "target_width": 1024, "target_height": 1024, "text_g": "x", "text_l": "x",
            },
        }
    }  # fmt: skip
    _, found = found_in(graph)
    assert "width_2" not in found
    assert found["negative_prompt"].targets == (("7", "text_g"), ("7", "text_l"))


@pytest.mark.parametrize(
    ("title", "name"),
    [("Float (Duration)", "duration"), ("My Number!", "my_number"), ("int", "int"), ("Text: Motto", "motto")],
)
def test_constants_with_a_title_have_its_name(title: str, name: str) -> None:
    graph = dict(TINY) | {
        "30": {"class_type": "PrimitiveFloat", "inputs": {"value": 5.0}, "_meta": {"title": title}},
        "31": {"class_type": "PreviewAny", "inputs": {"source": ["30", 0]}},
    }
    assert found_in(graph)[1][name].targets == (("30", "value"),)


def test_a_loop_of_links_ends() -> None:
    graph = dict(TINY) | {
        "6": {"class_type": "ConditioningCombine", "inputs": {"conditioning_1": ["7", 0]}},
        "7": {"class_type": "ConditioningCombine", "inputs": {"conditioning_1": ["6", 0]}},
        "20": {"class_type": "StringConcatenate", "inputs": {"string_a": ["20", 0], "string_b": "x"}},
    }  # fmt: skip
    assert "seed" in {each.name for each in parameters_of(parse_graph(graph), node_list())}


def test_a_text_from_a_node_that_is_not_there_is_no_prompt() -> None:
    graph = {name: node for name, node in TINY.items() if name != "20"}
    assert "prompt" not in {each.name for each in parameters_of(parse_graph(graph), node_list())}


def test_a_file_that_is_no_workflow_has_no_app() -> None:
    graph = parse_graph(TINY)
    shown = [1, ["9"], ["9", 2], ["404", "x"]]
    cases: tuple[Any, ...] = (None, [], {"linearData": 1}, {"linearData": {"inputs": shown}})
    for extra in cases:
        file = {"nodes": [], "links": [], "extra": extra}
        assert parameters_of(graph, node_list(), file=file) == parameters_of(graph, node_list())


@pytest.mark.parametrize("name", EXPORTED[::4])
def test_an_input_has_one_name(name: str) -> None:
    try:
        judged, found = found_in(template(name))
    except InvalidGraph:
        return  # a template of another version
    targets = [target for each in found.values() for target in each.targets]
    assert len({*targets}) == len(targets)
    assert all(node in judged.graph.nodes for node, _ in targets)


def test_a_wide_node_is_not_read_anew_for_each_of_its_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 inputs times 2,000 outputs were four million steps on the event loop."""
    many = range(2_000)
    raw = {
        "wide": {"class_type": "X", "inputs": {f"input_{number}": number for number in many}},
        "all": {"class_type": "Y", "inputs": {f"conditioning_{number}": ["wide", number] for number in many}},
        "1": {"class_type": "KSampler", "inputs": {"positive": ["all", 0], "seed": 1}},
    }
    asked = 0
    real = declared_type

    def counted(spec: Any) -> Any:
        nonlocal asked
        asked += 1
        return real(spec)

    monkeypatch.setattr(parameters, "declared_type", counted)
    parameters_of(parse_graph(raw), node_list())
    assert 0 < asked < 5 * parameters.MAX_STEPS
