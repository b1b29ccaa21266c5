"""What is kept of a submit beside its graph, and what of it goes to the engine."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.extra_data import ExtraData, Submitted, submitted_file
from comfy_mcp.domain.ids import ClientId

API: dict[str, Any] = {"1": {"class_type": "SaveImage", "inputs": {}}}
UI: dict[str, Any] = {"nodes": [{"id": 1, "type": "SaveImage"}], "links": []}
ANNA = ClientId("anna")


def sent(raw: object) -> dict[str, Any]:
    return dict(Submitted(file=submitted_file(raw)[0]).extra_data(ANNA).values)


@pytest.mark.parametrize(
    "raw",
    [API, {"prompt": API}, {"prompt": API, "client_id": "x"}, {"prompt": API, "extra_data": {}}, "{", None],
)
def test_of_a_graph_by_itself_nothing_is_kept_and_nothing_is_invented(raw: object) -> None:
    assert submitted_file(raw) == (None, ())
    assert sent(raw) == {}


@pytest.mark.parametrize(
    "raw", [UI, {"prompt": UI}, {"input": {"workflow": UI}}, {"prompt": UI, "extra_data": {}}]
)
def test_a_file_in_ui_format_is_kept_as_it_is_and_is_what_the_editor_restores(raw: dict[str, Any]) -> None:
    file, warnings = submitted_file(raw)
    assert (file, warnings) == (UI, ())
    assert sent(raw) == {"extra_pnginfo": {"workflow": UI}}


def test_what_a_client_sends_beside_a_graph_passes_through() -> None:
    beside = {"extra_pnginfo": {"workflow": UI, "note": [1]}, "preview_method": "taesd"}
    body = {"prompt": API, "extra_data": beside, "client_id": "x"}
    assert submitted_file(body) == ({"prompt": API, "extra_data": beside}, ())
    assert sent(body) == beside


def test_a_clients_own_workflow_stands_before_the_file_in_ui_format() -> None:
    body = {"prompt": UI, "extra_data": {"extra_pnginfo": {"workflow": {"nodes": []}, "a": 1}}}
    assert sent(body) == {"extra_pnginfo": {"workflow": {"nodes": []}, "a": 1}}
    body = {"prompt": UI, "extra_data": {"preview_method": "none"}}
    assert sent(body) == {"extra_pnginfo": {"workflow": UI}, "preview_method": "none"}


def test_other_keys_are_neither_kept_nor_sent_and_said_by_name_only() -> None:
    beside = {"api_key_comfy_org": "comfyui-secret", "preview_method": "auto"}
    file, (warning,) = submitted_file({"prompt": API, "extra_data": beside})
    assert file == {"prompt": API, "extra_data": {"preview_method": "auto"}}
    assert warning.startswith("extra_data.api_key_comfy_org is not sent to the engine: of extra_data only ")
    assert "COMFY_BRIDGE_COMFY_ORG_API_KEY" in warning
    assert "secret" not in warning
    file, (warning,) = submitted_file({"prompt": UI, "extra_data": dict.fromkeys("abcdefg", 1)})
    assert file == UI
    assert warning.startswith(
        "extra_data.a, extra_data.b, extra_data.c, extra_data.d, extra_data.e and 2 more are"
    )


@pytest.mark.parametrize(
    "beside", [{"extra_pnginfo": [1]}, {"extra_pnginfo": "x"}, {"preview_method": 1}, [], 7]
)
def test_what_would_break_a_node_is_not_sent(beside: object) -> None:
    file, warnings = submitted_file({"prompt": API, "extra_data": beside})
    assert file is None
    assert len(warnings) == 1


def test_a_comfy_key_goes_with_a_job_that_may_spend_only() -> None:
    assert Submitted(may_spend=True).extra_data(ANNA) == ExtraData(spender=ANNA)
    assert Submitted(file=UI).extra_data(ANNA).spender is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["extra_pnginfo", "preview_method", "api_key_comfy_org", "auth_token_comfy_org", "x"]
        ),
        json_values,
    )
)
def test_whatever_a_body_says_only_the_listed_keys_come_through(beside: dict[str, Any]) -> None:
    kept, _ = submitted_file({"prompt": API, "extra_data": beside})
    assert set(sent({"prompt": API, "extra_data": beside})) <= {"extra_pnginfo", "preview_method"}
    assert kept is None or set(kept["extra_data"]) <= {"extra_pnginfo", "preview_method"}
