"""The workflow of `run` and `submit`: a file, or a name, with inputs as NAME=VALUE."""

import json
import os
from collections.abc import AsyncIterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from comfy_mcp.cli.files import STDIN, opened
from comfy_mcp.domain.errors import InvalidInput

Asked = tuple[Mapping[str, Any], AsyncIterable[bytes] | None]
"""The arguments of a submit, and the bytes of the file that comes with it."""


@contextmanager
def given(file: str, asked: Mapping[str, Any]) -> Iterator[Asked]:
    """`asked`: the options of the command. What is no file is a name, unless it ends like one: then the error
    is about the file."""
    asked = {
        **asked,
        "inputs": dict(map(_input, asked["inputs"])) or None,
        "matrix": dict(map(_values, asked["matrix"])) or None,
        **_webhook(asked.get("webhook"), asked.get("webhook_events")),
    }
    asked.pop("webhook_events", None)
    path = Path(file)
    if file == STDIN or _is_there(path) or (path.suffix and not file.startswith("job:")):
        name = asked.get("name") or (None if file == STDIN else _readable(path.stem))
        with opened(file) as content:
            yield {**asked, "name": name}, content
    else:
        yield {**asked, "workflow": file}, None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # longer than a name may be
        return False


def _readable(name: str) -> str:
    """Of a file whose name is not in the locale's encoding, what can be read of it as UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def _webhook(url: str | None, events: Sequence[str] | None) -> Mapping[str, object]:
    """Raises InvalidInput."""
    if not events:
        return {}
    if url is None:
        raise InvalidInput("--webhook-event needs a URL.", next_step="Give it as --webhook URL.")
    return {"webhook": {"url": url, "events": list(events)}}


def _input(text: str) -> tuple[str, object]:
    """Raises InvalidInput."""
    name, value = _split(text, f"-i {text!r:.100} is not NAME=VALUE.", '-i prompt="a fox" -i seed=7')
    return name, _value(value)


def _values(text: str) -> tuple[str, list[object]]:
    """`cfg=4,7` has two values, `prompt=["a fox, red", "a cat"]` too. Raises InvalidInput."""
    name, value = _split(text, f"--matrix {text!r:.100} is not NAME=VALUE,VALUE.", "--matrix cfg=4,7")
    whole = _value(value)
    return name, whole if isinstance(whole, list) else [_value(each.strip()) for each in value.split(",")]


def _split(text: str, wrong: str, right: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InvalidInput(wrong, next_step=f"Write it as in {right}.")
    return name.strip(), value


def _value(text: str) -> object:
    """`7` is a number, `a fox` a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
