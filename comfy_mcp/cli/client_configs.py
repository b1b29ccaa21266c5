"""The configuration file of an MCP client, which other programs and people write too.

A file is parsed only if it can be written anew without a loss, and is written in its own style.
"""

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

from comfy_mcp.domain.errors import ErrorCode, InvalidInput

BY_HAND = "Add the server by hand: docs/clients.md has the text for each client."
TOO_DEEP = "it has too many levels"


def read(path: Path) -> str | None:
    """None: there is no such file. Raises InvalidInput."""
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unusable(path, "read", error) from None
    except UnicodeDecodeError:
        raise not_understood(path, "it is not UTF-8") from None


def parse(path: Path, text: str) -> Any:
    """Raises InvalidInput for what is not plain JSON, or would be something else when it is written anew."""
    try:
        return json.loads(text, object_pairs_hook=_members, parse_float=_number, parse_constant=_no_number)
    except ValueError as error:
        raise not_understood(path, str(error)) from None
    except RecursionError:
        raise not_understood(path, TOO_DEEP) from None


def written(path: Path, config: Any, like: str | None) -> str:
    """The text of `path`, indented and with the ends of lines as `like`. Raises InvalidInput, as `parse`."""
    indent = re.search(r"^[ \t]+(?=\S)", like or "", re.MULTILINE)
    try:
        text = json.dumps(config, indent=indent.group() if indent else 2, ensure_ascii=False) + "\n"
        text.encode()
    except UnicodeEncodeError:
        raise not_understood(path, "half a character is in it") from None
    except RecursionError:
        raise not_understood(path, TOO_DEEP) from None
    return text.replace("\n", "\r\n") if "\r\n" in (like or "") else text


def not_understood(path: Path, why: str) -> InvalidInput:
    return InvalidInput(
        f"{path} is not plain JSON ({why[:200]}), so it was left as it is.", next_step=BY_HAND
    )


def unusable(path: Path, how: str, error: OSError) -> InvalidInput:
    """`how`: what can't be done with it."""
    return InvalidInput(
        f"{path} can't be {how}: {error.strerror}.", next_step=BY_HAND, code=ErrorCode.PATH_UNREADABLE
    )


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name is in it twice")
    return made


def _number(text: str) -> float:
    number = float(text)
    try:
        same = Decimal(text) == Decimal(repr(number))
    except ArithmeticError:
        same = False
    if not same:
        raise ValueError(f"a number has too many digits: {text[:40]}")
    return number


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")
