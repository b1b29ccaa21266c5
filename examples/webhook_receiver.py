"""Receives the events of workflows, and believes only those that are signed.

    comfy-bridge webhooks set http://127.0.0.1:8000/comfy      # prints the secret, once
    WEBHOOK_SECRET=whsec_… python examples/webhook_receiver.py

It needs aiohttp (`pip install aiohttp`). A private address like this one needs COMFY_BRIDGE_PRIVATE_URLS=true
where the bridge runs. The package `standardwebhooks` verifies in the same way, in many languages; this is
what it does.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping

from aiohttp import web

TOLERANCE_S = 300
"""An older message may be somebody's copy."""

REMEMBERED = 10_000


def is_signed(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether a signature is ours and the message is new. While a secret is rotated there are two."""
    sent_at = headers.get("webhook-timestamp", "")
    if not sent_at.isdigit() or abs(now - int(sent_at)) > TOLERANCE_S:
        return False
    content = f"{headers.get('webhook-id', '')}.{sent_at}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    ours = "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    given = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(each.encode(), ours.encode()) for each in given)


def receiver(secret: str) -> web.Application:
    """An application that prints each event once, however often it is sent."""
    seen: OrderedDict[str, None] = OrderedDict()

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        if not is_signed(secret, request.headers, body, time.time()):
            return web.Response(status=401)
        message_id = request.headers["webhook-id"]
        if message_id not in seen:
            seen[message_id] = None
            while len(seen) > REMEMBERED:
                seen.popitem(last=False)
            event = json.loads(body)
            print(event["timestamp"], event["type"], event["data"]["workflowId"], flush=True)
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/comfy", receive)
    return app


if __name__ == "__main__":
    if not os.environ.get("WEBHOOK_SECRET", "").startswith("whsec_"):
        sys.exit("WEBHOOK_SECRET is what `comfy-bridge webhooks set` or `rotate` printed: whsec_…")
    web.run_app(receiver(os.environ["WEBHOOK_SECRET"]), host="127.0.0.1", port=8000)
