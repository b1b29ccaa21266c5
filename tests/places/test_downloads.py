"""Files behind URLs: from public addresses only, bounded, hop by hop."""

import ipaddress
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from comfy_mcp.domain.addresses import is_public
from comfy_mcp.domain.errors import BridgeError, ErrorCode
from comfy_mcp.places import downloads
from comfy_mcp.places.downloads import Downloads

PUBLIC = ("8.8.8.8", "1.1.1.1", "2001:4860:4860::8888")
PRIVATE = (
    "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "192.0.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fc00::1", "fd00::1", "fec0::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
    "2001:0:7f00:1::",
)  # fmt: skip


@pytest.mark.parametrize(("addresses", "expected"), [(PUBLIC, True), (PRIVATE, False)])
def test_which_addresses_are_public(addresses: tuple[str, ...], expected: bool) -> None:
    assert {each: is_public(ipaddress.ip_address(each)) for each in addresses} == dict.fromkeys(
        addresses, expected
    )


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    async def file(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * int(request.query.get("size", 3)), content_type="image/png")

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 1000)

    async def breaks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 50
        await response.prepare(request)
        await response.write(b"x")
        assert request.transport is not None
        request.transport.abort()
        return response

    async def away(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": request.query.get("to", "")})

    app = web.Application()
    for path, handler in {
        "/file": file,
        "/a.png": file,
        "/endless": endless,
        "/breaks": breaks,
        "/away": away,
    }.items():
        app.router.add_get(path, handler)
    server = TestServer(app)
    async with server:
        yield server


async def read(url: str, *, private: bool = True, limit: int = 100) -> tuple[str, bytes]:
    async with Downloads(private=private)(url, limit) as found:
        return found.name, b"".join([chunk async for chunk in found.chunks()])


async def refusal(url: str, **options: Any) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        await read(url, **options)
    assert "secret" not in str(caught.value)
    return caught.value


async def test_a_file_is_read_with_its_ending(server: TestServer) -> None:
    assert await read(str(server.make_url("/a.png"))) == ("a.png", b"xxx")
    assert await read(str(server.make_url("/file"))) == (".png", b"xxx")
    assert await read(str(server.make_url("/away?to=/a.png"))) == ("a.png", b"xxx")


@pytest.mark.parametrize("path", ["/a.png", "/away?to=/a.png"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.1", "[::ffff:127.0.0.1]"])
async def test_an_address_that_is_not_public_is_never_connected_to(
    server: TestServer, host: str, path: str
) -> None:
    error = await refusal(f"http://user:secret@{host}:{server.port}{path}", private=False)
    assert error.code is ErrorCode.PATH_NOT_ALLOWED, error
    assert "COMFY_BRIDGE_PRIVATE_URLS" in error.next_step


async def test_each_hop_is_judged(server: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first hop is taken for public, the second for what it is."""
    judged: list[str] = []

    def first_only(address: Any) -> bool:
        judged.append(str(address))
        return len(judged) == 1

    monkeypatch.setattr(downloads, "is_public", first_only)
    url = f"http://127.0.0.1:{server.port}/away?to=http://localhost:{server.port}/a.png"
    assert (await refusal(url, private=False)).code is ErrorCode.PATH_NOT_ALLOWED
    assert len(judged) > 1


async def test_what_is_connected_to_is_what_was_judged(
    server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that answers otherwise when it is asked again (DNS rebinding) leads nowhere else."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def rebinding(host: Any, *arguments: Any, **named: Any) -> Any:
        asked.append(str(host))
        return resolve("127.0.0.1", *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    error = await refusal(f"http://public.example:{server.port}/a.png", private=False)
    assert error.code is ErrorCode.PATH_NOT_ALLOWED
    assert asked.count("public.example") == 1


async def test_a_file_is_bounded_by_what_it_says_and_by_what_comes(server: TestServer) -> None:
    assert (await refusal(str(server.make_url("/file?size=101")))).code is ErrorCode.TOO_LARGE
    async with Downloads(private=True)(str(server.make_url("/endless")), 100) as found:
        assert await anext(found.chunks())  # who reads it counts: library/spool.py


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/away?to=/away%3Fto%3D/a.png", None),
        ("/away", "HTTP 302"),
        ("/nothing", "HTTP 404"),
        ("/breaks", "the transfer broke"),
        ("/away?to=http://[", "no URL"),
        ("/away?to=file:///etc/passwd", "no URL of http"),
    ],
)
async def test_what_is_no_file_is_said(server: TestServer, path: str, said: str | None) -> None:
    url = str(server.make_url(path))
    if said is None:
        assert (await read(url))[1] == b"xxx"
        return
    error = await refusal(url)
    assert (error.code, said in error.message) == (ErrorCode.PATH_UNREADABLE, True), error


async def test_redirects_end(server: TestServer) -> None:
    url = str(server.make_url("/a.png"))
    for _ in range(6):
        url = str(server.make_url("/away").with_query(to=url))
    assert "more than 5 times" in (await refusal(url)).message


async def test_nobody_there_is_said(unused_tcp_port: int) -> None:
    assert "nothing answers there" in (await refusal(f"http://127.0.0.1:{unused_tcp_port}/a")).message


@pytest.mark.parametrize("host", ["a..b", ".com", "a" * 64 + ".com"])
async def test_a_host_name_that_can_be_none_is_said(host: str) -> None:
    assert "its host name is not valid" in (await refusal(f"https://{host}/a.png")).message


async def test_silence_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "DOWNLOAD_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = await refusal(f"http://127.0.0.1:{silent.getsockname()[1]}/a")
    assert "in time" in error.message
