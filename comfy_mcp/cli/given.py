"""The workflow of `run` and `submit`: a file, or a name, with inputs as NAME=VALUE."""

import json
from collections.abc import AsyncIterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from comfy_mcp.cli.files import STDIN, opened
from comfy_mcp.domain.errors import InvalidInput

Asked = tuple[Mapping[str, Any], AsyncIterable[bytes] | None]
"""The arguments of a submit, and the bytes of the file that comes with it."""


@contextmanager
def given(file: str, inputs: Sequence[str], asked: Mapping[str, Any]) -> Iterator[Asked]:
    """What is no file is a name, unless it ends like one: then the error is about the file."""
    values = dict(map(_input, inputs))
    asked = {**asked, "inputs": values or None}
    path = Path(file)
    if file == STDIN or path.exists() or (path.suffix and not file.startswith("job:")):
        name = asked.get("name") or (None if file == STDIN else path.stem)
        with opened(file) as content:
            yield {**asked, "name": name}, content
    else:
        yield {**asked, "workflow": file}, None


def _input(text: str) -> tuple[str, object]:
    """`seed=7` is a number, `prompt=a fox` a text. Raises InvalidInput."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InvalidInput(
            f"-i {text!r:.100} is not NAME=VALUE.", next_step='Write it as in -i prompt="a fox" -i seed=7.'
        )
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value
