"""docs/streams.md names every message, field, close code and path of the streams."""

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from http_sidecar.streams import sse, tickets, websocket
from http_sidecar.streams.messages import COMMANDS, SOCKET_MESSAGES, SSE_MESSAGES
from http_sidecar.streams.websocket import CloseCode

DOCUMENT = (Path(__file__).parents[1] / "docs" / "streams.md").read_text(encoding="utf-8")
MODELS: tuple[type[BaseModel], ...] = tuple(dict.fromkeys((*COMMANDS, *SOCKET_MESSAGES, *SSE_MESSAGES)))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_message_is_documented_with_its_fields(model: type[BaseModel]) -> None:
    (kind,) = get_args(model.model_fields["type"].annotation)
    lines = [line for line in DOCUMENT.splitlines() if re.search(rf'[`"]{re.escape(kind)}[`"]', line)]
    assert lines
    fields = {field.alias or name for name, field in model.model_fields.items()} - {"type", "seq", "message"}
    assert {name for name in fields if re.search(rf"\b{name}\b", " ".join(lines))} == fields


@pytest.mark.parametrize("code", [*CloseCode, 1009])
def test_a_close_code_is_documented(code: int) -> None:
    assert re.search(rf"^\| [^|]*\b{code}\b", DOCUMENT, re.MULTILINE)


@pytest.mark.parametrize("path", [websocket.PATH, sse.PATH, sse.ALL_PATH, tickets.PATH])
def test_a_path_is_documented(path: str) -> None:
    assert path in DOCUMENT


@pytest.mark.parametrize("text", [tickets.PROTOCOL, tickets.KEY_PREFIX, tickets.TICKET_PREFIX])
def test_a_subprotocol_is_documented(text: str) -> None:
    assert text in DOCUMENT
