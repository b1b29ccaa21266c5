"""A batch of images: Pillow frames of one size, 8 bits a channel, never changed in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from PIL import Image

from comfy_mcp.embedded.nodes.base import NodeFailure


@dataclass(frozen=True, slots=True)
class Frames:
    frames: tuple[Image.Image, ...]

    def __post_init__(self) -> None:
        if not self.frames:
            raise NodeFailure("A batch holds at least one image.", kind="RuntimeError")

    @property
    def size(self) -> tuple[int, int]:
        return self.frames[0].size

    @property
    def mode(self) -> str:
        return self.frames[0].mode

    @property
    def pixels(self) -> int:
        """Pixels held in memory; frames that repeat one picture count once."""
        return sum(frame.width * frame.height for frame in {id(f): f for f in self.frames}.values())

    def each(self, change: Callable[[Image.Image], Image.Image]) -> Frames:
        """Apply a pure function to every frame; a repeated picture is computed once."""
        done: dict[int, Image.Image] = {}
        for frame in self.frames:
            if id(frame) not in done:
                done[id(frame)] = change(frame)
        return Frames(tuple(done[id(frame)] for frame in self.frames))

    def __repr__(self) -> str:
        width, height = self.size
        return f"Frames({len(self.frames)} of {width}x{height} {self.mode})"


def batch(frames: Iterable[Image.Image]) -> Frames:
    return Frames(tuple(frames))


def check_size(width: int, height: int, limit: int) -> None:
    """Refuse before memory is allocated. Raises NodeFailure."""
    if width < 1 or height < 1:
        raise NodeFailure(f"An image of {width}x{height} has no pixels.", kind="RuntimeError")
    if width * height > limit:
        raise NodeFailure(
            f"{width}x{height} is over this engine's limit of {limit} pixels: ask for a smaller image.",
            kind="RuntimeError",
        )


def check_batch(images: Frames, limit: int) -> None:
    """Refuse a batch that holds more pixels than allowed. Raises NodeFailure."""
    if images.pixels > limit:
        raise NodeFailure(
            f"A batch of {images.pixels} pixels is over this engine's limit of {limit}: use fewer images.",
            kind="RuntimeError",
        )
