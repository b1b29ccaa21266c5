"""The words of the checks: what a good graph needs, and what is said of a bad one."""

import json
from typing import Any

import pytest

from comfy_mcp.domain.graph import MAX_PROBLEMS, parse_graph
from comfy_mcp.domain.graph_checks import GraphReport, check_graph
from comfy_mcp.domain.object_info import ObjectInfo
from tests.domain.judged_graphs import EXCERPT, TXT2IMG, changed, custom, report, the_problem

# ---------------------------------------------------------------------- good graphs


def test_a_good_graph_has_its_output_and_everything_it_needs() -> None:
    found = report(TXT2IMG)
    assert found == GraphReport(outputs=("7",), needed=frozenset("1234567"))  # type: ignore[arg-type]
    assert found.runnable
    assert found.error() is None
    assert found.warnings == ()
    assert not found.may_be_stale


@pytest.mark.parametrize("value", [None, 5, True, {"a": 1}, {"__value__": ["a.png"]}])
def test_what_is_no_text_names_no_file(value: object) -> None:
    def found(**more: Any) -> GraphReport:
        loader = {"required": {"image": [["a.png"], {"image_upload": True, **more}]}}
        info = ObjectInfo.parse({"LoadImage": {"input": loader, "output": ["IMAGE"], "output_node": True}})
        return check_graph(parse_graph({"1": {"class_type": "LoadImage", "inputs": {"image": value}}}), info)

    error = found().error()
    assert error is not None
    assert "takes the name of a file, as text, not" in error.message
    assert found(multiselect=True).runnable


def test_a_doubt_about_a_value_that_was_asked_about_since_goes() -> None:
    loader = {"required": {"image": [["a.png"], {"image_upload": True}]}}
    info = ObjectInfo.parse({"LoadImage": {"input": loader, "output": ["IMAGE"], "output_node": True}})
    graph = {str(at): {"class_type": "LoadImage", "inputs": {"image": "new.png"}} for at in (1, 2)}
    found = check_graph(parse_graph(graph), info)
    assert len(found.doubts) == 2
    left = found.without_doubts({("1", "image"), ("2", "other")})
    assert [doubt.node_id for doubt in left.doubts] == ["2"]


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
    assert "the list of choices, which is empty" in problem.message
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
    assert found.warnings[MAX_PROBLEMS:] == (
        "And 10 more output nodes will not run.",
        "And 10 more faults of nodes that will not run.",
    )


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


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("INT", True, "True becomes 1"),
        ("INT", 12.7, "12.7 becomes 12"),
        ("FLOAT", False, "False becomes 0.0"),
        ("BOOLEAN", "false", "'false' becomes true"),
        ("BOOLEAN", None, "None becomes false"),
        ("BOOLEAN", {"__value__": [1]}, "[1] becomes true"),
        ("STRING", True, "True becomes a text"),
        ("STRING", {"a": 1}, "{'a': 1} becomes a text"),
        ("STRING", {"__value__": [1, 2]}, "[1, 2] becomes a text"),
        ("STRING", None, "null becomes the text 'None'; an empty text is \"\""),
        ("INT", 12.0, None),
        ("INT", "12", None),
        ("FLOAT", 3, None),
        ("BOOLEAN", 0, None),
        ("BOOLEAN", True, None),
        ("STRING", 7, None),
    ],
)
def test_what_the_engine_makes_of_a_value_of_another_kind_is_told(kind: str, value: Any, told: str) -> None:
    """A value that stands where another one should passes the engine's checks that way."""
    declared = {"input": {"required": {"x": [kind, {}]}}, "output": [], "output_node": True}
    found = report({"1": {"class_type": "X", "inputs": {"x": value}}}, ObjectInfo.parse({"X": declared}))
    assert found.runnable
    assert [each.message for each in found.notes] == ([f"Node 1 (X), input 'x': {told}."] if told else [])
