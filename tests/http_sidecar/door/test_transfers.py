"""How many uploads and downloads are open at once, of all clients and of one."""

import contextlib

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from comfy_mcp.domain.errors import ErrorCode, LimitExceeded
from http_sidecar.bounds import Bounds
from http_sidecar.door.rate_limit import BUCKET
from http_sidecar.door.transfers import Transfers


def of(client: str) -> web.Request:
    request: web.Request = make_mocked_request("GET", "/")
    request[BUCKET] = client
    return request


def test_one_client_has_a_part_of_them_and_gets_it_back() -> None:
    transfers = Transfers(Bounds(transfers=5, transfers_per_client=2))
    for _ in range(3):
        with contextlib.ExitStack() as open_now:
            for _ in range(2):
                open_now.enter_context(transfers.entered(of("ann")))
            with pytest.raises(LimitExceeded, match="You have 2") as caught, transfers.entered(of("ann")):
                raise AssertionError("no room")
            assert caught.value.code is ErrorCode.TOO_MANY_STREAMS
            with transfers.entered(of("bob")):
                pass
    assert not transfers._open


def test_all_together_have_a_bound() -> None:
    transfers = Transfers(Bounds(transfers=2, transfers_per_client=2))
    with (
        transfers.entered(of("ann")),
        transfers.entered(of("bob")),
        pytest.raises(LimitExceeded, match="of this server"),
        transfers.entered(of("eve")),
    ):
        raise AssertionError("no room")
