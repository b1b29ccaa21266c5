"""The texts of a file that are looked for, and how much of it may be read for them."""

from dataclasses import dataclass, field
from typing import BinaryIO

MAX_PARTS = 20_000
"""Most parts (chunks, boxes, pages, tags) of a file that are looked at."""

MAX_TEXTS = 4
"""Texts of the greatest length that a file may have."""

_NAMES = frozenset({"prompt", "workflow"})

_COMMENTS = frozenset({"comment", "\xa9cmt", "cmt", "description", "parameters", "usercomment"})


class Damaged(Exception):
    """A text that is there can't be read."""


class TextTooLong(Exception):
    """A text is longer than asked for."""


@dataclass(slots=True)
class Texts:
    """The texts found so far, each by its first occurrence. `most`: bytes of one text."""

    most: int
    found: dict[str, bytes] = field(default_factory=dict)
    parts: int = 0
    taken: int = 0

    def take(self, name: str, text: bytes) -> None:
        """A text under a name. Some programs write `workflow:{…}` under names of their own.

        Raises TextTooLong where all together are: a kilobyte of a PNG unpacks to a megabyte.
        """
        self.taken += len(text)
        if self.taken > MAX_TEXTS * self.most:
            raise TextTooLong
        key = name.strip().lower()
        head, colon, rest = text.partition(b":")
        inner = head.strip().lower().decode("latin-1")
        if key in _NAMES:
            self.found.setdefault(key, text)
        elif colon and inner in _NAMES:
            self.found.setdefault(inner, rest)
        elif key in _COMMENTS and text.lstrip()[:1] == b"{":
            self.found.setdefault("comment", text)
        elif key in _COMMENTS and is_settings(text):
            self.found.setdefault("settings", text)

    def read(self, stream: BinaryIO, size: int) -> bytes:
        """The next `size` bytes. Raises TextTooLong, and ValueError where the file ends before."""
        if size > self.most:
            raise TextTooLong
        return exactly(stream, size)

    def step(self) -> bool:
        """Whether there is budget for one more part."""
        self.parts += 1
        return self.parts <= MAX_PARTS


def exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise ValueError("cut")
    return data


def is_settings(text: bytes) -> bool:
    """A prompt with settings, as programs without nodes write them: `Steps: 20, Sampler: Euler a, …`."""
    return b"Steps: " in text and b"Sampler: " in text


def wanted(name: str) -> bool:
    return name.strip().lower() in _NAMES | _COMMENTS
