"""The lanes of services, as settings name them."""

from typing import Any

import pytest

from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.domain.spending import Budget
from comfy_mcp.settings import load_settings

SALAD = {"salad_api_key": "a-key", "salad_org_name": "org", "salad_queue": "pictures/comfy"}


def lanes(**given: Any) -> list[tuple[str, str, dict[str, str]]]:
    return [(each.id, each.url, each.header_values()) for each in load_settings(**given).lanes]


def test_without_a_setting_there_is_none() -> None:
    assert lanes() == []


@pytest.mark.parametrize(
    "url", ["https://x.example/d/1", "https://x.example/d/1/", "https://x.example/d/1/api/v2"]
)
def test_a_base_url_in_each_spelling(url: str) -> None:
    assert lanes(comfy_api_url=url) == [("comfy-api-v2", "https://x.example/d/1", {})]


def test_a_key_is_a_bearer_token() -> None:
    (lane,) = lanes(comfy_api_url="http://x", comfy_api_key=" key ")
    assert lane[2] == {"Authorization": "Bearer key"}


@pytest.mark.parametrize("url", ["x.example", "ftp://x", "https://me:secret@x", "https://x?token=secret"])
def test_what_is_no_base_url_is_refused_and_never_shown(url: str) -> None:
    with pytest.raises(InvalidInput, match="without a user name or a query") as caught:
        load_settings(comfy_api_url=url)
    assert "secret" not in str(caught.value)


def test_salad_needs_key_organization_and_queue() -> None:
    where = "https://api.salad.com/api/public/organizations/org/projects/pictures/queues/comfy"
    assert lanes(**SALAD) == [("salad", where, {"Salad-Api-Key": "a-key"})]
    for name in SALAD:
        assert lanes(**{key: value for key, value in SALAD.items() if key != name}) == []


@pytest.mark.parametrize(
    "given", [{"salad_queue": "comfy"}, {"salad_org_name": "a/b"}, {"salad_queue": "../x"}]
)
def test_a_name_is_one_part_of_an_address(given: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        load_settings(**given)


@pytest.mark.parametrize(
    ("given", "budget"),
    [
        ({}, None),
        ({"cloud_budget_job": 1}, None),
        ({"cloud_price": 0.5}, Budget(per_hour=500_000)),
        ({"cloud_price": 1e-9}, Budget(per_hour=1)),
        ({"cloud_price": 1, "cloud_budget": 5}, Budget(per_hour=1_000_000, day=5_000_000, job=500_000)),
        (
            {"cloud_price": 1, "cloud_budget": 5, "cloud_budget_job": 2},
            Budget(per_hour=1_000_000, day=5_000_000, job=2_000_000),
        ),
    ],
)
def test_the_budget_that_is_meant(given: dict[str, Any], budget: Budget | None) -> None:
    assert load_settings(**given).budget == budget


@pytest.mark.parametrize(
    "given", [{"cloud_budget": 5}, {"cloud_price": 0}, {"cloud_price": 1, "cloud_budget": -1}]
)
def test_a_budget_that_nothing_could_be_counted_by_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        load_settings(**given)
