"""A cursor of the model list that a stranger made up."""

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.library import ModelLibrary
from comfy_mcp.settings import load_settings
from tests.library.test_models import FakeEngine, offered

PLACES = st.tuples(st.text(), st.text()).map(list)
ELSE = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
).filter(lambda value: not (isinstance(value, list) and [type(part) for part in value] == [str, str]))


def library() -> ModelLibrary:
    engine = FakeEngine(folders={"loras": offered("loras", "a.safetensors", "b.safetensors")})
    return ModelLibrary(load_settings(), timeout_s=30, engines={EngineId("e"): engine})


@given(PLACES)
async def test_any_place_gives_what_comes_after_it(place: list[str]) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(place).encode()).decode()
    page = await library().list(type="loras", cursor=cursor)
    names = ["a.safetensors", "b.safetensors"]
    assert [model.name for model in page.items] == [name for name in names if ("loras", name) > tuple(place)]


@given(
    st.text().filter(lambda text: not text.startswith("WyI"))
    | ELSE.map(lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode())
)
@example("")
@example(base64.urlsafe_b64encode(b"[" * 100_000).decode())
async def test_everything_else_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await library().list(type="loras", cursor=cursor)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
