"""The next steps of errors and results, reworded for each surface.

Operations and what lies below them advise in MCP's words: `Call wait_for_workflow(workflow_id="…")`, `Read
comfy://workflows`. A shell has commands instead, a REST client has URLs: they say each mention anew.
What can be mentioned is in the registry (docs/decisions/0010-advice-in-each-surfaces-words.md).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from comfy_mcp.operations.registry import OPERATIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationMention:
    """One operation in an advice. `verb`: the word that introduces it: "Call", "call", "Read", "read" or "".

    `arguments` are those of the call, none where it is only named.
    """

    verb: str
    operation: str
    arguments: Mapping[str, str]


Reword = Callable[[OperationMention], str]


def reworded(advice: str, reword: Reword) -> str:
    """The advice with every mention of an operation worded by `reword`."""

    def replacement(found: re.Match[str]) -> str:
        verb, name, arguments = found.groups(default="")
        return reword(
            OperationMention(
                verb=verb.rstrip(),
                operation=_mentionable()[name],
                arguments=dict(_ARGUMENT.findall(arguments)),
            )
        )

    return _pattern().sub(replacement, advice)


_ARGUMENT = re.compile(r'(\w+)="([^"]*)"')


@cache
def _mentionable() -> Mapping[str, str]:
    """Tool or URI → the operation's name. A template is no URI to read: it is not mentioned."""
    tools = {operation.name: operation.name for operation in OPERATIONS if operation.tool}
    resources = {
        operation.resource: operation.name
        for operation in OPERATIONS
        if operation.resource is not None and "{" not in operation.resource
    }
    return tools | resources


@cache
def _pattern() -> re.Pattern[str]:
    names = "|".join(map(re.escape, _mentionable()))
    return re.compile(rf"(\b(?:[Cc]all|[Rr]ead) )?\b({names})(?![\w/])(\([^)]*\))?")
