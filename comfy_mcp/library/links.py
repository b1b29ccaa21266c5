"""Signed links to outputs, and the key that signs them: one file in the data folder, for all processes."""

import os
import secrets
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from uuid import uuid4

from comfy_mcp.domain.ids import OutputId
from comfy_mcp.domain.signed_links import LINK_S, holds, signature

KEY_BYTES = 32


class Links:
    """`public_url` is where clients reach the HTTP server; without it nobody is given whole links."""

    def __init__(self, key_file: Path, public_url: str | None, *, now_ms: Callable[[], int]) -> None:
        self._key_file = key_file
        self._public_url = public_url
        self._now_ms = now_ms

    @property
    def given(self) -> bool:
        return self._public_url is not None

    def of(self, path: str, output_id: OutputId) -> str:
        """The absolute URL of an output at `path`, good for LINK_S."""
        return f"{self._public_url}{path}?{self.signed(output_id)[0]}"

    def signed(self, output_id: str) -> tuple[str, int]:
        """The query of a link, and when it ends: in seconds of the epoch, LINK_S from now at most."""
        # To the hour: an answer that is asked for again is the same for a while, and can be cached.
        expires = (self._now_ms() // 1000 + LINK_S) // 3600 * 3600
        return f"expires={expires}&signature={signature(self._key, output_id, expires)}", expires

    def allows(self, output_id: str, expires: str, given: str) -> bool:
        """Whether the link is one of ours, for this output, and still good."""
        return holds(self._key, output_id, expires, given, now=self._now_ms() // 1000)

    @cached_property
    def _key(self) -> bytes:
        """Made by whoever needs it first. A file that is damaged is replaced: older links end."""
        for _ in range(2):
            key = self._read()
            if len(key) == KEY_BYTES:
                return key
            self._key_file.unlink(missing_ok=True)
            made = self._key_file.with_name(f".{uuid4().hex}.key")
            descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(secrets.token_bytes(KEY_BYTES))
            try:
                self._key_file.hardlink_to(made)  # whole, and never over that of another process
            except FileExistsError:
                pass
            finally:
                made.unlink()
        return self._read()

    def _read(self) -> bytes:
        try:
            return self._key_file.read_bytes()
        except FileNotFoundError:
            return b""
