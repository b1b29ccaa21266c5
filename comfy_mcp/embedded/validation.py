"""Is a prompt runnable? The same verdicts, in the same words, that ComfyUI's clients know.

Source of the shapes: POST /prompt of ComfyUI 0.3.75 as observed. An output node whose branch is wrong is
dropped while the others run; only a prompt with no good output is refused.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from comfy_mcp.embedded.directories import Directories
from comfy_mcp.embedded.nodes import NodeType
from comfy_mcp.embedded.nodes.base import Input

Json = dict[str, Any]
_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "INT": int,
    "FLOAT": float,
    "STRING": str,
    "BOOLEAN": bool,
}
_LONG_LIST = 20
MOST_BLAMED = 10_000
"""Pairs of a wrong node and an output in one answer. ComfyUI says them all: the square of their number."""
_ONLY_LISTED = (
    "The embedded engine serves a recorded node list and can't run {}: check the workflow with "
    "`comfy-bridge check`, or run it on ComfyUI."
)
_WRONG_SHAPE = (KeyError, IndexError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """error: None when something can run. outputs: the output nodes to run."""

    error: Json | None
    outputs: list[str] = field(default_factory=list)
    node_errors: Json = field(default_factory=dict)


def validate(
    prompt: Any,
    nodes: Mapping[str, NodeType],
    directories: Directories,
    targets: Collection[str] | None = None,
    listed: Collection[str] = (),
) -> Verdict:
    """Check a whole prompt and convert its literal values in place, as ComfyUI does.

    targets: the output nodes to run, None for all of them. listed: classes of a recorded node list, which are
    not unknown, even where `nodes` lacks them.
    Raises TypeError and the like for shapes that ComfyUI answers with a plain-text 500.
    """
    outputs: list[str] = []
    for node_id in prompt:
        if "class_type" not in prompt[node_id]:
            return _refused("Cannot execute because a node is missing the class_type property.", node_id)
        class_type = prompt[node_id]["class_type"]
        if class_type not in nodes and class_type in listed:
            return _refused(_ONLY_LISTED.format(class_type), node_id)
        if class_type not in nodes:
            return _refused(f"Cannot execute because node {class_type} does not exist.", node_id)
        if nodes[class_type].output_node and (targets is None or node_id in targets):
            outputs.append(node_id)
    if not outputs:
        return Verdict(error=_error("prompt_no_outputs", "Prompt has no outputs"))
    return _Validator(prompt, nodes, directories).verdict(outputs)


@dataclass(slots=True)
class _Checked:
    valid: bool
    errors: list[Json]


class _Validator:
    """One prompt's checks. Every node is judged once, however many outputs depend on it."""

    def __init__(self, prompt: Json, nodes: Mapping[str, NodeType], directories: Directories) -> None:
        self._prompt = prompt
        self._nodes = nodes
        self._directories = directories
        self._checked: dict[str, _Checked] = {}
        self._wrong: dict[str, _Checked] = {}
        self._blamed = 0
        self._open: set[str] = set()

    def verdict(self, outputs: list[str]) -> Verdict:
        good: list[str] = []
        details: list[str] = []
        node_errors: Json = {}
        for output in outputs:
            self._check_ahead(output)
            try:
                result = self._check(output)
            except _WRONG_SHAPE as error:
                result = _Checked(False, [_exception_error("exception_during_validation", error)])
                self._keep(output, result)
            if result.valid:
                good.append(output)
                continue
            details += [f"{found['message']}: {found['details']}" for found in result.errors]
            self._collect(output, node_errors)
        if good:
            return Verdict(error=None, outputs=good, node_errors=node_errors)
        refusal = _error(
            "prompt_outputs_failed_validation", "Prompt outputs failed validation", "\n".join(details)
        )
        return Verdict(error=refusal, node_errors=node_errors)

    def _collect(self, output: str, node_errors: Json) -> None:
        """Blame every node found wrong so far on this output, as ComfyUI does, related or not."""
        for node_id, result in islice(self._wrong.items(), MOST_BLAMED - self._blamed):
            entry = node_errors.setdefault(
                node_id,
                {
                    "errors": result.errors,
                    "dependent_outputs": [],
                    "class_type": self._prompt[node_id]["class_type"],
                },
            )
            entry["dependent_outputs"].append(output)
            self._blamed += 1

    def _check_ahead(self, output: str) -> None:
        """Judge what is behind an output from the far end on, so that a deep graph needs no deep stack.

        Nodes that cannot be judged for their shape are left to the check of the node that links to them,
        which knows the input to blame.
        """
        stack, entered = [output], set[str]()
        while stack:
            node_id = stack[-1]
            if node_id not in entered:
                entered.add(node_id)
                stack += [source for source in self._followed(node_id) if source not in entered]
                continue
            stack.pop()
            if node_id != output:
                with contextlib.suppress(*_WRONG_SHAPE):
                    self._check(node_id)

    def _followed(self, node_id: str) -> list[str]:
        """The nodes that the check of a node goes on to: a link of the wrong type is not followed."""
        found: list[str] = []
        with contextlib.suppress(*_WRONG_SHAPE):
            values = self._prompt[node_id]["inputs"]
            for name, (spec, _) in self._declared(node_id).items():
                link = values.get(name)
                if isinstance(link, list) and len(link) == 2 and _matches(self._sent(link), spec.type):
                    found.append(link[0])
        return found

    def _declared(self, node_id: str) -> dict[str, tuple[Input, bool]]:
        return self._nodes[self._prompt[node_id]["class_type"]].inputs(self._directories).declared()

    def _sent(self, link: list[Any]) -> str:
        """The type that a link brings. Raises what the shape of the link makes it raise."""
        source, slot = link
        sent: str = self._nodes[self._prompt[source]["class_type"]].returns[slot]
        return sent

    def _check(self, node_id: str) -> _Checked:
        if node_id in self._checked:
            return self._checked[node_id]
        if node_id in self._open:
            # A cycle: ComfyUI runs out of stack and ends up with an invalid branch and no errors.
            return _Checked(False, [])
        self._open.add(node_id)
        try:
            result = self._check_inputs(node_id)
        finally:
            self._open.discard(node_id)
        self._keep(node_id, result)
        return result

    def _keep(self, node_id: str, result: _Checked) -> None:
        self._checked[node_id] = result
        if result.errors:
            self._wrong[node_id] = result

    def _check_inputs(self, node_id: str) -> _Checked:
        values: Json = self._prompt[node_id]["inputs"]
        node = self._nodes[self._prompt[node_id]["class_type"]]
        errors: list[Json] = []
        valid = True
        for name, (spec, required) in self._declared(node_id).items():
            if name not in values:
                if required:
                    errors.append(_required_missing(name))
                continue
            if isinstance(values[name], list):
                valid = self._check_link(name, spec, values[name], errors) and valid
            elif (error := _convert(values, name, spec)) is not None or (
                name not in node.checks_itself
                and (error := _check_value(values[name], name, spec)) is not None
            ):
                errors.append(error)
        if node.check is not None and (refusal := node.check(self._directories, values)) is not None:
            errors.append(_custom_failed(*refusal))
        return _Checked(valid and not errors, errors)

    def _check_link(self, name: str, spec: Input, link: list[Any], errors: list[Json]) -> bool:
        """Judge one link and what is behind it. Whether the other end is all right."""
        config = spec.config()
        if len(link) != 2:
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            extra = {"input_name": name, "input_config": config, "received_value": link}
            errors.append(_error("bad_linked_input", message, name, extra))
            return True
        source, received = link[0], self._sent(link)
        if not _matches(received, spec.type):
            extra = {
                "input_name": name,
                "input_config": config,
                "received_type": received,
                "linked_node": link,
            }
            details = f"{name}, received_type({received}) mismatch input_type({spec.type})"
            message = "Return type mismatch between linked nodes"
            errors.append(_error("return_type_mismatch", message, details, extra))
            return True
        try:
            return self._check(source).valid
        except _WRONG_SHAPE as error:
            found = _exception_error("exception_during_inner_validation", error)
            found["extra_info"] = {
                "input_name": name,
                "input_config": config,
                "exception_message": str(error),
                **found["extra_info"],
                "linked_node": link,
            }
            self._keep(source, _Checked(False, [found]))
            return False


def _matches(received: str, wanted: str | list[str]) -> bool:
    """Do all the types that a slot may send belong to those that the input takes? `*` is any."""
    if isinstance(wanted, list):
        return received in {"COMBO", "*"}
    if "*" in {received, wanted}:
        return True
    return set(received.split(",")) <= set(wanted.split(","))


def _convert(values: Json, name: str, spec: Input) -> Json | None:
    """Make the literal what its type says, in place. The error when that cannot be."""
    if isinstance(values[name], dict) and "__value__" in values[name]:
        values[name] = values[name]["__value__"]
    convert = _CONVERSIONS.get(spec.type) if isinstance(spec.type, str) else None
    if convert is None:
        return None
    try:
        values[name] = convert(values[name])
    except (TypeError, ValueError, OverflowError) as error:
        return _error(
            "invalid_input_type",
            f"Failed to convert an input value to a {spec.type} value",
            f"{name}, {values[name]}, {error}",
            {
                "input_name": name,
                "input_config": spec.config(),
                "received_value": values[name],
                "exception_message": str(error),
            },
        )
    return None


def _check_value(value: Any, name: str, spec: Input) -> Json | None:
    """Bounds and choices. The first thing wrong with the value."""
    options = spec.options or {}
    extra = {"input_name": name, "input_config": spec.config(), "received_value": value}
    if "min" in options and value < options["min"]:
        message = f"Value {value} smaller than min of {options['min']}"
        return _error("value_smaller_than_min", message, name, extra)
    if "max" in options and value > options["max"]:
        message = f"Value {value} bigger than max of {options['max']}"
        return _error("value_bigger_than_max", message, name, extra)
    # Only the older kind of choices is checked before the run; for the newer ("COMBO") the node itself fails.
    choices = spec.type
    if isinstance(choices, list) and value not in choices:
        listed = f"{choices}"
        if len(choices) > _LONG_LIST:
            # A long list of files would fill the answer: ComfyUI names its length only.
            listed = f"(list of length {len(choices)})"
            extra["input_config"] = None
        return _error("value_not_in_list", "Value not in list", f"{name}: '{value}' not in {listed}", extra)
    return None


def _error(kind: str, message: str, details: str = "", extra: Json | None = None) -> Json:
    return {"type": kind, "message": message, "details": details, "extra_info": extra or {}}


def _refused(message: str, node_id: str) -> Verdict:
    return Verdict(error=_error("invalid_prompt", message, f"Node ID '#{node_id}'"))


def _required_missing(name: str) -> Json:
    return _error("required_input_missing", "Required input is missing", name, {"input_name": name})


def _custom_failed(name: str, reason: str) -> Json:
    details = f"{name} - {reason}"
    return _error(
        "custom_validation_failed", "Custom validation failed for node", details, {"input_name": name}
    )


def _exception_error(kind: str, error: Exception) -> Json:
    inner = "inner " if kind == "exception_during_inner_validation" else ""
    extra = {"exception_type": type(error).__name__, "traceback": traceback.format_tb(error.__traceback__)}
    return _error(kind, f"Exception when validating {inner}node", str(error), extra)
