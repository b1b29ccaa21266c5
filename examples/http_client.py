"""An HTTP client with the standard library alone: submit a workflow, follow it, save what it made.

    comfy-bridge serve                                   # in another shell
    python examples/http_client.py examples/01_picture.json pictures

BRIDGE_URL says where the sidecar is; BRIDGE_KEY is sent where it asks for a key.
"""

import json
import os
import sys
import uuid
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

URL = os.environ.get("BRIDGE_URL", "http://127.0.0.1:9090").rstrip("/")
KEY = os.environ.get("BRIDGE_KEY")
V1 = f"{URL}/v1/comfyui"
TIMEOUT_S = 60
TRIES = 5


def main(workflow: dict[str, Any], folder: Path) -> int:
    # The same key with the same body is one job, however often it is sent.
    once = {"Idempotency-Key": str(uuid.uuid4())}
    submitted = json.load(ask("POST", f"{V1}/workflow", {"workflow": workflow}, **once))
    workflow_id = submitted["workflowId"]
    print(f"submitted as {workflow_id}, position {submitted['queuePosition']}", file=sys.stderr)

    last: dict[str, Any] = {}
    for last in follow(workflow_id):
        if last["type"] == "workflow:progress":
            print(f"{last['progress']:.0f} % {last['currentNode'] or ''}", file=sys.stderr)
    if last["type"] != "workflow:completed":
        print(f"{last['type']}: {last.get('error')}", file=sys.stderr)
        return 1
    for output in last["outputs"]:
        name = Path(output["filename"] or f"{output['url'].rpartition('/')[2]}.txt").name
        with ask("GET", f"{URL}{output['url']}") as content, (folder / name).open("wb") as file:
            while part := content.read(65536):
                file.write(part)
        print(folder / name)
    return 0


def ask(method: str, url: str, body: object = None, **headers: str) -> HTTPResponse:
    """Raises HTTPError; its body says what to do next."""
    if KEY is not None:
        headers["X-API-Key"] = KEY
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        headers["Content-Type"] = "application/json"
    request = Request(url, data=data, headers=headers, method=method)  # noqa: S310 - the user's own URL
    answer: HTTPResponse = urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
    return answer


def follow(workflow_id: str) -> Iterator[dict[str, Any]]:
    """Every message until the workflow has ended. A connection that breaks is resumed where it was."""
    last_id = "0"
    for _ in range(TRIES):
        try:
            with ask("GET", f"{V1}/workflow/{workflow_id}/events", **{"Last-Event-ID": last_id}) as events:
                for event_id, message in messages(events):
                    last_id = event_id or last_id
                    yield message
                    if message["type"] in {"workflow:completed", "workflow:error", "workflow:cancelled"}:
                        return
        except HTTPError:
            raise
        except (OSError, HTTPException) as error:
            print(f"the connection broke ({error}); again", file=sys.stderr)
    raise ConnectionError(f"the stream broke {TRIES} times")


def messages(events: HTTPResponse) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Server-Sent Events: `id:` and `data:` lines, and an empty one after each."""
    fields: dict[str, str] = {}
    for line in events:
        name, _, value = line.decode().rstrip("\r\n").partition(": ")
        if name:
            fields[name] = value
        elif "data" in fields:
            yield fields.get("id"), json.loads(fields["data"])
            fields = {}


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} WORKFLOW.json FOLDER")
    target = Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    try:
        sys.exit(main(json.loads(Path(sys.argv[1]).read_text()), target))
    except HTTPError as refused:
        problem = json.load(refused)
        sys.exit(f"{problem['statusCode']} {problem['code']}: {problem['detail']}")
