"""Advice names operations so that every surface can say it in its own words."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfy_mcp.cli.output import in_commands
from comfy_mcp.operations.next_steps import OperationMention, reworded
from comfy_mcp.operations.registry import OPERATIONS
from comfy_mcp.operations.shapes import SubmitResult, in_words
from http_sidecar.door.next_steps import in_urls

ROOT = Path(__file__).resolve().parents[2]
NAMES = [operation.name for operation in OPERATIONS if operation.tool]


def mentions(advice: str) -> list[OperationMention]:
    found: list[OperationMention] = []

    def note(mention: OperationMention) -> str:
        found.append(mention)
        return "…"

    reworded(advice, note)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_tool_is_found_with_the_word_before_it_and_its_arguments(name: str) -> None:
    assert mentions(f'First this, then call {name}(workflow_id="a-1", output_id="b").') == [
        OperationMention(verb="call", operation=name, arguments={"workflow_id": "a-1", "output_id": "b"})
    ]
    assert mentions(f"{name}, of course") == [OperationMention(verb="", operation=name, arguments={})]


def test_a_resource_is_the_operation_behind_it() -> None:
    assert mentions("Read comfy://workflows or comfy://gpu.") == [
        OperationMention(verb="Read", operation="list_workflows", arguments={}),
        OperationMention(verb="", operation="gpu_status", arguments={}),
    ]


@pytest.mark.parametrize(
    "advice", ["", "Correct the workflow.", "Call the police.", "my_list_models_2", "comfy://workflows/a-1"]
)
def test_what_mentions_nothing_stays_as_it_is(advice: str) -> None:
    assert reworded(advice, lambda _mention: "!") == advice


def advice_in_the_code() -> Iterator[str]:
    """Every text that the code gives as a next step, with `…` where it puts something in."""
    for file in sorted((ROOT / "comfy_mcp").rglob("*.py")):
        if "server" in file.parts:
            continue  # it speaks to MCP clients only
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.JoinedStr(values=parts):
                    yield "".join(
                        str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts
                    )
                case ast.keyword(arg="next_step", value=ast.Constant(value=str() as text)):
                    yield text
                case _:
                    pass


def test_over_http_and_in_a_shell_no_advice_names_a_tool_or_a_resource() -> None:
    advised = [text for text in advice_in_the_code() if mentions(text)]
    assert len(advised) > 10
    for text in advised:
        for surface in (in_urls, in_commands):
            said = surface(text)
            assert not mentions(said), said


def test_a_dump_says_every_next_step_in_the_words_it_is_given() -> None:
    queued = SubmitResult(
        workflow_id="a-1",
        status="queued",
        queue_position=1,
        next_step='Call wait_for_workflow(workflow_id="a-1").',
    )
    assert queued.model_dump()["nextStep"] == 'Call wait_for_workflow(workflow_id="a-1").'
    dumped = queued.model_dump(mode="json", context=in_words(in_urls))
    assert dumped["nextStep"] == "GET /v1/comfyui/workflow/a-1/wait."
    assert "wait_for_workflow" in queued.text(), "an agent reads the tool's name"
