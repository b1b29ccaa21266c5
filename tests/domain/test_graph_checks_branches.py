"""Which branches of a graph run, what is a doubt only, and graphs without an engine."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.graph import MAX_PROBLEMS, parse_graph
from comfy_mcp.domain.graph_checks import MAX_WARNED, check_graph
from comfy_mcp.domain.missing import ModelLink
from comfy_mcp.domain.object_info import ObjectInfo
from tests.domain.judged_graphs import EXCERPT, INFO, TXT2IMG, changed, custom, report, the_problem

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
    first, second = found.warnings
    assert first.startswith("Output node 9 will not run: Node 8 (ImageScaleBy)")
    assert [first.removeprefix("Output node 9 will not run: "), second] == [
        problem.message for problem in found.problems
    ]


@pytest.mark.parametrize("broken", ["7", "6"])
def test_behind_a_link_that_leads_nowhere_everything_is_checked(broken: str) -> None:
    """Else an agent mends the link, and hears of the next fault only then."""
    name = {"7": "images", "6": "samples"}[broken]
    raw = changed("5", "steps", "many")
    raw[broken] = {**raw[broken], "inputs": {**raw[broken]["inputs"], name: ["99", 0]}}
    found = report(raw)
    assert not found.runnable
    assert {(each.node_id, each.kind) for each in found.problems} == {
        (broken, "bad_linked_input"),
        ("5", "invalid_input_type"),
    }
    assert found.problem_count == 2


def test_a_model_behind_such_a_link_is_named_once_beside_a_missing_class() -> None:
    raw = changed("1", "ckpt_name", "absent.safetensors")
    raw["7"] = {**raw["7"], "inputs": {**raw["7"]["inputs"], "images": ["99", 0]}}
    raw["8"] = {"class_type": "Nope", "inputs": {}}
    found = report(raw)
    (model,) = found.missing.models
    assert (model.uses, model.refused) == ((("1", "ckpt_name"),), 1)
    assert found.problem_count == 3


def test_all_faults_beside_a_good_branch_and_all_that_is_missing_are_told() -> None:
    raw: dict[str, Any] = dict(TXT2IMG)
    wrong = {"width": "wide", "height": "high", "batch_size": 0, "color": -1}
    for number in range(9):
        raw[f"i{number}"] = {"class_type": "EmptyImage", "inputs": wrong}
        raw[f"o{number}"] = {"class_type": "PreviewImage", "inputs": {"images": [f"i{number}", 0]}}
    raw["8"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "other.ckpt"}}
    raw["9"] = {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["8", 2]}}
    raw["10"] = {"class_type": "PreviewImage", "inputs": {"images": ["9", 0]}}
    links = {"other.ckpt": ModelLink(folder="mine", url="https://x.test/other.ckpt")}
    found = check_graph(parse_graph(raw), INFO, links)
    assert found.outputs == ("7",)
    assert (len(found.problems), found.problem_count) == (MAX_PROBLEMS, 37)
    text = " ".join(found.warnings)
    assert all(text.count(problem.message) == 1 for problem in found.problems)
    assert "And 17 more faults of nodes that will not run." in found.warnings
    assert "Output node 10 will not run: node 8 needs a model file that is missing." in found.warnings
    assert text.count("other.ckpt") == 2, "the name, and the link"
    assert (
        "This engine does not list 1 model file: other.ckpt (node 8, input ckpt_name; folder mine; "
        "from https://x.test/other.ckpt)."
    ) in found.warnings


def test_of_very_many_doubts_the_first_are_told_and_the_others_counted() -> None:
    raw: dict[str, Any] = {
        str(number): {"class_type": "Custom", "inputs": {"x": "c", "odd": 1}}
        for number in range(MAX_WARNED + 3)
    }
    found = report(raw, custom([["a", "b"]], module="nodes"))
    assert len(found.notes) == MAX_WARNED + 1
    assert found.notes[-1].message == "And 3 more warnings about inputs of this workflow."
    found = report(raw, custom([["a", "b"]]))
    assert len(found.doubts) == MAX_WARNED + 1
    assert found.warnings[-1] == "And 3 more doubts about inputs of this workflow."


@pytest.mark.parametrize(
    "wrong",
    [
        {"3": {"class_type": "Nope", "inputs": {}}},
        {"2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 9]}}},
        {"2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}}},
        {"3": {"class_type": "EmptyImage"}},
    ],
    ids=["class", "value", "no output", "hangs"],
)
def test_a_graph_that_is_refused_says_its_doubts_too(wrong: dict[str, Any]) -> None:
    loader = {"class_type": "LoadImage", "inputs": {"image": "new.png", "odd": 1}}
    save = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    found = report({"1": loader, "2": save, **wrong})
    assert not found.runnable
    assert [text.partition(": ")[0] for text in found.warnings] == [
        "Node 1 (LoadImage), input 'image'",
        "Node 1 (LoadImage), input 'odd'",
    ]


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
    template = {"input": {"required": {"y": ["IMAGE"]}}, "prefix": "y", "min": 0, "max": 3}
    assert report(raw, custom(["COMFY_AUTOGROW_V3", {"template": template}])).doubts == ()


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
