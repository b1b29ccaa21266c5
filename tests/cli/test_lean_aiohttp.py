"""What the system trusts is read late, and then it counts as ever."""

import asyncio
import os
import ssl
import sys
from pathlib import Path

import pytest

from tests.support.certificates import loopback_certificate
from tests.support.fake_engine import FakeEngine

POST = """
import asyncio, sys
from comfy_mcp.cli.lean_aiohttp import import_aiohttp
import_aiohttp()
from aiohttp.connector import _SSL_CONTEXT_VERIFIED as trusting
from comfy_mcp.places.posting import Poster

read = len(trusting.get_ca_certs())
posted = [asyncio.run(Poster(private=True)(sys.argv[1], {}, b"{}")).error for _ in range(2)]
print(read, posted)
"""


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_a_certificate_is_trusted_if_the_system_trusts_it(tmp_path: Path, is_trusted: bool) -> None:
    certificate = loopback_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    trusted = {"SSL_CERT_FILE": str(certificate)} if is_trusted else {}
    async with FakeEngine(ssl_context=context) as engine:
        done = await asyncio.create_subprocess_exec(
            sys.executable, "-c", POST, f"{engine.url}/prompt", env=os.environ | trusted,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said = (await done.communicate())[0].decode()
    assert said.startswith("0 ["), "nothing is read before it is needed"
    assert ("certificate" in said) is not is_trusted, said
