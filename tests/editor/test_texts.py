"""Texts that are drawn or filled in when a workflow is sent, against the editor at a fixed date and draw."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.api_format import api_format
from comfy_mcp.domain.ui_texts import Moment, Pick, read_prompt
from tests.editor.recorded import VERSION, differences, load, node_list
from tests.editor.texts import AT, asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed(Moment):
    last: bool = False

    def pick(self) -> Pick:
        return lambda count: count - 1 if self.last else 0


MOMENT = Moment(**AT, seed=1)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", sorted(load(f"texts_{VERSION}.json.gz")))
def test_a_text_is_sent_as_the_editor_sends_it(name: str, last: bool) -> None:
    recorded = load(f"texts_{VERSION}.json.gz")[name][last]
    graph, _ = api_format(asked(node_list())[name], node_list(), None, lambda: Fixed(**AT, seed=0, last=last))
    assert isinstance(graph, dict)
    found = [str(each) for each in differences(graph, recorded, node_list())]
    assert [each for each in found if "viewport_state" not in each] == [], "but for what the browser draws"


def test_each_node_has_a_draw_of_its_own_and_a_moment_always_the_same() -> None:
    file = {
        "nodes": [{"id": at, "type": "CLIPTextEncode", "widgets_values": ["{a|b|c}"]} for at in range(40)]
    }
    graph, warnings = api_format(file, node_list(), None, lambda: MOMENT)
    assert isinstance(graph, dict)
    assert {node["inputs"]["text"] for node in graph.values()} == {"a", "b", "c"}
    assert len(warnings) == 40
    assert "one of '{a|b|c}' is drawn for each submit" in warnings[0]
    assert api_format(file, node_list(), None, lambda: MOMENT) == (graph, warnings)


@given(st.text(alphabet="{|}\\/ab*\n", max_size=60), st.integers(0, 2**64))
def test_any_text_is_drawn_to_a_part_of_it(text: str, seed: int) -> None:
    prompt = read_prompt(text)
    pick = Moment(**AT, seed=seed).pick()
    drawn = prompt.drawn(pick)
    assert len(drawn) <= len(text)
    assert prompt.first is not None or drawn == prompt.drawn(None)
    letters = iter(text)
    assert all(letter in letters for letter in drawn), "in the order of the text"
