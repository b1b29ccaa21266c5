"""What travels with a graph: the file as the client submitted it, and ComfyUI's `extra_data`.

Nodes write the members of `extra_pnginfo` into the files that they save. Its `workflow` is what the editor
restores from a picture. Secrets that stand in the body of a submit are not kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from comfy_mcp.domain.graph import OBJECT, unwrapped
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.domain.ui_format import is_ui_format

PASSED = ("extra_pnginfo", "preview_method")
"""The keys of `extra_data` that a client may send. The others are secrets, or ComfyUI's own."""

MAX_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What is kept of a submit beside the graph in API format.

    `file`: what was submitted, where that is not the graph itself: a file in UI format, or a body
    `{"prompt": …, "extra_data": …}`. `may_spend`: partner nodes of this job may use the client's Comfy key.
    `save_to`: the path on this machine where a wait writes the outputs.
    """

    file: Mapping[str, Any] | None = None
    may_spend: bool = False
    save_to: str | None = None

    def extra_data(self, client: ClientId) -> "ExtraData":
        """What the engine gets beside the graph."""
        return ExtraData(
            values={} if self.file is None else _values(self.file),
            spender=client if self.may_spend else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraData:
    """`values` are sent as they are. `spender`: the place adds this client's Comfy key to the request."""

    values: Mapping[str, Any] = field(default_factory=dict)
    spender: ClientId | None = None


def submitted_file(raw: object) -> tuple[Mapping[str, Any] | None, tuple[str, ...]]:
    """The part of a submit that is kept as `Submitted.file`, and a warning about what is left out."""
    if not isinstance(raw, OBJECT):
        return None, ()
    graph = unwrapped(raw)
    given = raw.get("extra_data") if graph is not raw else None
    if given is None:
        return (graph if is_ui_format(graph) else None), ()
    extra_data, left_out = _allowed(given)
    warnings = () if not left_out else (f"{left_out} {_NOT_SENT}",)
    if extra_data:
        return {"prompt": graph, "extra_data": extra_data}, warnings
    return (graph if is_ui_format(graph) else None), warnings


_NOT_SENT = (
    f"not sent to the engine: of extra_data only {' and '.join(PASSED)} are. "
    "A key for partner nodes is a setting, COMFY_BRIDGE_COMFY_ORG_API_KEY."
)


def _allowed(given: object) -> tuple[dict[str, Any], str]:
    """What may go to the engine, and in words what may not."""
    if not isinstance(given, Mapping):
        return {}, "extra_data is not an object and is"
    allowed = {name: given[name] for name, kind in _KINDS.items() if isinstance(given.get(name), kind)}
    others = [str(name)[:60] for name in given if name not in allowed]
    named = ", ".join(f"extra_data.{name}" for name in others[:MAX_NAMED])
    more = f" and {len(others) - MAX_NAMED} more" if len(others) > MAX_NAMED else ""
    return allowed, f"{named}{more} {'is' if len(others) == 1 else 'are'}" if others else ""


_KINDS: Mapping[str, type] = {"extra_pnginfo": dict, "preview_method": str}


def _values(file: Mapping[str, Any]) -> dict[str, Any]:
    """The `extra_data` of a kept file. A file in UI format is its `extra_pnginfo.workflow`, unless the client
    gave another."""
    graph = unwrapped(file)
    extra_data = dict(file["extra_data"]) if graph is not file else {}
    if is_ui_format(graph):
        extra_data["extra_pnginfo"] = {"workflow": graph, **extra_data.get("extra_pnginfo", {})}
    return extra_data
