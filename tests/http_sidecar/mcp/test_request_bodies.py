"""Large requests of MCP reach the SDK without the arguments of their tool call, all with whole characters."""

import json
from typing import Any

import pytest

from comfy_mcp.domain import large_json
from http_sidecar.mcp.asgi import Message, Scope, Send
from http_sidecar.mcp.request_bodies import with_bodies_read

MOST = 5_000
ARGUMENTS = {"workflow": {str(at): {"class_type": "A"} for at in range(40)}}


@pytest.fixture(autouse=True)
def _large_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_json, "LARGE_BYTES", 300)
    monkeypatch.setattr(large_json, "LARGE_VALUES", 20)


def request(arguments: object, **more: object) -> bytes:
    return json.dumps({"id": 1, "params": {"name": "submit", "arguments": arguments}, **more}).encode()


async def passed(*messages: Message, method: str = "POST") -> tuple[Scope, list[Message]]:
    """What the application gets of it."""
    scope: Scope = {
        "method": method,
        "state": {},
        "headers": [(b"content-length", b"?"), (b"accept", b"*/*")],
    }
    left, got = list(messages), list[Message]()

    async def app(_scope: Scope, receive: Any, _send: Send) -> None:
        got.extend([await receive() for _ in range(len(messages))] if method == "GET" else [await receive()])
        while got[-1].get("more_body"):
            got.append(await receive())

    async def receive() -> Message:
        return left.pop(0)

    async def send(_message: Message) -> None:
        raise AssertionError("nothing is sent")

    await with_bodies_read(app, MOST)(scope, receive, send)
    return scope, got


def parts(body: bytes, size: int = 250) -> list[Message]:
    cut = [body[at : at + size] for at in range(0, len(body), size)]
    return [
        {"type": "http.request", "body": each, "more_body": at < len(cut) - 1} for at, each in enumerate(cut)
    ]


@pytest.mark.parametrize("arguments", [ARGUMENTS, json.dumps(ARGUMENTS)], ids=["an object", "a text"])
async def test_the_arguments_of_a_large_call_are_in_the_scope(arguments: object) -> None:
    scope, [message] = await passed(*parts(request(arguments)))
    assert scope["state"] == {"arguments": arguments}
    assert json.loads(message["body"]) == json.loads(request({}))
    assert dict(scope["headers"]) == {b"content-length": b"%d" % len(message["body"]), b"accept": b"*/*"}
    assert not message["more_body"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
async def test_they_may_be_in_any_encoding_of_json(encoding: str) -> None:
    scope, _ = await passed(*parts(request(ARGUMENTS).decode().encode(encoding)))
    assert scope["state"] == {"arguments": ARGUMENTS}


@pytest.mark.parametrize(
    "body",
    [
        request({"workflow": "x"}),
        request(None, more="x" * 400),
        b'"' + b"x" * 400 + b'"',
        b'{"half": "\\ud83d',
        b'"\\ud83d"' + b"[" * 200,
    ],
    ids=["a small call", "no arguments", "no object", "no JSON", "no JSON either"],
)
async def test_what_is_small_or_is_one_text_arrives_as_it_came(body: bytes) -> None:
    scope, got = await passed(*parts(body))
    assert b"".join(each["body"] for each in got).replace(b" ", b"") == body.replace(b" ", b"")
    assert scope["state"] == {}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a \ud83d", "a \ufffd"),
        ("\ude00 b", "\ufffd b"),
        ("\ud83d\ude00", "\U0001f600"),
    ],
)
@pytest.mark.parametrize("more", ["", "x" * 400])
async def test_half_a_character_becomes_another_one(text: str, read: str, more: str) -> None:
    """In any part of a request: one that is large has its arguments apart."""
    scope, got = await passed(*parts(request({"workflow": "x"}, id=text, more=more), 7))
    body = b"".join(each["body"] for each in got).decode()
    assert json.loads(body)["id"] == read
    assert "\\ud" not in body
    assert dict(scope["headers"])[b"content-length"] == b"%d" % len(body.encode())


@pytest.mark.parametrize(
    ("body", "instead"),
    [
        (b"{" * 400, b"{"),
        (b"[" * 4_000, b"{"),
        (json.dumps(list(range(400))).encode(), b"[]"),
        (request({}, others=list(range(400))), b"[]"),
    ],
)
async def test_what_is_no_call_stays_wrong_and_is_small(body: bytes, instead: bytes) -> None:
    scope, [message] = await passed(*parts(body))
    assert message["body"] == instead
    assert scope["state"] == {}


async def test_what_is_too_large_is_left_to_the_application() -> None:
    body = request({"workflow": {str(at): at for at in range(1_000)}})
    assert len(body) > MOST
    scope, got = await passed(*parts(body))
    assert b"".join(each["body"] for each in got) == body
    assert scope["state"] == {}


async def test_a_client_that_leaves_within_its_body_is_passed_on() -> None:
    some = {"type": "http.request", "body": request(ARGUMENTS)[:400], "more_body": True}
    scope, got = await passed(some, {"type": "http.disconnect"})
    assert [each["type"] for each in got] == ["http.request", "http.disconnect"]
    assert scope["state"] == {}


async def test_what_is_no_post_is_not_read() -> None:
    _, got = await passed({"type": "http.disconnect"}, method="GET")
    assert got == [{"type": "http.disconnect"}]
