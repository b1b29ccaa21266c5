"""How many uploads and downloads are open at once, of all clients and of one."""

import contextlib

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from comfy_mcp.domain.errors import ErrorCode, LimitExceeded
from http_sidecar.bounds import Bounds
from http_sidecar.door.rate_limit import BUCKET
from http_sidecar.door.transfers import TRANSFERS, places, transfer


def test_one_client_has_its_share_of_them_and_gets_it_back() -> None:
    app = web.Application()
    app[TRANSFERS] = places(Bounds(transfers=4))

    def of(client: str) -> web.Request:
        request: web.Request = make_mocked_request("GET", "/", app=app)
        request[BUCKET] = client
        return request

    for _ in range(3):
        with contextlib.ExitStack() as open_now:
            for _ in range(2):
                open_now.enter_context(transfer(of("ann")))
            with pytest.raises(LimitExceeded, match="You have 2 of the 4") as caught, transfer(of("ann")):
                raise AssertionError("no room")
            assert caught.value.code is ErrorCode.TOO_MANY_STREAMS
            with transfer(of("bob")):
                pass
