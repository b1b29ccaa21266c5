"""Nodes for a real ComfyUI in tests: one that runs out of memory, one that takes its time.

Goes into ComfyUI's custom_nodes folder and runs in its process. Nothing of ComfyUI is imported.
"""

import threading
from collections import Counter
from typing import Any

import torch  # type: ignore[import-not-found]  # it is in ComfyUI's environment

_failures: Counter[str] = Counter()


class BridgeRunsOutOfMemory:
    """Passes an image on, but raises torch's error the first `times` times under one `key`."""

    CATEGORY = "bridge tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name for it
        return {
            "required": {
                "image": ("IMAGE",),
                "times": ("INT", {"default": 1, "min": 0}),
                "key": ("STRING", {"default": ""}),
            }
        }

    def run(self, image: Any, times: int, key: str) -> tuple[Any]:
        if _failures[key] < times:
            _failures[key] += 1
            raise torch.OutOfMemoryError("Allocation on device 0 would exceed allowed memory.")
        return (image,)


class BridgeTakesItsTime:
    """ComfyUI looks for an interrupt between two nodes: a chain of these runs until it is interrupted."""

    CATEGORY = "bridge tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name for it
        return {"required": {"image": ("IMAGE",), "milliseconds": ("INT", {"default": 50, "min": 0})}}

    def run(self, image: Any, milliseconds: int) -> tuple[Any]:
        threading.Event().wait(milliseconds / 1000)
        return (image,)


NODE_CLASS_MAPPINGS = {
    "BridgeRunsOutOfMemory": BridgeRunsOutOfMemory,
    "BridgeTakesItsTime": BridgeTakesItsTime,
}
