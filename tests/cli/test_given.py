"""What `run` and `submit` make of their argument and of -i."""

import os
from pathlib import Path

import pytest

from comfy_mcp.cli.given import given
from comfy_mcp.domain.errors import InvalidInput


def options(*inputs: str, **more: object) -> dict[str, object]:
    return {"inputs": inputs, "matrix": (), **more}


def test_a_file_is_sent_and_names_the_job(tmp_path: Path) -> None:
    file = tmp_path / "fox"
    file.write_text("{}")
    with given(str(file), options("seed=7", name=None)) as (asked, content):
        assert asked == {"name": "fox", "inputs": {"seed": 7}, "matrix": None}
        assert content is not None
    with given(str(file), options(name="Mine")) as (asked, _):
        assert asked == {"name": "Mine", "inputs": None, "matrix": None}


def test_a_file_name_that_is_no_text_names_the_job_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"w\xf6rk.json")
    file.write_text("{}")
    with given(str(file), options()) as (asked, _):
        assert asked["name"] == "w\ufffdrk"


def test_stdin_has_no_name() -> None:
    with given("-", options()) as (asked, content):
        assert asked["name"] is None
        assert content is not None


@pytest.mark.parametrize("name", ["text-to-image", "job:5b0c6a52", "folder/poster", "n" * 5_000])
def test_what_is_no_file_is_a_name(name: str) -> None:
    with given(name, options("prompt=a fox", 'tags=["a"]', "6.text=x=y")) as (asked, content):
        assert asked["workflow"] == name
        assert asked["inputs"] == {"prompt": "a fox", "tags": ["a"], "6.text": "x=y"}
        assert content is None


def test_a_missing_file_is_an_error_about_the_file() -> None:
    with pytest.raises(InvalidInput, match=r"none\.json"), given("none.json", options()):
        pass


@pytest.mark.parametrize("text", ["prompt", "=x", " =x"])
def test_an_input_needs_a_name_and_a_value(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not NAME=VALUE"), given("x", options(text)):
        pass


def test_a_matrix_has_values_apart_by_commas_or_as_a_list() -> None:
    matrix = ("cfg=4, 7.5", "sampler=euler,ddim", 'prompt=["a fox, red"]', "seed=5")
    with given("x", options(matrix=matrix)) as (asked, _):
        assert asked["matrix"] == {
            "cfg": [4, 7.5],
            "sampler": ["euler", "ddim"],
            "prompt": ["a fox, red"],
            "seed": [5],
        }
    with (
        pytest.raises(InvalidInput, match="is not NAME=VALUE,VALUE"),
        given("x", options(matrix=("cfg",))),
    ):
        pass


def test_the_events_of_a_webhook_need_its_url() -> None:
    with given("x", options(webhook="https://a.example/", webhook_events=())) as (asked, _):
        assert asked["webhook"] == "https://a.example/"
    chosen = options(webhook="https://a.example/", webhook_events=("workflow.queued",))
    with given("x", chosen) as (asked, _):
        assert asked["webhook"] == {"url": "https://a.example/", "events": ["workflow.queued"]}
        assert "webhook_events" not in asked
    with (
        pytest.raises(InvalidInput, match="needs a URL"),
        given("x", options(webhook=None, webhook_events=("workflow.queued",))),
    ):
        pass
