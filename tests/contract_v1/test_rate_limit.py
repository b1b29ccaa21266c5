"""100 requests a minute for each key, or each address without one."""

from pathlib import Path

import pytest

from comfy_mcp.settings import load_settings
from tests.contract_v1.shapes import assert_problem
from tests.support.sidecar import WORKFLOW, Sidecar, open_sidecar

STATUS = "/v1/status"


def test_the_default_is_a_hundred_a_minute() -> None:
    assert load_settings().rate_limit_per_minute == 100


async def test_every_counted_answer_says_what_is_left(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, rate_limit_per_minute=3) as v1:
        for left in (2, 1, 0):
            headers = (await v1("GET", STATUS)).headers
            assert headers["x-ratelimit-limit"] == "3"
            assert headers["x-ratelimit-remaining"] == str(left)
            assert 1 <= int(headers["x-ratelimit-reset"]) <= 60
            assert "retry-after" not in headers
            assert f"r={left}" in headers["RateLimit"]
            assert "q=3;w=60" in headers["RateLimit-Policy"]


async def test_one_too_many_is_429_to_the_letter(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, rate_limit_per_minute=2) as v1:
        for _ in range(2):
            assert (await v1("GET", STATUS)).status == 200
        answer = await v1("GET", f"{WORKFLOW}/nope")
        body = assert_problem(answer, 429, "Too Many Requests", "Rate limit exceeded, retry in 1 minute")
        assert (body["code"], body["retryable"]) == ("rate_limited", True)
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.headers["x-ratelimit-remaining"] == "0"
        assert "r=0" in answer.headers["RateLimit"]


@pytest.mark.parametrize("path", ["/health", "/ready", "/livez", "/readyz", "/metrics"])
async def test_probes_and_metrics_are_not_counted(tmp_path: Path, path: str) -> None:
    async with open_sidecar(tmp_path, rate_limit_per_minute=1) as v1:
        for _ in range(5):
            answer = await v1("GET", path)
            assert answer.status == 200
            assert "x-ratelimit-limit" not in answer.headers
        assert (await v1("GET", STATUS)).status == 200
        assert (await v1("GET", STATUS)).status == 429
        assert (await v1("GET", path)).status == 200


async def test_each_key_has_its_own_count_and_strangers_share_that_of_their_address(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, rate_limit_per_minute=2, http_key="right") as v1:
        wrong = [(await v1("GET", STATUS, headers={"X-API-Key": f"guess-{n}"})).status for n in range(4)]
        assert wrong == [401, 401, 429, 429], "guessing is limited too"
        right = [(await v1("GET", STATUS, headers={"X-API-Key": "right"})).status for _ in range(3)]
        assert right == [200, 200, 429]


async def test_a_forwarded_address_that_no_configured_proxy_set_counts_for_nothing(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, rate_limit_per_minute=2) as v1:
        codes = await codes_from(v1, "203.0.113.{}")
    assert codes == [200, 200, 429, 429]


async def test_a_configured_proxy_is_believed(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, rate_limit_per_minute=2, trusted_proxies=("127.0.0.1",)) as v1:
        codes = await codes_from(v1, "203.0.113.{}")
    assert codes == [200] * 4


async def codes_from(v1: Sidecar, address: str) -> list[int]:
    return [
        (await v1("GET", STATUS, headers={"X-Forwarded-For": address.format(n)})).status for n in range(4)
    ]
