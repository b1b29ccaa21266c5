"""What an engine lacks for a graph: named once in a refusal, with where it comes from and what to do."""

from typing import Any

import pytest

from comfy_mcp.domain.graph import MAX_PROBLEMS, parse_graph
from comfy_mcp.domain.graph_checks import check_graph
from comfy_mcp.domain.missing import ModelLink
from comfy_mcp.domain.object_info import ObjectInfo
from tests.domain.judged_graphs import INFO, TXT2IMG, changed, report


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
    assert error.message.count("other.safetensors") == 2, "the name once, and the link"
    assert (
        "; and does not list 1 model file: dir\\other.safetensors "
        "(node x, input ckpt_name; folder checkpoints; from https://x.test/other.safetensors); and 1 more."
    ) in error.message, "the other one is the wrong type that node y gets"
    assert "Install the packs" in error.next_step
    assert "Put each model file into its folder" in error.next_step
    assert error.next_step.endswith(" Then correct the rest.")
    assert len(error.problems) == MAX_PROBLEMS
    details: Any = error.details
    assert [each["classType"] for each in details["missingClasses"]] == [f"Nope{n}" for n in range(30)]
    assert details["missingModels"] == [
        {
            "name": "dir\\other.safetensors",
            "nodes": ["x"],
            "inputName": "ckpt_name",
            "inputs": ["x ckpt_name"],
            "folder": "checkpoints",
            "url": "https://x.test/other.safetensors",
            "nearest": [],
        }
    ]


def test_where_only_a_model_is_missing_its_folder_and_a_next_step_are_named() -> None:
    error = report(changed("1", "ckpt_name", "tiny-random-sd14.ckpt")).error()
    assert error is not None
    assert error.message == (
        "The workflow can't run: this engine does not list 1 model file: tiny-random-sd14.ckpt "
        "(node 1, input ckpt_name; folder checkpoints; nearest: tiny-random-sd15.ckpt)."
    )
    assert error.next_step == (
        "Put each model file into its folder on the engine, or choose a model that list_models names."
    )
    (problem,) = error.problems
    assert problem.kind == "value_not_in_list"


def test_other_faults_stand_beside_a_missing_model() -> None:
    raw = changed("1", "ckpt_name", "other.ckpt")
    raw["5"]["inputs"] |= {"cfg": 900, "sampler_name": "other"}
    error = report(raw).error()
    assert error is not None
    assert error.message.count("other.ckpt") == 1
    assert "900.0 is larger than the maximum" in error.message
    assert "'other' is not one of" in error.message
    assert "; and" not in error.message
    assert error.next_step.endswith(" Then correct the rest.")
    assert len(error.problems) == 3


def test_while_a_class_is_missing_the_models_of_nodes_that_nothing_needs_are_named_too() -> None:
    loader = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "other.ckpt"}}
    assert not report({**TXT2IMG, "8": loader}).missing
    error = report({**TXT2IMG, "8": loader, "9": {"class_type": "Nope", "inputs": {}}}).error()
    assert error is not None
    assert error.message.endswith("does not list 1 model file: other.ckpt (node 8, input ckpt_name).")
    assert "rest" not in error.next_step


def test_a_value_that_may_be_good_all_the_same_is_no_problem_more() -> None:
    loader = {"required": {"name": [["here.ckpt"]], "other": [["here.ckpt"]], "size": ["INT"]}}
    classes = {"Custom": {"input": loader, "output_node": True, "python_module": "custom_nodes.pack"}}
    inputs = {"name": "gone.ckpt", "other": "gone.ckpt", "size": "wide"}
    found = check_graph(
        parse_graph({"1": {"class_type": "Custom", "inputs": inputs}}), ObjectInfo.parse(classes)
    )
    (model,) = found.missing.models
    assert (model.nodes, model.folder) == (("1",), None)
    error = found.error()
    assert error is not None
    assert "gone.ckpt (node 1, input name); Node 1 (Custom), input 'size': must be INT" in error.message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://x.test/other.ckpt", True),
        ("http://x.test/other.ckpt", True),
        ("ftp://x.test/other.ckpt", False),
        ("https://x.test/other ckpt", False),
        ("https://x.test/other\nckpt", False),
        (f"https://x.test/{'x' * 300}", False),
        (None, False),
    ],
)
def test_a_link_stands_in_the_text_if_it_is_one(url: str | None, shown: bool) -> None:
    links = {"other.ckpt": ModelLink(folder="mine", url=url)}
    error = check_graph(parse_graph(changed("1", "ckpt_name", "other.ckpt")), INFO, links).error()
    assert error is not None
    assert "; folder mine" in error.message
    assert (f"; from {url})" in error.message) is shown
    assert ("from" in error.message) is shown
    details: Any = error.details
    assert details["missingModels"][0]["url"] == url


def test_of_many_models_the_first_have_links() -> None:
    names = [f"{number}.ckpt" for number in range(120)]
    links = {name: ModelLink(folder="x" * 999, url=f"https://x.test/{'x' * 280}") for name in names}
    raw: dict[str, Any] = {}
    for name in names:
        raw[name] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}}
        raw[f"save {name}"] = {
            "class_type": "SaveLatent",
            "inputs": {"samples": [name, 0], "filename_prefix": "x"},
        }
    error = check_graph(parse_graph(raw), INFO, links).error()
    assert error is not None
    assert "does not list 120 model files" in error.message
    assert "and 20 more" in error.message
    assert error.message.count("https://") == 20
    assert len(error.message) < 50_000


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


SUBGRAPH = "9fe6c1d2-7b1a-4c8e-9d55-0a1b2c3d4e5f"


def test_a_subgraph_without_a_definition_is_no_missing_class() -> None:
    node = {"class_type": SUBGRAPH, "inputs": {}, "_meta": {"title": "Upscale"}}
    raw: dict[str, Any] = {**TXT2IMG, "8": node, "9": node}
    found = report(raw)
    assert found.missing.classes == ()
    error = found.error()
    assert error is not None
    assert error.message == (
        "The workflow can't run: the workflow has nodes, but no definition, of 1 subgraph: "
        "Upscale (nodes 8, 9)."
    )
    assert "where it still works" in error.next_step
    assert "Install" not in error.next_step
    details: Any = error.details
    assert details["missingClasses"] == []
    assert details["missingSubgraphs"] == [
        {"id": SUBGRAPH, "title": "Upscale", "count": 2, "nodes": ["8", "9"]}
    ]
    (problem,) = error.problems
    assert (problem.kind, problem.node_id) == ("missing_subgraph", "8")
    assert not found.may_be_stale


def test_all_that_is_missing_stands_in_one_sentence() -> None:
    raw = {
        **changed("1", "ckpt_name", "other.ckpt"),
        "8": {"class_type": SUBGRAPH, "inputs": {}},
        "9": {"class_type": "Nope", "inputs": {}},
    }
    error = report(raw).error()
    assert error is not None
    assert error.message == (
        "The workflow can't run: this engine lacks 1 class: Nope (node 9); and does not list 1 model file: "
        "other.ckpt (node 1, input ckpt_name; folder checkpoints); and the workflow has nodes, but no "
        f"definition, of 1 subgraph: {SUBGRAPH} (node 8)."
    )
    assert all(each in error.next_step for each in ("Install the packs", "The file lost", "Put each model"))


def test_a_model_that_is_there_all_the_same_is_not_missing() -> None:
    loader = {"required": {"name": [["here.ckpt"]], "other": [["here.ckpt"]]}}
    classes = {"Custom": {"input": loader, "output_node": True, "python_module": "custom_nodes.pack"}}
    inputs = {"name": "gone.ckpt", "other": "gone.ckpt"}
    found = check_graph(
        parse_graph({"1": {"class_type": "Custom", "inputs": inputs}}), ObjectInfo.parse(classes)
    )
    assert found.without_doubts({("1", "name")}).warnings == (
        "This engine does not list 1 model file: gone.ckpt (node 1, input name).",
    )
    assert found.without_doubts({("1", "name"), ("1", "other")}).warnings == ()
