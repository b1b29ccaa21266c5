"""Prompts: each says in words what to call, and asks for what it needs."""

import re
from pathlib import Path

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import Prompt, TextContent

from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.server.prompts import MAX_CHARS, PROMPTS, get_prompt
from tests.support.mcp_surface import MODES, open_surface

GIVEN = {
    "make-a-picture": {"picture": "a red fox", "workflow": "my poster"},
    "improve-this-picture": {"change": "more light", "output_id": "0c5b6f0e"},
    "why-does-it-hang": {"workflow_id": "7f4a4c1f"},
}


def text_of(name: str, arguments: dict[str, str]) -> str:
    (message,) = get_prompt(name, arguments).messages
    assert isinstance(message.content, TextContent)
    return message.content.text


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_lists_and_gets_them(tmp_path: Path, mode: str) -> None:
    async with open_surface(tmp_path) as surface, surface.client(mode) as client:
        listed = (await client.list_prompts()).prompts
        assert [each.name for each in listed] == list(GIVEN)
        for prompt in listed:
            got = await client.get_prompt(prompt.name, GIVEN[prompt.name])
            text = text_of(prompt.name, GIVEN[prompt.name])
            assert [each.content for each in got.messages] == [TextContent(text=text)]
        await _refused(client, "make-a-cake", {}, "Unknown prompt: make-a-cake. Prompts: make-a-picture")
        await _refused(client, "make-a-picture", {"picture": "  "}, "needs 'picture'")


async def _refused(client: Client, name: str, arguments: dict[str, str], said: str) -> None:
    with pytest.raises(MCPError, match=said):
        await client.get_prompt(name, arguments)


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda each: each.name)
def test_what_was_given_stands_in_the_text_and_what_was_not_is_asked_of_a_tool(prompt: Prompt) -> None:
    name = prompt.name
    whole = GIVEN[name]
    needed = {each.name for each in prompt.arguments or () if each.required}
    full, short = text_of(name, whole), text_of(name, {key: whole[key] for key in needed})
    assert [value for value in whole.values() if value not in full] == []
    for text in (full, short):
        called = set(re.findall(r"\b([a-z]+_[a-z_]+)(?=\(| with| until|\.|,|:)", text))
        assert called & BY_NAME.keys()
        assert {each for each in called if each not in BY_NAME} <= {"output_id", "workflow_id"}
    assert len(short) < 1_000


def test_a_long_argument_is_cut() -> None:
    assert len(text_of("make-a-picture", {"picture": "x" * 100_000})) < MAX_CHARS + 1_000
