"""What a hostile client submits: one body for each of the cases that once stopped everybody."""

import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

WORKFLOW = "/v1/comfyui/workflow"
Body = tuple[str, bytes]
"""The content type, and the bytes."""


def _graph(graph: Any) -> Body:
    return "application/json", json.dumps({"workflow": graph}).encode()


def _shows(value: object, count: int = 1) -> dict[str, Any]:
    return {str(at): {"class_type": "PreviewAny", "inputs": {"source": value}} for at in range(count)}


def nested_subgraphs() -> Body:
    """Forty, each twice in the next: 10 KB."""
    ids = [f"{at:08d}-0000-4000-8000-000000000000" for at in range(41)]

    def node(kind: str, at: int) -> dict[str, Any]:
        return {"id": at, "type": kind, "inputs": [], "outputs": [], "widgets_values": [], "mode": 0}

    none: dict[str, Any] = {"links": [], "inputs": [], "outputs": []}
    definitions = [
        {"id": mine, "name": mine, "nodes": [node(inner, 1), node(inner, 2)], **none}
        for mine, inner in zip(ids, [*ids[1:], "Note"], strict=True)
    ]
    top = {"nodes": [node(ids[0], 1)], "links": [], "version": 0.4}
    return _graph({**top, "definitions": {"subgraphs": definitions}})


def dots() -> Body:
    blank = {"width": 16, "height": 16, "batch_size": 1, "color": 0}
    prefix = "%" + "." * 200_000
    return _graph(
        {
            "1": {"class_type": "EmptyImage", "inputs": blank},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
        }
    )


def missing_nodes() -> Body:
    return _graph(
        {str(at): {"class_type": "PreviewAny", "inputs": {"source": ["no", 0]}} for at in range(50_000)}
    )


def loops() -> Body:
    def both(at: int) -> dict[str, Any]:
        return {"image1": [str(max(0, at - 1)), 0], "image2": ["0", 0]}

    return _graph({str(at): {"class_type": "ImageBatch", "inputs": both(at)} for at in range(25_000)})


def long_option() -> Body:
    graph = _shows(["x", 0], 2_000)
    graph["x"] = {"class_type": "LoadImage", "inputs": {"image": "n" * 100_000}}
    return _graph(graph)


def unknown_names() -> Body:
    node = {"class_type": "PreviewAny", "inputs": {f"x{at}": 1 for at in range(240_000)} | {"source": 1}}
    return _graph({"1": node})


def chain() -> Body:
    nodes: dict[str, Any] = {"0": {"class_type": "PrimitiveString", "inputs": {"value": "a"}}}
    for at in range(1, 50_000):
        nodes[str(at)] = {"class_type": "PreviewAny", "inputs": {"source": [str(at - 1), 0]}}
    return _graph(nodes)


def many_keys() -> Body:
    return _graph({str(at): {} for at in range(600_000)})


def long_texts() -> Body:
    """A history of 73 MB."""
    graph = _shows(["x", 0], 80)
    graph["x"] = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "t" * 900_000}}
    return _graph(graph)


def data_uris() -> Body:
    return _graph(
        {"1": {"class_type": "LoadImage", "inputs": {"image": "data:image/png," + "%41" * 1_000_000}}}
    )


def packed_texts() -> Body:
    """A PNG of a megabyte whose texts unpack to a gigabyte."""
    text = zlib.compress(b"[" * 8_000_000, 9)
    chunk = b"workflow\0\0" + text
    one = struct.pack(">I4s", len(chunk), b"zTXt") + chunk + bytes(4)
    head = struct.pack(">I4s", 13, b"IHDR") + bytes(13) + bytes(4)
    return "image/png", b"\x89PNG\r\n\x1a\n" + head + one * 120


def urls() -> Body:
    """Addresses at which nobody answers, of this machine and of none."""
    where = [
        "http://127.0.0.1:9/a.png",
        "http://10.255.255.1/a.png",
        "http://[::1]:9/a.png",
        "file:///etc/passwd",
    ]
    return _graph(
        {str(at): {"class_type": "LoadImage", "inputs": {"image": url}} for at, url in enumerate(where)}
    )


def _arguments(**arguments: Any) -> Body:
    return "application/json", json.dumps(arguments).encode()


def wrong_list() -> Body:
    return _arguments(workflow="text-to-image", labels=[1] * 1_500_000)


def wrong_object() -> Body:
    return _arguments(workflow="text-to-image", matrix={f"x{at}": 1 for at in range(350_000)})


def wrong_workflow() -> Body:
    return _arguments(workflow=[{"a": 1}] * 500_000)


def many_arguments() -> Body:
    return _arguments(workflow="text-to-image", **{f"x{at}": 1 for at in range(350_000)})


def text_in_a_wrapper() -> Body:
    graph = _shows("a", 40_000)
    return _arguments(workflow={"workflow": json.dumps(graph)})


BODIES: dict[str, Callable[[], Body]] = {
    "40 nested subgraphs": nested_subgraphs,
    "200,000 dots": dots,
    "50,000 links to missing nodes": missing_nodes,
    "25,000 nodes in loops": loops,
    "one wrong option, 2,000 outputs": long_option,
    "240,000 unknown input names": unknown_names,
    "a valid chain of 50,000 nodes": chain,
    "600,000 keys": many_keys,
    "80 texts of 0.9 MB": long_texts,
    "a data: URI of 3 MB": data_uris,
    "texts that unpack to 1 GB": packed_texts,
    "URLs of private addresses": urls,
    "a list of 1,500,000 wrong entries": wrong_list,
    "an object of 350,000 wrong entries": wrong_object,
    "a list in place of a workflow": wrong_workflow,
    "350,000 arguments": many_arguments,
    "JSON text in a wrapper": text_in_a_wrapper,
}
