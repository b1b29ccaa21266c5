"""The typical mistakes of tests/data/agent/mistakes.json: the calls, and whether an answer is good."""

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DOCUMENT = json.loads((Path(__file__).parents[1] / "data" / "agent" / "mistakes.json").read_text())
MISTAKES: dict[str, Any] = {each["id"]: each for each in DOCUMENT["mistakes"]}

Names = Mapping[str, str]
"""What stands for the placeholders."""


def base_graph(names: Names) -> Any:
    return filled(DOCUMENT["base"]["txt2img"], names)


def arguments_of(mistake: Any, names: Names) -> dict[str, Any]:
    call = mistake["call"]
    arguments: dict[str, Any] = filled(call.get("arguments", {}), names)
    if "base" not in call and "base_as_string" not in call:
        return arguments
    graph = copy.deepcopy(base_graph(names))
    for patch in call.get("patch", ()):
        *way, last = patch["path"].strip("/").split("/")
        place = graph
        for step in way:
            place = place[step]
        if patch["op"] == "set":
            place[last] = filled(patch["value"], names)
        else:
            del place[last]
    return {**arguments, "workflow": json.dumps(graph) if "base_as_string" in call else graph}


def faults(mistake: Any, names: Names, *, is_error: bool, text: str, queued: bool) -> list[str]:
    """What the answer lacks of a good one."""
    wanted = mistake["expect"]

    def found(pattern: str) -> bool:
        literal = filled(pattern, {name: re.escape(value) for name, value in names.items()})
        return re.search(literal, text, re.IGNORECASE | re.MULTILINE) is not None

    said = [f"lacks {each}" for each in wanted.get("all", ()) if not found(each)]
    said += [f"has {each}" for each in wanted.get("none", ()) if found(each)]
    if "any" in wanted and not any(found(each) for each in wanted["any"]):
        said.append(f"lacks any of {wanted['any']}")
    if wanted.get("isError", is_error) != is_error:
        said.append(f"isError {is_error}")
    if wanted.get("queued", queued) != queued:
        said.append(f"queued {queued}")
    return said


def filled(value: Any, names: Names) -> Any:
    match value:
        case str():
            for name, text in names.items():
                value = value.replace(f"{{{name}}}", text)
            return value
        case dict():
            return {key: filled(each, names) for key, each in value.items()}
        case list():
            return [filled(each, names) for each in value]
        case _:
            return value
