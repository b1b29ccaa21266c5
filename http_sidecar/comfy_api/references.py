"""Assets in a graph: `{"__type": "core/ASSET", "info": {"id": …}}` where a file's name would stand."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from comfy_mcp.domain import large_json
from comfy_mcp.domain.errors import NotFound
from comfy_mcp.domain.file_inputs import output_name, with_inputs
from comfy_mcp.domain.ids import NodeId, OutputId
from comfy_mcp.operations.assets import reference
from comfy_mcp.operations.beside import beside
from http_sidecar.app_state import BRIDGE, CALLER
from http_sidecar.comfy_api.calls import Refused

TYPE = "core/ASSET"
MOST = 64
"""Different assets in one graph, as a submit takes of files."""


async def resolved(request: web.Request, graph: Mapping[str, Any]) -> dict[str, Any]:
    """The graph with each reference replaced by what the bridge calls the file. Linear in the graph.

    Raises Refused for one that is malformed, or whose asset the caller does not have.
    """
    large = large_json.is_large(graph)
    found = await beside(large, _ids_in, graph)
    ids = set(found.values())
    if len(ids) > MOST:
        raise _missing(f"The workflow names more than {MOST} assets.", "Use fewer.")
    texts = {asset_id: await _text_of(request, asset_id) for asset_id in ids}
    return await beside(
        large, with_inputs, graph, {where: texts[asset_id] for where, asset_id in found.items()}
    )


def _ids_in(graph: Mapping[str, Any]) -> dict[tuple[NodeId, str], str]:
    """The asset at each input that names one."""
    return {
        (NodeId(node_id), name): _id_of(node_id, name, value)
        for node_id, node in graph.items()
        if isinstance(node, Mapping) and isinstance(node.get("inputs"), Mapping)
        for name, value in node["inputs"].items()
        if isinstance(value, Mapping) and value.get("__type") == TYPE
    }


def _id_of(node_id: str, name: str, value: Mapping[str, Any]) -> str:
    info = value.get("info")
    asset_id = info.get("id") if isinstance(info, Mapping) else None
    if not isinstance(asset_id, str) or not asset_id:
        raise _missing(
            f"Node {node_id[:64]}, input {name[:64]!r}: the asset has no id.",
            'Write {"__type": "core/ASSET", "info": {"id": "…"}}.',
        )
    return asset_id


async def _text_of(request: web.Request, asset_id: str) -> str:
    bridge, caller = request.app[BRIDGE], request[CALLER]
    try:
        return reference(await bridge.assets.find(asset_id, caller))
    except NotFound:
        pass
    try:
        return output_name(OutputId((await bridge.outputs.find(asset_id, caller)).id))
    except NotFound:
        raise _missing(
            f"Asset {asset_id[:64]} not found.", "Upload the file, and use the id in the answer."
        ) from None


def _missing(message: str, next_step: str) -> Refused:
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "missing_asset", message, next_step)
