"""How many files are being sent and received: slow ones leave room for the others."""

from contextlib import AbstractContextManager

from aiohttp import web

from comfy_mcp.shares import Shares
from http_sidecar.bounds import Bounds
from http_sidecar.door.rate_limit import BUCKET

TRANSFERS = web.AppKey("transfers", Shares)


def places(bounds: Bounds) -> Shares:
    return Shares(bounds.transfers, "uploads and downloads")


def transfer(request: web.Request) -> AbstractContextManager[None]:
    """One upload or download more while the context is open. Raises LimitExceeded."""
    return request.app[TRANSFERS].place(request[BUCKET])
