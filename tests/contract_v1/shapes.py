"""What an answer must have, member by member. Members beyond the contract's are allowed."""

import re
import time
from typing import Any

from tests.support.sidecar import Answer

YEAR_2020_MS = 1_577_836_800_000
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_ms(value: object) -> bool:
    """Epoch milliseconds of now or shortly before, as an integer; seconds or a float are neither."""
    return type(value) is int and YEAR_2020_MS < value <= time.time_ns() // 1_000_000 + 1


def assert_problem(answer: Answer, status: int, error: str, message: str | None = None) -> dict[str, Any]:
    """The one error body: the contract's members and RFC 9457's, agreeing with each other."""
    assert answer.status == status, answer.data
    assert answer.headers["Content-Type"].partition(";")[0] == "application/problem+json"
    body: dict[str, Any] = answer.body
    assert (body["error"], body["statusCode"]) == (error, status)
    assert isinstance(body["message"], str)
    assert body["message"]
    if message is not None:
        assert body["message"] == message
    assert (body["status"], body["title"]) == (status, error)
    assert body["type"]
    assert body["detail"].startswith(body["message"].rstrip("."))
    assert body["instance"].startswith("/")
    assert "Traceback" not in answer.data.decode()
    return body
