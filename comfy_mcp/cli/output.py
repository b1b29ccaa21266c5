"""Output of a command: its result on stdout, everything else on stderr.

With --json stdout holds exactly one JSON document, also when the command fails; the sentence for people is on
stderr either way.
"""

import contextlib
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from comfy_mcp.domain.errors import BridgeError, ErrorCode, InvalidGraph, InvalidInput
from comfy_mcp.domain.shown import counted
from comfy_mcp.operations.next_steps import OperationMention, reworded
from comfy_mcp.operations.shapes import ProblemItem, Result, in_words

SHOWN_WARNINGS = 50
"""Lines on stderr; with --json the document has all of them."""

COMMAND_OF: Mapping[str, str] = {
    "submit_workflow": "submit FILE",
    "workflow_status": "status",
    "wait_for_workflow": "wait",
    "cancel_workflow": "cancel",
    "retry_workflow": "retry",
    "prioritize_workflow": "priority",
    "list_workflows": "workflows",
    "find_workflow": "find",
    "describe_workflow": "describe",
    "find_nodes": "nodes",
    "list_models": "models",
    "list_outputs": "outputs",
    "view_output": "outputs",
    "system_status": "doctor",
    "queue": "queue",
    "gpu_status": "doctor",
}
"""Operation → the command that does it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where a command writes. `as_json`: the result is one JSON document."""

    as_json: bool = False

    def result(self, document: Mapping[str, Any], lines: Sequence[str]) -> None:
        """The command's result: the document with --json, else the lines."""
        if self.as_json:
            ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
            _print(json.dumps(document, indent=2, ensure_ascii=ascii_only))
        else:
            for line in lines:
                _print(printable(line))

    def note(self, text: str) -> None:
        """A line for people, on stderr; it is lost where that can't be written."""
        with contextlib.suppress(OSError):
            click.echo(printable(text), err=True)

    def answer(self, result: Result, lines: Sequence[str], *, nothing: str | None = None) -> None:
        """An operation's result with its warnings. `nothing`: the note of an empty list."""
        self.warn(result.warnings)
        self.result(result.model_dump(mode="json", context=IN_COMMANDS), lines)
        if nothing is not None and not lines:
            self.note(nothing)

    def warn(self, warnings: Sequence[str]) -> None:
        for warning in counted(warnings, SHOWN_WARNINGS):
            self.note(f"warning: {warning}")

    def error(self, error: BridgeError) -> None:
        self.warn(error.warnings)
        self.note(f"error[{error.code.value}]: {error.message}")
        if error.next_step:
            self.note(f"next: {in_commands(error.next_step)}")
        if self.as_json:
            with contextlib.suppress(InvalidInput):  # stdout can't be written: stderr has said what is wrong
                self.result(error_document(error), ())


def _print(text: str) -> None:
    """On stdout. Raises InvalidInput if that can't be written, and BrokenPipeError if its reader has gone."""
    try:
        click.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_stdout()
        raise InvalidInput(
            f"The result can't be written to stdout: {error.strerror}.",
            next_step="Write it to another file or disk.",
            code=ErrorCode.PATH_UNREADABLE,
        ) from None


def discard_stdout() -> None:
    """What was or will be written there is thrown away, so that nothing raises when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def error_document(error: BridgeError) -> dict[str, Any]:
    """`error` is the stable code."""
    document: dict[str, Any] = {
        "error": error.code.value,
        "message": error.message,
        "nextStep": in_commands(error.next_step),
        "retryable": error.retryable,
        "details": dict(error.details),
    }
    if isinstance(error, InvalidGraph):
        document["problems"] = [ProblemItem.of(each).model_dump(mode="json") for each in error.problems]
    return document


def in_commands(advice: str) -> str:
    """An operation's next step, said in commands: `Call list_outputs` is `comfy-bridge outputs`."""
    said = _INPUTS.sub(r"-i \1=…", reworded(advice, _command_of))
    return _MATRIX.sub(lambda found: f"--matrix {found[1]}={found[2].replace(', ', ',')}", said)


_INPUTS = re.compile(r'inputs=\{"([\w.]+)": "?…"?\}')
_MATRIX = re.compile(r'matrix=\{"([^"]+)": \[([^\]]*)\]\}')


IN_COMMANDS: Mapping[str, Any] = in_words(in_commands)
"""For a result's dump."""

_VERBS = {"Call": "Run ", "Read": "Run ", "call": "run ", "read": "run "}


def _command_of(mention: OperationMention) -> str:
    words = ["comfy-bridge", COMMAND_OF[mention.operation]]
    if mention.operation == "submit_workflow" and (name := mention.arguments.get("workflow")) is not None:
        words[1:] = ["run", shlex.quote(name)]
    if (workflow_id := mention.arguments.get("workflow_id")) is not None:
        words.append(workflow_id)
    return f"{_VERBS.get(mention.verb, '')}`{' '.join(words)}`"


def printable(text: str) -> str:
    """Without control characters: names come from engines and must not steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)
