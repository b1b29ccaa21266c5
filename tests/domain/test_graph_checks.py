"""The checks against an engine's own verdicts, and their words.

data/object_info_excerpt.json is an excerpt of a real ComfyUI 0.3.75's /object_info; for each graph of
data/validation_verdicts.jsonl that same ComfyUI said which output nodes it accepts and which errors it finds.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.errors import GraphProblem, InvalidGraph
from comfy_mcp.domain.graph import MAX_PROBLEMS, parse_graph
from comfy_mcp.domain.graph_checks import GraphReport, check_graph
from comfy_mcp.domain.missing import ModelLink
from comfy_mcp.domain.object_info import ObjectInfo

DATA = Path(__file__).parents[1] / "data"
EXCERPT: dict[str, Any] = json.loads((DATA / "object_info_excerpt.json").read_text(encoding="utf-8"))
INFO = ObjectInfo.parse(EXCERPT)
VERDICTS: list[dict[str, Any]] = [
    {"name": f"graph {number}", **json.loads(line)}
    for number, line in enumerate(
        (DATA / "validation_verdicts.jsonl").read_text(encoding="utf-8").splitlines()
    )
]
CHECKS_FILES_ITSELF = {"LoadImage", "LoadLatent"}
VALUE_KINDS = {
    "required_input_missing",
    "value_smaller_than_min",
    "value_bigger_than_max",
    "value_not_in_list",
    "invalid_input_type",
    "return_type_mismatch",
}

TXT2IMG: dict[str, Any] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "tiny-random-sd15.ckpt"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a lighthouse"}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurry"}},
    "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "5": {
        "class_type": "KSampler",
        "inputs": {
            "model": ["1", 0],
            "seed": 1,
            "steps": 4,
            "cfg": 7.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "positive": ["2", 0],
            "negative": ["3", 0],
            "latent_image": ["4", 0],
            "denoise": 1.0,
        },
    },
    "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
    "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "x"}},
}


def report(raw: Mapping[str, Any], info: ObjectInfo | None = INFO) -> GraphReport:
    return check_graph(parse_graph(raw), info)


def changed(node: str, name: str, value: object) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(TXT2IMG))
    copy[node]["inputs"][name] = value
    return copy


def the_problem(raw: Mapping[str, Any], info: ObjectInfo | None = INFO) -> GraphProblem:
    found = report(raw, info)
    assert not found.runnable
    (problem,) = found.problems
    assert found.problem_count == 1
    return problem


# ---------------------------------------------------------------------- agreement with a real engine


def outputs_that_ask_the_engine(raw: Mapping[str, Any], outputs: tuple[str, ...]) -> set[str]:
    graph = parse_graph(raw)
    return {
        output
        for output in graph.nodes
        if output in outputs
        and any(graph.nodes[node].class_type in CHECKS_FILES_ITSELF for node in graph.upstream(output))
    }


def test_the_corpus_holds_accepted_partly_accepted_and_refused_graphs() -> None:
    assert sum(bool(row["accepted"]) for row in VERDICTS) > 50
    assert sum(bool(row["accepted"] and row["node_errors"]) for row in VERDICTS) > 5
    assert sum(not row["accepted"] for row in VERDICTS) > 50
    kinds = {kind for row in VERDICTS for found in row["node_errors"].values() for kind in found}
    assert kinds >= VALUE_KINDS | {"bad_linked_input", "exception_during_inner_validation"}


def stops_the_engine(prompt: Mapping[str, Any]) -> bool:
    """A verdict of 200 says nothing then: the engine's worker dies of the prompt."""
    for node in prompt.values():
        if not isinstance(node.get("inputs"), dict):
            return True
        given = EXCERPT.get(node["class_type"], {}).get("input", {})
        declared = {**given.get("required", {}), **given.get("optional", {})}
        for name, value in node["inputs"].items():
            is_link = isinstance(value, list) and len(value) == 2 and isinstance(value[1], int)
            if is_link and name not in declared and value[0] not in prompt:
                return True
    return False


@pytest.mark.parametrize("where", ["needed", "not needed", "in a dropped branch"])
def test_a_node_without_inputs_is_refused_wherever_it_stands(where: str) -> None:
    extra: dict[str, Any] = {"8": {"class_type": "ImageInvert"}}
    if where == "in a dropped branch":
        extra["9"] = {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "x"}}
    raw = {**TXT2IMG, **extra} if where != "needed" else {**TXT2IMG, "4": {"class_type": "EmptyLatentImage"}}
    (problem,) = report(raw).problems
    assert problem.kind == "invalid_node"
    assert "stop" in problem.message
    assert not report(raw).runnable


def test_a_link_to_nowhere_in_an_input_that_is_not_declared_is_refused() -> None:
    (problem,) = report(changed("6", "zzz", ["55", 0])).problems
    assert (problem.kind, problem.input_name) == ("bad_linked_input", "zzz")
    assert not report(changed("6", "zzz", ["55", 0])).runnable


@pytest.mark.parametrize("row", VERDICTS, ids=lambda row: row["name"])
def test_the_verdict_is_the_engines(row: dict[str, Any]) -> None:
    found = report(row["prompt"]) if row["error"] != "invalid_prompt" else None
    if found is None:
        with pytest.raises(InvalidGraph):
            raise check_graph(parse_graph(row["prompt"]), INFO).error() or AssertionError("accepted")
        return
    if stops_the_engine(row["prompt"]) and not found.runnable:
        return  # whether it is refused is tested below
    mine, theirs = set(found.outputs), set(row["accepted"])
    assert theirs <= mine, "refused what the engine takes"
    assert mine - theirs <= outputs_that_ask_the_engine(row["prompt"], found.outputs)


@pytest.mark.parametrize(
    "row",
    [row for row in VERDICTS if row["node_errors"]],
    ids=lambda row: row["name"],
)
def test_every_value_that_the_engine_refuses_is_found_and_named(row: dict[str, Any]) -> None:
    found = report(row["prompt"])
    named = {(problem.node_id, problem.kind) for problem in found.problems}
    expected = {
        (node, kind if isinstance(row["prompt"][node].get("inputs"), dict) else "invalid_node")
        for node, kinds in row["node_errors"].items()
        for kind in kinds
        if kind in VALUE_KINDS and row["prompt"][node]["class_type"] not in CHECKS_FILES_ITSELF
    }
    assert expected <= named or found.problem_count > MAX_PROBLEMS


# ---------------------------------------------------------------------- good graphs


def test_a_good_graph_has_its_output_and_everything_it_needs() -> None:
    found = report(TXT2IMG)
    assert found == GraphReport(outputs=("7",), needed=frozenset("1234567"))  # type: ignore[arg-type]
    assert found.runnable
    assert found.error() is None
    assert found.warnings == ()
    assert not found.may_be_stale


@pytest.mark.parametrize(
    ("node", "name", "value"),
    [
        ("4", "width", "128"),
        ("4", "width", 64.9),
        ("4", "batch_size", True),
        ("5", "cfg", "7.5"),
        ("5", "cfg", 7),
        ("5", "seed", {"__value__": 3}),
        ("2", "text", 5),
        ("2", "text", None),
        ("2", "text", {"__value__": ["a", "b"]}),
        ("7", "filename_prefix", True),
        ("7", "unknown_to_the_class", [1, 2, 3]),
    ],
)
def test_values_that_the_engine_converts_are_taken(node: str, name: str, value: object) -> None:
    found = report(changed(node, name, value))
    assert (found.outputs, found.problems, found.doubts) == (("7",), (), ())


# ---------------------------------------------------------------------- refusals, and what they say


def test_an_unknown_class_anywhere_refuses_the_whole_graph_with_the_nearest_known() -> None:
    found = report({**TXT2IMG, "8": {"class_type": "KSamler", "inputs": {}}})
    assert (found.outputs, found.needed) == ((), frozenset())
    (problem,) = found.problems
    assert (problem.kind, problem.node_id, problem.class_type) == ("missing_node_type", "8", "KSamler")
    assert problem.suggestions[0] == "KSampler"
    assert "KSampler" in problem.message
    assert found.may_be_stale


def test_an_unknown_class_like_no_other_has_no_hint() -> None:
    problem = the_problem({"1": {"class_type": "Zzzzqq", "inputs": {}}})
    assert problem.suggestions == ()
    assert problem.message == "Node 1: this engine has no class 'Zzzzqq'."


def test_a_model_that_is_not_there_gets_the_nearest_that_are() -> None:
    info = ObjectInfo.parse(
        {
            **EXCERPT,
            "CheckpointLoaderSimple": {
                "input": {"required": {"ckpt_name": [[f"model-{i:02}.safetensors" for i in range(40)]]}},
                "output": ["MODEL", "CLIP", "VAE"],
                "python_module": "nodes",
            },
        }
    )
    problem = the_problem(changed("1", "ckpt_name", "model_07.ckpt"), info)
    assert problem.kind == "value_not_in_list"
    assert problem.input_name == "ckpt_name"
    assert problem.suggestions[0] == "model-07.safetensors"
    assert "model-09" in problem.message
    assert "model-10" not in problem.message
    assert "30 more" in problem.message


def test_an_empty_list_says_that_nothing_is_installed() -> None:
    problem = the_problem(
        {
            "1": {"class_type": "X", "inputs": {"model": "a"}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
        },
        ObjectInfo.parse(
            {
                **EXCERPT,
                "X": {"input": {"required": {"model": [[]]}}, "output": ["IMAGE"], "python_module": "nodes"},
            }
        ),
    )
    assert "none installed" in problem.message
    assert problem.suggestions == ()


@pytest.mark.parametrize(
    ("node", "name", "value", "kind", "said"),
    [
        ("4", "width", 15, "value_smaller_than_min", "minimum 16"),
        ("4", "width", 99999, "value_bigger_than_max", "maximum 16384"),
        ("5", "denoise", -0.1, "value_smaller_than_min", "minimum 0"),
        ("4", "width", "wide", "invalid_input_type", "must be INT"),
        ("4", "width", None, "invalid_input_type", "must be INT"),
        ("5", "cfg", {"a": 1}, "invalid_input_type", "must be FLOAT"),
        ("5", "steps", float("inf"), "invalid_input_type", "must be INT"),
        ("5", "sampler_name", "eulr", "value_not_in_list", "euler"),
        ("7", "images", ["99", 0], "bad_linked_input", "not in the workflow"),
        ("7", "images", ["6", 3], "bad_linked_input", "slots 0 to 0"),
        ("7", "images", ["6"], "bad_linked_input", '["4", 0]'),
        ("7", "images", [6, 0], "bad_linked_input", 'write the link as ["6", 0]'),
        ("7", "images", ["6", "0"], "bad_linked_input", 'write the link as ["6", 0]'),
        ("2", "text", ["a", "b", "c"], "bad_linked_input", '{"__value__": […]}'),
        ("6", "vae", ["1", 0], "return_type_mismatch", "its slot 2 has the right type"),
        ("6", "vae", ["4", 0], "return_type_mismatch", "gives LATENT"),
    ],
)
def test_a_bad_input_is_named_with_what_would_do(
    node: str, name: str, value: object, kind: str, said: str
) -> None:
    raw = json.loads(json.dumps(TXT2IMG))
    raw[node]["inputs"][name] = value
    problem = the_problem(raw)
    assert (problem.kind, problem.node_id, problem.input_name) == (kind, node, name)
    assert problem.class_type == TXT2IMG[node]["class_type"]
    assert said in problem.message


def test_a_node_that_gives_nothing_has_no_slot_to_link_to() -> None:
    problem = the_problem(
        {
            "1": {"class_type": "Sink", "inputs": {}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
        },
        ObjectInfo.parse({**EXCERPT, "Sink": {"input": {}, "output": []}}),
    )
    assert "no outputs" in problem.message


def test_a_slot_counted_from_the_end_is_the_engines_to_take() -> None:
    assert report(changed("6", "vae", ["1", -1])).outputs == ("7",)


def test_a_missing_input_says_what_it_takes_and_which_given_one_may_be_meant() -> None:
    raw = json.loads(json.dumps(TXT2IMG))
    raw["4"]["inputs"]["widht"] = raw["4"]["inputs"].pop("width")
    problem = the_problem(raw)
    assert problem.kind == "required_input_missing"
    assert "INT" in problem.message
    assert "'widht'" in problem.message
    assert problem.suggestions == ("widht",)


def test_a_missing_choice_lists_the_choices() -> None:
    raw = json.loads(json.dumps(TXT2IMG))
    del raw["5"]["inputs"]["scheduler"]
    assert "'karras'" in the_problem(raw).message


def test_a_needed_node_without_inputs_is_refused() -> None:
    raw = json.loads(json.dumps(TXT2IMG))
    del raw["4"]["inputs"]
    problem = the_problem(raw)
    assert (problem.kind, problem.node_id) == ("invalid_node", "4")
    assert "`inputs`" in problem.message


def test_a_graph_without_an_output_node_is_told_which_to_add() -> None:
    problem = the_problem({"1": {"class_type": "EmptyImage", "inputs": {}}})
    assert problem.kind == "prompt_no_outputs"
    assert problem.suggestions == ("SaveImage", "PreviewImage")
    assert "SaveImage or PreviewImage" in problem.message


def test_an_engine_without_the_usual_output_nodes_gets_no_such_hint() -> None:
    problem = the_problem(
        {"1": {"class_type": "EmptyImage", "inputs": {}}},
        ObjectInfo.parse({"EmptyImage": EXCERPT["EmptyImage"]}),
    )
    assert problem.suggestions == ()


def test_a_loop_is_named_node_by_node() -> None:
    problem = the_problem(
        {
            "1": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
            "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
            "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
        }
    )
    assert problem.kind == "dependency_cycle"
    assert "1 (ImageInvert) needs 2 (ImageInvert) needs 1 (ImageInvert)" in problem.message


def test_a_long_loop_is_told_in_short() -> None:
    size = 500
    raw = {
        str(number): {"class_type": "ImageInvert", "inputs": {"image": [str((number + 1) % size), 0]}}
        for number in range(size)
    }
    raw["out"] = {"class_type": "PreviewImage", "inputs": {"images": ["0", 0]}}
    problem = the_problem(raw)
    assert "…" in problem.message
    assert len(problem.message) < 400


def test_a_very_long_value_is_shown_in_short() -> None:
    assert len(the_problem(changed("5", "sampler_name", "x" * 5000)).message) < 600


def test_many_problems_are_cut_and_counted() -> None:
    wrong = {"width": "wide " * 8, "height": 8, "batch_size": 1, "color": 0}
    raw: dict[str, Any] = {str(number): {"class_type": "EmptyImage", "inputs": wrong} for number in range(60)}
    raw |= {
        f"{number}s": {"class_type": "PreviewImage", "inputs": {"images": [str(number), 0]}}
        for number in range(60)
    }
    found = report(raw)
    assert len(found.problems) == MAX_PROBLEMS
    assert found.problem_count == 60
    error = found.error()
    assert error is not None
    told = error.message.count("must be INT")
    assert 3 < told <= MAX_PROBLEMS
    assert f"{60 - told} more" in error.message
    assert len(error.message) < 2000
    assert len(error.problems) == MAX_PROBLEMS


def test_what_is_missing_is_told_once_and_whole() -> None:
    raw: dict[str, Any] = {
        str(number): {
            "class_type": f"Nope{number % 30}",
            "inputs": {},
            "_meta": {"cnr_id": f"pack{number % 30}"},
        }
        for number in range(60)
    }
    raw["x"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "dir\\other.safetensors"}}
    raw["y"] = {"class_type": "SaveLatent", "inputs": {"samples": ["x", 0], "filename_prefix": "x"}}
    links = {"other.safetensors": ModelLink(folder="checkpoints", url="https://x.test/other.safetensors")}
    found = check_graph(parse_graph(raw), INFO, links)
    assert [(each.name, len(each.nodes)) for each in found.missing.classes] == [
        (f"Nope{n}", 2) for n in range(30)
    ]
    error = found.error()
    assert error is not None
    assert "lacks 30 classes" in error.message
    assert all(
        f"Nope{number} (nodes {number}, {number + 30}; pack pack{number})" in error.message
        for number in range(30)
    )
    assert "1 model file: dir\\other.safetensors (for checkpoints)" in error.message
    assert len(error.problems) == MAX_PROBLEMS
    details: Any = error.details
    assert [each["classType"] for each in details["missingClasses"]] == [f"Nope{n}" for n in range(30)]
    assert details["missingModels"] == [
        {
            "name": "dir\\other.safetensors",
            "nodes": ["x"],
            "inputName": "ckpt_name",
            "folder": "checkpoints",
            "url": "https://x.test/other.safetensors",
        }
    ]


def test_missing_things_beyond_counting_are_counted() -> None:
    raw = {
        **{f"a{number}": {"class_type": "Nope", "inputs": {}} for number in range(9)},
        **{f"b{number}": {"class_type": f"Class{number}", "inputs": {}} for number in range(150)},
    }
    error = report(raw).error()
    assert error is not None
    assert "Nope (nodes a0, a1, a2, a3, a4 and 4 more)" in error.message
    assert "lacks 151 classes" in error.message
    assert "and 51 more" in error.message


def test_the_faults_of_all_branches_come_in_one_answer() -> None:
    raw: dict[str, Any] = {
        **TXT2IMG,
        "8": {"class_type": "Nope", "inputs": {}},
        "9": {"class_type": "ImageInvert", "inputs": {"image": ["99", 0]}},
        "10": {"class_type": "PreviewImage", "inputs": {"images": ["9", 0]}},
        "11": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    raw["5"] = {"class_type": "KSampler", "inputs": {**TXT2IMG["5"]["inputs"], "steps": "many", "cfg": 900}}
    found = report(raw)
    assert not found.runnable
    assert {(problem.node_id, problem.kind) for problem in found.problems} == {
        ("8", "missing_node_type"),
        ("5", "invalid_input_type"),
        ("5", "value_bigger_than_max"),
        ("9", "bad_linked_input"),
        ("11", "return_type_mismatch"),
    }


def test_very_many_outputs_that_will_not_run_are_told_in_part() -> None:
    raw = dict(TXT2IMG)
    for number in range(30):
        raw[f"o{number}"] = {"class_type": "PreviewImage", "inputs": {"images": [f"no{number}", 0]}}
    found = report(raw)
    assert found.outputs == ("7",)
    assert len(found.dropped) == 30
    assert len(found.warnings) == MAX_PROBLEMS + 1
    assert found.warnings[-1] == "And 10 more output nodes will not run."


def test_a_custom_node_may_take_any_name_but_not_one_that_looks_like_another() -> None:
    raw = {"2": {"class_type": "Custom", "inputs": {"x": 1, "whatever": 2, "lora_1": {"on": True}}}}
    assert report(raw, custom(["INT", {}])).notes == ()
    info = ObjectInfo.parse(
        {
            "Custom": {
                "input": {"optional": {"strength": ["INT"]}},
                "output_node": True,
                "python_module": "custom.x",
            }
        }
    )
    (note,) = report({"2": {"class_type": "Custom", "inputs": {"strenght": 2}}}, info).notes
    assert (note.kind, note.suggestions) == ("unknown_input", ("strength",))


def test_what_the_editors_own_controls_add_is_no_unknown_input() -> None:
    raw = changed("7", "upload", "image")
    raw["7"]["inputs"]["audioUI"] = ""
    assert report(raw).notes == ()
    info = ObjectInfo.parse(
        {
            **EXCERPT,
            "CustomCombo": {
                "input": {"required": {"choice": ["COMBO", {"options": []}]}},
                "output_node": True,
                "python_module": "nodes",
            },
        }
    )
    inputs = {"choice": "a", "index": 0, "option1": "a"}
    assert report({"1": {"class_type": "CustomCombo", "inputs": inputs}}, info).notes == ()


def test_what_is_dropped_without_a_word_by_the_engine_is_told() -> None:
    raw = changed("4", "widht", 7)
    raw["2"]["inputs"]["text"] = None
    found = report(raw)
    assert [(note.kind, note.node_id, note.input_name) for note in found.notes] == [
        ("null_text", "2", "text"),
        ("unknown_input", "4", "widht"),
    ]
    assert found.outputs == ("7",)
    assert [note.message for note in found.notes] == list(found.warnings)


# ---------------------------------------------------------------------- branches


def two_branches() -> dict[str, Any]:
    return {
        **TXT2IMG,
        "8": {"class_type": "ImageScaleBy", "inputs": {"image": ["6", 0], "upscale_method": "no-such"}},
        "9": {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}},
    }


def test_a_bad_branch_beside_a_good_one_is_dropped_with_the_reason() -> None:
    found = report(two_branches())
    assert found.outputs == ("7",)
    assert found.runnable
    assert "8" not in found.needed
    assert found.problem_count == 2
    assert set(found.dropped) == {"9"}
    (warning,) = found.warnings
    assert warning.startswith("Output node 9 will not run: Node 8 (ImageScaleBy)")


def test_what_no_output_needs_is_not_checked() -> None:
    raw = {
        **TXT2IMG,
        "8": {"class_type": "ImageInvert", "inputs": {"image": ["99", 0]}},
        "9": {"class_type": "ImageInvert", "inputs": {"image": ["9", 0]}},
    }
    found = report(raw)
    assert (found.outputs, found.problems, found.doubts) == (("7",), (), ())
    assert found.warnings == (
        "ComfyUI does not run 8 (ImageInvert), 9 (ImageInvert): no output node needs that.",
    )


def test_an_input_that_the_class_does_not_declare_is_not_followed_for_its_validity() -> None:
    raw = changed("7", "extra", ["8", 0])
    raw["8"] = {"class_type": "EmptyImage", "inputs": {"width": -1}}
    found = report(raw)
    assert found.outputs == ("7",)
    assert "8" in found.needed  # ComfyUI runs it all the same


# ---------------------------------------------------------------------- when the engine may know better


def custom(declaration: object, *, module: str = "custom_nodes.pack") -> ObjectInfo:
    return ObjectInfo.parse(
        {
            **EXCERPT,
            "Custom": {
                "input": {"required": {"x": declaration}},
                "output": ["IMAGE"],
                "output_node": True,
                "python_module": module,
            },
        }
    )


@pytest.mark.parametrize(
    ("declaration", "value", "kind"),
    [
        ([["a", "b"]], "c", "value_not_in_list"),
        (["COMBO", {"options": ["a", "b"]}], "c", "value_not_in_list"),
        (
            ["COMBO", {"options": ["a", "b"], "multiselect": True}],
            {"__value__": ["a", "c"]},
            "value_not_in_list",
        ),
        (["COMBO", {"options": ["a", "b"]}], {"__value__": ["a"]}, "value_not_in_list"),
        (["INT", {"min": 1, "max": 5}], 9, "value_bigger_than_max"),
        (["ODD", {"min": 1, "max": 5}], 0, "value_smaller_than_min"),
        (["IMAGE"], "not a link", "invalid_input_type"),
        (["MASK"], ["1", 0], "return_type_mismatch"),
    ],
)
def test_a_doubt_is_a_warning_and_no_refusal(declaration: object, value: object, kind: str) -> None:
    raw = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png [output]"}},
        "2": {"class_type": "Custom", "inputs": {"x": value}},
    }
    found = report(raw, custom(declaration))
    assert found.outputs == ("2",)
    assert [doubt.kind for doubt in found.doubts] == [kind]
    assert found.doubts[0].message in found.warnings
    assert found.may_be_stale == (kind == "value_not_in_list")


def test_a_missing_input_of_an_unknown_kind_is_a_doubt_and_a_growing_one_nothing_at_all() -> None:
    raw = {"2": {"class_type": "Custom", "inputs": {}}}
    assert [doubt.kind for doubt in report(raw, custom(None)).doubts] == ["required_input_missing"]
    assert report(raw, custom(["COMFY_AUTOGROW_V3", {}])).doubts == ()


@pytest.mark.parametrize(
    ("declaration", "value"),
    [
        (["COMBO", {"options": ["a", "b"], "multiselect": True}], {"__value__": ["a", "b"]}),
        ([["a.png"], {"image_upload": True}], "b.png [input]"),
        (["COMBO", {"remote": {"route": "/x"}}], "anything"),
        (["STRING", {"min": 3}], "x"),
        (["INT", {"min": "a"}], 1),
        (["*"], ["1", 0]),
        (["MASK,IMAGE"], ["1", 0]),
        (["COMFY_MATCHTYPE_V3", {}], ["1", 0]),
        (["COMFY_MULTITYPED_V3", {}], ["1", 0]),
        ([None], ["1", 0]),
        (["WEBCAM", {}], "a literal of a type nobody knows"),
        (None, {"a": 1}),
    ],
)
def test_what_the_engine_takes_raises_not_even_a_doubt(declaration: object, value: object) -> None:
    raw = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png [output]"}},
        "2": {"class_type": "Custom", "inputs": {"x": value}},
    }
    found = report(raw, custom(declaration, module="nodes"))
    assert (found.outputs, found.problems, found.doubts) == (("2",), (), ())


def test_an_upload_that_the_list_does_not_show_yet_is_a_doubt() -> None:
    raw = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "new.png"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    found = report(raw)
    assert found.outputs == ("2",)
    assert [(doubt.kind, doubt.node_id) for doubt in found.doubts] == [("value_not_in_list", "1")]


def test_a_link_from_a_class_with_unknown_outputs_is_not_judged() -> None:
    info = ObjectInfo.parse({**EXCERPT, "Odd": None, "Lists": {"input": {}, "output": [["a"]]}})
    for name, slot in (("Odd", 7), ("Lists", 0)):
        raw = {
            "1": {"class_type": name, "inputs": {}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", slot], "filename_prefix": "x"}},
        }
        assert "2" in report(raw, info).outputs


def test_a_class_of_an_odd_shape_still_may_not_link_to_nowhere() -> None:
    info = ObjectInfo.parse({"Odd": None})
    problem = the_problem({"1": {"class_type": "Odd", "inputs": {"x": ["9", 0]}}}, info)
    assert problem.kind == "bad_linked_input"


# ---------------------------------------------------------------------- without an engine


def test_without_an_engine_the_ends_of_the_graph_count_as_outputs() -> None:
    found = report({**TXT2IMG, "8": {"class_type": "Whatever", "inputs": {"x": ["6", 0]}}}, None)
    assert found.outputs == ("7", "8")
    assert found.needed == frozenset("12345678")


def test_without_an_engine_values_and_classes_are_not_judged() -> None:
    assert report(changed("4", "width", -5), None).runnable


def test_without_an_engine_a_link_to_nowhere_is_found_with_the_nearest_id() -> None:
    problem = the_problem(
        {
            "sampler_1": {"class_type": "A", "inputs": {}},
            "out": {"class_type": "B", "inputs": {"x": ["sampler1", 0], "y": ["sampler_1", 0]}},
        },
        None,
    )
    assert problem.kind == "bad_linked_input"
    assert problem.suggestions == ("sampler_1",)


def test_without_an_engine_a_loop_before_the_end_is_found() -> None:
    raw = {
        "1": {"class_type": "A", "inputs": {"x": ["2", 0]}},
        "2": {"class_type": "A", "inputs": {"x": ["1", 0]}},
        "3": {"class_type": "B", "inputs": {"x": ["2", 0]}},
    }
    assert the_problem(raw, None).kind == "dependency_cycle"


def test_without_an_engine_a_graph_that_is_all_loop_has_no_end() -> None:
    raw = {
        "1": {"class_type": "A", "inputs": {"x": ["2", 0]}},
        "2": {"class_type": "A", "inputs": {"x": ["1", 0]}},
    }
    assert the_problem(raw, None).kind == "dependency_cycle"


def test_two_users_of_one_node_are_no_loop() -> None:
    raw = {
        "1": {"class_type": "A", "inputs": {}},
        "2": {"class_type": "A", "inputs": {"x": ["1", 0]}},
        "3": {"class_type": "A", "inputs": {"x": ["1", 0], "y": ["2", 0]}},
    }
    assert report(raw, None).outputs == ("3",)


def test_a_graph_deeper_than_the_interpreters_stack_is_checked() -> None:
    raw: dict[str, Any] = {"0": {"class_type": "EmptyImage", "inputs": EMPTY_IMAGE}}
    for number in range(1, 4000):
        raw[str(number)] = {"class_type": "ImageInvert", "inputs": {"image": [str(number - 1), 0]}}
    raw["out"] = {"class_type": "PreviewImage", "inputs": {"images": ["3999", 0]}}
    assert len(report(raw).needed) == 4001


EMPTY_IMAGE = {"width": 64, "height": 64, "batch_size": 1, "color": 0}

NODE_IDS = st.sampled_from(["1", "2", "3", "4", "5"])
VALUES = st.one_of(
    st.tuples(NODE_IDS, st.integers(-2, 3)).map(list),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.none(),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.just("__value__"), st.integers(), max_size=1),
)
NODES = st.fixed_dictionaries(
    {
        "class_type": st.sampled_from([*EXCERPT, "Odd"]),
        "inputs": st.dictionaries(
            st.sampled_from(["image", "images", "samples", "vae", "width", "upscale_method", "model"]),
            VALUES,
            max_size=4,
        ),
    }
)


@given(st.dictionaries(NODE_IDS, NODES, min_size=1), st.booleans())
def test_any_graph_gets_a_report_that_agrees_with_itself(raw: dict[str, Any], asked: bool) -> None:
    found = report(raw, INFO if asked else None)
    assert found.runnable == bool(found.outputs) == (found.error() is None)
    assert found.runnable or found.problems
    assert set(found.outputs) <= found.needed <= set(raw)
    assert not set(found.outputs) & set(found.dropped)
    assert len(found.problems) == min(found.problem_count, MAX_PROBLEMS)
