"""Assets over HTTP: by id, by hash, in parts, through signed links, and refused where they lie."""

from typing import Any

import aiohttp
from blake3 import blake3

from http_sidecar.comfy_api.assets import UNKNOWN_TYPE
from tests.http_sidecar.comfy_api.conftest import API, HEADERS, of
from tests.support.comfy_sdks import png, showing
from tests.support.graphs import picture
from tests.support.sidecar import Answer, Sidecar

ASSETS = f"{API}/assets"


def hash_of(data: bytes) -> str:
    return f"blake3:{blake3(data).hexdigest()}"


async def upload(v2: Sidecar, data: bytes, name: str = "red.png", **fields: str) -> Answer:
    form = aiohttp.FormData(quote_fields=False)
    for field, value in fields.items():
        form.add_field(field, value)
    form.add_field("file", data, filename=name)
    return await v2("POST", ASSETS, data=form, headers=HEADERS)


async def upload_by(v2: Sidecar, name: str, data: bytes) -> Answer:
    form = aiohttp.FormData()
    form.add_field("file", data, filename="x.png")
    return await v2("POST", ASSETS, data=form, headers=of(name))


def code_of(answer: Answer) -> str:
    return str(answer.body["error"]["code"])


async def test_an_upload_is_found_by_its_id_and_its_hash_and_sent_in_parts(v2: Sidecar) -> None:
    data = png()
    answer = await upload(
        v2, data, content_type="image/png", file_path="in/red.png", expected_hash=hash_of(data)
    )
    made = answer.body
    assert (answer.status, made["created_new"], made["size_bytes"]) == (201, True, len(data))
    assert (made["hash"], made["file_path"]) == (hash_of(data), "in/red.png")
    assert (await v2("GET", f"{ASSETS}/{made['id']}", headers=HEADERS)).body["content_type"] == "image/png"
    assert (await v2("HEAD", f"{ASSETS}/by-hash/{made['hash']}", headers=HEADERS)).status == 200
    assert not (await upload(v2, data)).body["created_new"]
    again = await v2(
        "POST", f"{ASSETS}/from-hash", json={"hash": made["hash"], "file_path": "b.png"}, headers=HEADERS
    )
    assert (again.status, again.body["id"], again.body["file_path"]) == (201, made["id"], "b.png")

    whole = await v2("GET", f"{ASSETS}/{made['id']}/content", headers=HEADERS)
    assert (whole.data, whole.headers["X-Content-Type-Options"]) == (data, "nosniff")
    link = made["url"].removeprefix(v2.url)
    part = await v2("GET", link, headers={"Range": "bytes=1-3"})
    assert (part.status, part.data) == (206, b"PNG")
    assert part.headers["Content-Range"] == f"bytes 1-3/{len(data)}"
    assert (await v2("GET", link, headers={"Range": "bytes=9999999-"})).status == 416
    assert (await v2("GET", link, headers={"If-None-Match": whole.headers["ETag"]})).status == 304
    head = await v2("HEAD", link)
    assert (head.status, head.data, head.headers["Content-Length"]) == (200, b"", str(len(data)))
    assert (await v2("GET", link.replace("signature=", "signature=x"))).status == 401
    assert (await v2("GET", f"{ASSETS}/{made['id']}/content?signature=a")).status == 401


async def test_what_is_deleted_or_was_never_there_is_not_found(v2: Sidecar) -> None:
    made = (await upload(v2, png())).body
    assert (await v2("DELETE", f"{ASSETS}/{made['id']}", headers=HEADERS)).status == 204
    for path in (f"{ASSETS}/{made['id']}", f"{ASSETS}/..%2f..%2fbridge", f"{ASSETS}/{made['id']}/content"):
        answer = await v2("GET", path, headers=HEADERS)
        assert (answer.status, code_of(answer)) == (404, "not_found")
    assert (await v2("HEAD", f"{ASSETS}/by-hash/{made['hash']}", headers=HEADERS)).status == 404
    bodies: list[Any] = [{"hash": made["hash"]}, {"hash": "blake3:../x"}, {"hash": 7}, {}]
    for body in bodies:
        answer = await v2("POST", f"{ASSETS}/from-hash", json=body, headers=HEADERS)
        assert (answer.status, code_of(answer)) == (404, "blob_not_found")


async def test_an_output_is_an_asset_that_goes_with_its_job(v2: Sidecar) -> None:
    job = await v2.submit(picture(), headers=HEADERS)
    (output,) = (await v2.ended(job, headers=HEADERS))["outputs"]
    answer = await v2("GET", f"{ASSETS}/{output['outputId']}", headers=HEADERS)
    assert (answer.body["job_id"], answer.body["hash"]) == (job, None)
    content = await v2(
        "GET", f"{ASSETS}/{output['outputId']}/content", headers=HEADERS, allow_redirects=False
    )
    assert (content.status, content.headers["Location"]) == (302, answer.body["url"])
    link = answer.body["url"].removeprefix(v2.url)
    assert (await v2("GET", link)).data.startswith(b"\x89PNG")
    renewed = await v2("GET", f"{ASSETS}/{output['outputId']}/content?{link.partition('?')[2]}")
    assert (renewed.status, code_of(renewed)) == (401, "unauthorized"), "a link makes no newer link"
    refused = await v2("DELETE", f"{ASSETS}/{output['outputId']}", headers=HEADERS)
    assert (refused.status, code_of(refused)) == (409, "asset_in_use")


async def test_lies_about_an_upload_are_refused(v2: Sidecar) -> None:
    wrong = await upload(v2, png(), expected_hash=hash_of(b"other"))
    assert (wrong.status, code_of(wrong)) == (409, "hash_mismatch")
    assert (await v2("HEAD", f"{ASSETS}/by-hash/{hash_of(png())}", headers=HEADERS)).status == 404
    assert code_of(await v2("POST", ASSETS, data=b"x", headers=HEADERS)) == "invalid_argument"
    odd = await upload(v2, png(), content_type="text/html\r\nX-Evil: 1", file_path="../../evil.sh")
    assert odd.body["content_type"] == UNKNOWN_TYPE
    served = await v2("GET", odd.body["url"].removeprefix(v2.url))
    assert "X-Evil" not in served.headers
    assert (served.headers["Content-Type"], served.data) == (UNKNOWN_TYPE, png())


async def test_one_clients_asset_is_nobody_elses(v2: Sidecar) -> None:
    data = png("blue")
    made = (await upload(v2, data)).body
    assert (await v2("GET", f"{ASSETS}/{made['id']}", headers=of("ben"))).status == 404
    assert (await v2("HEAD", f"{ASSETS}/by-hash/{made['hash']}", headers=of("ben"))).status == 404
    refused = await v2(
        "POST",
        f"{API}/jobs",
        json={"workflow": showing({"__type": "core/ASSET", "info": {"id": made["id"]}})},
        headers=of("ben"),
    )
    assert (refused.status, code_of(refused)) == (422, "missing_asset")
    reading = await v2("POST", f"{ASSETS}/from-hash", json={"hash": made["hash"]}, headers=of("rita"))
    assert (reading.status, code_of(reading)) == (403, "forbidden")
    assert (await upload_by(v2, "rita", data)).status == 403
