"""aiohttp without what it loads as it is imported and an engine's client seldom needs.

It reads the certificates that the system trusts, twice: 2 MB and 40 ms of CPU, though most engines are
reached without TLS. Here they are read at the first connection that needs them. And its lists of signals
are C++: for that alone a process has libstdc++, 1 MB; there is the same in Python.
"""

import os
import ssl
import sys
from importlib import import_module
from typing import Any

_WITHOUT = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull, "FROZENLIST_NO_EXTENSIONS": "1"}


class _Late(ssl.SSLContext):
    """Reads the system's certificates before its first connection."""

    _has_read = False

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        if not self._has_read:
            self.load_default_certs()
            self._has_read = True
        return super().wrap_bio(*arguments, **named)


def import_aiohttp() -> None:
    """Does nothing where it is imported already: then all is as aiohttp has it."""
    if "aiohttp" in sys.modules:
        return
    before = {name: os.environ[name] for name in _WITHOUT.keys() & os.environ.keys()}
    os.environ.update(_WITHOUT)
    try:
        connector: Any = import_module("aiohttp.connector")
    finally:
        for name in _WITHOUT:
            del os.environ[name]
        os.environ.update(before)
    connector._SSL_CONTEXT_VERIFIED.__class__ = _Late  # noqa: SLF001 - aiohttp has no other place for it
