"""The bytes of outputs over HTTP: tags, conditions, ranges, previews, names, and how much is held at once."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, unquote

import aiohttp
import pytest
from yarl import URL

from comfy_mcp.domain.catalog import Output
from comfy_mcp.library import verified
from http_sidecar.bounds import Bounds
from http_sidecar.rest.output_bytes import IN_MEMORY_BYTES
from tests.contract_v1.shapes import assert_problem
from tests.support.files_engine import PATH, OutputHouse, Zeros, open_output_house

SMALL = b"0123456789" * 10
LARGE = os.urandom(IN_MEMORY_BYTES + 300_000)
BOTH = pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
MB = 10**6


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[OutputHouse]:
    async with open_output_house(tmp_path) as house:
        yield house


def etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()}"'


async def hash_known(house: OutputHouse, output: Output) -> None:
    """Hashes are written down after the answer."""
    async with asyncio.timeout(30):
        while (found := await house.v1.services.store.get_output(output.id)) is None or found.sha256 is None:
            await house.v1("GET", "/health")


@BOTH
async def test_the_bytes_come_whole_with_their_size_and_a_type(house: OutputHouse, content: bytes) -> None:
    output = await house.add("clip.mp4", content)
    answer = await house.get(output.id)
    assert (answer.status, answer.data) == (200, content)
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]


async def test_a_drawing_is_an_image_that_can_run_nothing(house: OutputHouse) -> None:
    output = await house.add(
        "plan.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    )
    answer = await house.get(output.id)
    assert answer.headers["Content-Type"] == "image/svg+xml"
    assert (
        answer.headers["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    )
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


ODD_CHARACTERS = {*map(chr, range(32, 127)), *"\t\x7f\u00e9\u202e\u200d\u05d0\u0301\U0001f4a5"} - {*"/\\"}
ODD_WORDS = (
    "{b} { } {outputId} ..a a.. ... ~ % %41.bin %7Bb%7D.bin preview a+b ?a=b # a;b=c con.bin - output:a"
)
ODD_NAMES = [*(f"a{each}b.bin" for each in sorted(ODD_CHARACTERS)), *ODD_WORDS.split(), "n" * 200]


async def test_whatever_its_name_a_file_is_found_by_it(house: OutputHouse) -> None:
    """A name from a filename_prefix may have any character but `/` and `\\`; each client encodes it."""
    wrong = []
    for name in ODD_NAMES:
        await house.add(name, SMALL)
        for where in (quote(name, safe=""), quote(name, safe="!$&'()*+,;=:@~")):  # RFC 3986 leaves these
            answer = await house.v1("GET", URL(f"{house.v1.url}{PATH}/{where}", encoded=True))
            if (answer.status, answer.data) != (200, SMALL):
                wrong.append((name, where, answer.status, answer.data[:100]))
    assert wrong == []


@BOTH
async def test_the_tag_is_the_hash_of_the_content_and_is_kept(house: OutputHouse, content: bytes) -> None:
    output = await house.add("x.bin", content)
    await house.get(output.id)
    await hash_known(house, output)
    for _ in range(2):
        assert (await house.get(output.id)).headers["ETag"] == etag(content)
    known = await house.v1.services.store.get_output(output.id)
    assert known is not None
    assert (known.size, known.sha256) == (len(content), hashlib.sha256(content).hexdigest())


@BOTH
async def test_what_the_client_has_is_not_sent_again(house: OutputHouse, content: bytes) -> None:
    output = await house.add("x.bin", content)
    first = await house.get(output.id, If_None_Match=f'"other", {etag(content)}')
    assert (first.status, first.data, first.headers["ETag"]) == (304, b"", etag(content))
    await hash_known(house, output)
    before = len(house.engine.asked)
    for tag in (etag(content), f"W/{etag(content)}", "*"):
        answer = await house.get(output.id, If_None_Match=tag)
        assert (answer.status, answer.data) == (304, b"")
    assert len(house.engine.asked) == before, "the engine need not be asked for what is not sent"
    assert (await house.get(output.id, If_None_Match='"other"')).data == content


@BOTH
async def test_if_match_of_another_content_is_412(house: OutputHouse, content: bytes) -> None:
    output = await house.add("x.bin", content)
    assert_problem(await house.get(output.id, If_Match='"other"'), 412, "Precondition Failed")
    weak = await house.get(output.id, If_Match=f"W/{etag(content)}")
    assert_problem(weak, 412, "Precondition Failed")
    assert (await house.get(output.id, If_Match=etag(content))).status == 200


RANGES = [
    ("bytes=0-0", 0, 1),
    ("bytes=10-19", 10, 20),
    ("BYTES=90-", 90, None),
    ("bytes=-7", -7, None),
    ("bytes=50-99999999999", 50, None),
    ("bytes=-99999999999", 0, None),
]


@BOTH
async def test_a_range_is_206_with_those_bytes(house: OutputHouse, content: bytes) -> None:
    output = await house.add("x.bin", content)
    for asked, start, stop in RANGES:
        answer = await house.get(output.id, Range=asked)
        assert (answer.status, answer.data == content[start:stop]) == (206, True), asked
        first, last, _ = slice(start, stop).indices(len(content))
        assert answer.headers["Content-Range"] == f"bytes {first}-{last - 1}/{len(content)}"
        assert answer.headers["Content-Length"] == str(len(answer.data))


async def test_a_range_of_a_large_output_is_all_that_the_engine_sends(house: OutputHouse) -> None:
    output = await house.add("x.bin", Zeros(200 * MB), size=200 * MB)
    answer = await house.get(output.id, Range=f"bytes={150 * MB}-{150 * MB + 9}")
    assert (answer.status, answer.data) == (206, bytes(10))
    assert house.engine.sent == 10


NONSENSE = [
    "bytes=",
    "bytes=-",
    "bytes=a-b",
    "bytes=5-1",
    "bytes=1-2,5-6",
    "bytes=0-0," * 500,
    "items=0-1",
    "bytes 0-1",
    "bytes=--1",
    "bytes=1--2",
    f"bytes=0-{'9' * 4000}",
    "bytes=0x0-0x1",
]


@BOTH
async def test_a_range_that_is_none_or_several_is_answered_with_the_whole(
    house: OutputHouse, content: bytes
) -> None:
    output = await house.add("x.bin", content)
    for nonsense in NONSENSE:
        answer = await house.get(output.id, Range=nonsense)
        assert (answer.status, answer.data == content) == (200, True), nonsense


@BOTH
async def test_a_range_behind_the_end_is_416_with_the_size(house: OutputHouse, content: bytes) -> None:
    output = await house.add("x.bin", content)
    for beyond in (f"bytes={len(content)}-", "bytes=99999999999-", "bytes=-0"):
        answer = await house.get(output.id, Range=beyond)
        assert_problem(answer, 416, "Range Not Satisfiable")
        assert answer.headers["Content-Range"] == f"bytes */{len(content)}"


@BOTH
async def test_if_range_gives_the_part_of_the_same_content_and_the_whole_of_another(
    house: OutputHouse, content: bytes
) -> None:
    output = await house.add("x.bin", content)
    same = await house.get(output.id, Range="bytes=0-3", If_Range=etag(content))
    assert (same.status, same.data) == (206, content[:4])
    for other in ('"other"', f"W/{etag(content)}", "Tue, 24 Nov 2026 00:00:00 GMT", "", "junk"):
        answer = await house.get(output.id, Range="bytes=0-3", If_Range=other)
        assert (answer.status, answer.data) == (200, content), other


@BOTH
async def test_head_has_the_headers_of_get_and_no_body(house: OutputHouse, content: bytes) -> None:
    output = await house.add("x.bin", content)
    await house.get(output.id)
    await hash_known(house, output)
    head = await house.v1("HEAD", f"{PATH}/{output.id}", headers={"Range": "bytes=0-1"})
    got = await house.get(output.id)
    names = ("Content-Length", "Content-Type", "ETag", "Accept-Ranges", "Content-Disposition")
    assert (head.status, head.data) == (200, b"")
    assert [head.headers[name] for name in names] == [got.headers[name] for name in names]


async def test_an_empty_output_is_served_and_has_no_range(house: OutputHouse) -> None:
    output = await house.add("x.bin", b"")
    assert (await house.get(output.id)).status == 200
    assert (await house.get(output.id, Range="bytes=0-")).status == 416


async def test_a_file_name_means_its_newest_output(house: OutputHouse) -> None:
    await house.add("same.bin", b"old")
    await house.add("same.bin", b"new")
    assert (await house.get("same.bin")).data == b"new"


async def test_names_are_safe_in_headers(house: OutputHouse) -> None:
    for name in ("ümläut 火.png", 'quo"te.png', "a;b=c.png", "new\nline.png", "%41.png", "' *.png"):
        output = await house.add(name, SMALL)
        shown = (await house.get(output.id)).headers["Content-Disposition"]
        plain, _, exact = shown.removeprefix('inline; filename="').partition("\"; filename*=UTF-8''")
        assert not set(plain) & set('"\\;\r\n%'), name
        assert shown.isascii()
        assert unquote(exact) == name


async def test_a_plain_name_is_given_once(house: OutputHouse) -> None:
    output = await house.add("out_00001_ (1).png", SMALL)
    answer = await house.get(output.id)
    assert answer.headers["Content-Disposition"] == 'inline; filename="out_00001_ (1).png"'


ELSEWHERE = [
    "/..%2f..%2fetc%2fpasswd",
    "/%2e%2e",
    "/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/..%5c..%5cetc%5cpasswd",
    "/%252e%252e%252fetc%252fpasswd",
    "/%00",
    "/%ff",
    f"/{'x' * 5000}",
    "//etc/passwd",
]


async def test_a_path_that_leads_elsewhere_finds_nothing(house: OutputHouse) -> None:
    for path in ELSEWHERE:
        answer = await house.v1("GET", URL(f"{house.v1.url}{PATH}{path}", encoded=True))
        assert_problem(answer, 404, "Not Found")
    assert house.engine.asked == [], "only outputs that the store knows are looked for"


async def test_a_record_that_leads_out_of_the_folder_is_not_followed(house: OutputHouse) -> None:
    output = await house.add("..", SMALL)
    assert_problem(await house.get(output.id), 400, "Bad Request")
    assert house.engine.asked == []


async def test_a_file_that_is_gone_is_410_and_one_with_other_bytes_too(house: OutputHouse) -> None:
    gone = await house.add("gone.bin", None)
    assert_problem(await house.get(gone.id), 410, "Gone")
    replaced = await house.add("x.bin", SMALL)
    await house.get(replaced.id)
    await hash_known(house, replaced)
    for content in (SMALL[:-1] + b"X", SMALL + b"longer"):
        house.engine.files["x.bin"] = content
        assert_problem(await house.get(replaced.id), 410, "Gone")


async def test_a_large_file_that_was_replaced_is_cut_before_its_end(house: OutputHouse) -> None:
    output = await house.add("x.bin", LARGE)
    await house.get(output.id)
    await hash_known(house, output)
    house.engine.files["x.bin"] = LARGE[:-1] + bytes([LARGE[-1] ^ 1])
    with pytest.raises(aiohttp.ClientPayloadError):
        await house.get(output.id)


async def test_an_engine_that_is_down_is_503_and_may_be_asked_again(tmp_path: Path) -> None:
    async with open_output_house(tmp_path, engine_urls="engine=http://127.0.0.1:9") as house:
        output = await house.add("x.bin", SMALL)
        answer = await house.get(output.id)
    assert assert_problem(answer, 503, "Service Unavailable")["retryable"] is True
    assert "Retry-After" in answer.headers


async def test_a_client_that_reads_nothing_is_cut_and_little_was_read_for_it(tmp_path: Path) -> None:
    """What is on its way is in sockets, not in this process."""
    async with open_output_house(tmp_path, bounds=Bounds(send_timeout_s=0.2)) as house:
        output = await house.add("video.mp4", Zeros(200 * MB), size=200 * MB)
        deaf = await asyncio.open_connection("127.0.0.1", URL(house.v1.url).port, limit=1024)
        deaf[1].write(f"GET {PATH}/{output.id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert await deaf[0].readline() == b"HTTP/1.1 200 OK\r\n"
        other = await house.add("x.bin", SMALL)
        assert (await house.get(other.id)).data == SMALL, "the other clients notice nothing"
        async with asyncio.timeout(30):
            await house.engine.idle.wait()
        deaf[1].close()
        with contextlib.suppress(ConnectionError):
            await deaf[1].wait_closed()
        assert house.engine.sent < 50 * MB


@pytest.fixture
async def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[OutputHouse, Path]]:
    """A house that reads the engine's folder, and the folder."""
    monkeypatch.setattr(verified, "SETTLED_NS", 0)  # a file need not be old to be trusted
    folder = tmp_path / "output"
    folder.mkdir()
    async with open_output_house(tmp_path, outputs_dir=folder) as house:
        yield house, folder


async def served_before(house: OutputHouse, folder: Path, content: bytes) -> Output:
    """A file that was sent whole, with its hash known: it is not hashed again."""
    (folder / "x.bin").write_bytes(content)
    output = await house.add("x.bin", None, size=len(content))
    assert (await house.get(output.id)).data == content
    await hash_known(house, output)
    assert (await house.get(output.id)).data == content
    async with house.v1.services.outputs.open(output) as opened:
        assert opened.file is not None
        assert opened.file.was_hashed_as(hashlib.sha256(content).hexdigest())
    return output


async def test_a_file_on_disk_that_was_hashed_before_is_sent_again(at_home: tuple[OutputHouse, Path]) -> None:
    output = await served_before(*at_home, LARGE)
    answer = await at_home[0].get(output.id)
    assert (answer.status, answer.data, answer.headers["ETag"]) == (200, LARGE, etag(LARGE))


async def test_a_file_on_disk_that_was_replaced_is_cut_before_its_end(
    at_home: tuple[OutputHouse, Path],
) -> None:
    house, folder = at_home
    output = await served_before(house, folder, LARGE)
    (folder / "x.bin").write_bytes(LARGE[:-1] + bytes([LARGE[-1] ^ 1]))
    with pytest.raises(aiohttp.ClientPayloadError):
        await house.get(output.id)


@pytest.mark.parametrize("written", [True, False], ids=["written to", "deleted"])
async def test_a_file_on_disk_that_changes_while_it_is_sent(
    at_home: tuple[OutputHouse, Path], written: bool
) -> None:
    """Sixty-four megabytes do not fit into the sockets: most of it is read after the change."""
    house, folder = at_home
    content = bytes(64 * 2**20)
    output = await served_before(house, folder, content)
    async with aiohttp.ClientSession() as session, session.get(f"{house.v1.url}{PATH}/{output.id}") as answer:
        if written:
            with (folder / "x.bin").open("r+b") as file:
                file.write(b"X")  # behind what has been sent: only the file's times tell
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        else:
            (folder / "x.bin").unlink()
            assert await answer.read() == content
