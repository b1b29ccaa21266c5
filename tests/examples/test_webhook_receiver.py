"""The example of a receiver of webhooks believes what is signed, and shows each event once."""

import json
import time

import pytest
from aiohttp.test_utils import TestClient, TestServer

from comfy_mcp.domain.webhooks import signed_headers
from examples.webhook_receiver import receiver
from tests.examples.conftest import EXAMPLES, Runner

SECRET, OTHER = "whsec_" + "A" * 32, "whsec_" + "B" * 32
BODY = json.dumps({"type": "workflow.failed", "timestamp": "t", "data": {"workflowId": "w"}}).encode()


async def test_it_shows_what_is_signed_once(capsys: pytest.CaptureFixture[str]) -> None:
    now = int(time.time())
    async with TestClient(TestServer(receiver(SECRET))) as client:
        for secrets, at, status in (
            ([SECRET], now, 204),
            ([OTHER, SECRET], now, 204),
            ([OTHER], now, 401),
            ([SECRET], now - 900, 401),
        ):
            async with client.post(
                "/comfy", data=BODY, headers=signed_headers(secrets, "msg_1", at, BODY)
            ) as answer:
                assert answer.status == status
        async with client.post("/comfy", data=BODY) as answer:
            assert answer.status == 401
    assert capsys.readouterr().out == "t workflow.failed w\n"


@pytest.mark.parametrize("secret", ["", "word"])
def test_without_a_secret_it_says_where_one_comes_from(runner: Runner, secret: str) -> None:
    done = runner.python(EXAMPLES / "webhook_receiver.py", WEBHOOK_SECRET=secret)
    assert (done.code, done.out) == (1, "")
    assert "comfy-bridge webhooks set" in done.err
    assert "Traceback" not in done.err
