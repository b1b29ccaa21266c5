"""Where a bridge may kill or stop itself (tests/support/chaos.py): on the way of a job through it."""

import random
from typing import Any

CALLS = (
    "comfy_mcp.store.store:Store.add_job",
    "comfy_mcp.store.store:Store.add_and_claim",
    "comfy_mcp.store.store:Store.add_and_claim_now",
    "comfy_mcp.store.store:Store.claim_next",
    "comfy_mcp.store.store:Store.record",
    "comfy_mcp.store.store:Store.record",
    "comfy_mcp.store.store:Store.record_and_claim",
    "comfy_mcp.store.store:Store.request_cancel",
    "comfy_mcp.store.journal:apply",
    "comfy_mcp.store.journal:_update",
    "comfy_mcp.store.journal:_append",
    "comfy_mcp.store.outputs:add",
    "comfy_mcp.places.comfyui.client:ComfyUIClient.post_prompt",
    "comfy_mcp.places.comfyui.client:ComfyUIClient.post_prompt",
    "comfy_mcp.places.comfyui.client:ComfyUIClient.history",
    "comfy_mcp.places.comfyui.client:ComfyUIClient.queue",
    "comfy_mcp.places.comfyui.client:ComfyUIClient.interrupt",
    "comfy_mcp.places.comfyui.client:ComfyUIClient.delete_pending",
    "comfy_mcp.store.claims:begin_attempt",
    "comfy_mcp.driving.tenure:Tenure.take_reserved",
    "comfy_mcp.driving.ledger:Ledger._write",
    "comfy_mcp.driving.hearing:Hearing._seen",
)
FILE_CALLS = (
    "comfy_mcp.library.spool:Spool.keep",
    "comfy_mcp.library.spool:Spool.open",
    "comfy_mcp.places.comfyui.place:ComfyUIPlace.prepare",
    "comfy_mcp.places.comfyui.client:ComfyUIClient.view_size",
    "comfy_mcp.places.comfyui.client:ComfyUIClient.upload_image",
    "comfy_mcp.driving.bringing:Bringing.takes",
    "comfy_mcp.driving.bringing:Bringing.brought",
)
CLOUD_CALLS = (
    "comfy_mcp.store.spending:require",
    "comfy_mcp.store.spending:count",
    "comfy_mcp.store.claims:begin_attempt",
    "comfy_mcp.store.claims:keep_reference",
    "comfy_mcp.places.cloud.place:CloudPlace.submit",
    "comfy_mcp.places.cloud.place:CloudPlace._post",
    "comfy_mcp.places.cloud.place:CloudPlace.cancel",
    "comfy_mcp.places.cloud.place:CloudPlace._kept_whole",
    "comfy_mcp.places.cloud.salad:Salad.create",
    "comfy_mcp.places.cloud.salad:Salad.job",
    "comfy_mcp.places.cloud.comfy_api:ComfyApi.create",
    "comfy_mcp.places.cloud.comfy_api:ComfyApi.job",
)
"""From the reservation of a job at a service to its end."""

STEPS = (
    "comfy_mcp.driving.attempt:Attempt.hear",
    "comfy_mcp.driving.attempt:Attempt.start",
    "comfy_mcp.driving.attempt:Attempt.settle",
    "comfy_mcp.driving.attempt:Attempt.report_progress",
    "comfy_mcp.driving.attempt:Attempt.written",
    "comfy_mcp.driving.attempt:Attempt.told_result",
    "comfy_mcp.driving.ends:Ends.of_result",
    "comfy_mcp.driving.ledger:Ledger.settle",
    "comfy_mcp.driving.ledger:Ledger._write",
    "comfy_mcp.driving.claiming:Claiming._followed",
    "comfy_mcp.driving.hearing:Hearing._seen",
    "comfy_mcp.driving.hearing:Hearing._over",
    "comfy_mcp.driving.hearing:Hearing._absent",
    "comfy_mcp.driving.hearing:Hearing._looked",
    "comfy_mcp.driving.hearing:Hearing._submitted",
    "comfy_mcp.driving.bringing:Bringing.takes",
    "comfy_mcp.places.comfyui.place:ComfyUIPlace.submit",
    "comfy_mcp.places.comfyui.place:ComfyUIPlace.lookup",
    "comfy_mcp.places.comfyui.place:ComfyUIPlace.cancel",
    "comfy_mcp.places.comfyui.client:ComfyUIClient.post_prompt",
    "comfy_mcp.places.comfyui.client:ComfyUIClient.history",
)
"""Where one attempt is prepared, sent, heard of, looked up, concluded and written."""

COMMITS = (
    "comfy_mcp.store.store:Store.claim_next",
    "comfy_mcp.store.store:Store.record_and_claim",
    "comfy_mcp.store.store:Store.record",
)
"""Where a defect behind the commit leaves a claim, or an end, of which nobody hears."""

LINES = (
    ["comfy_mcp/operations/", "comfy_mcp/store/queue.py", "comfy_mcp/store/journal.py"],
    ["comfy_mcp/driving/"],
    ["comfy_mcp/store/"],
    [f"comfy_mcp/places/comfyui/{name}.py" for name in ("client", "transport", "place")],
)


def a_call(rng: random.Random, *, signal: str = "KILL") -> dict[str, Any]:
    where = {"target": rng.choice(CALLS), "when": rng.choice(["before", "after"])}
    return {"at": where | {"nth": rng.choice([1, 1, 1, 2, 3]), "signal": signal}}


def a_file_call(rng: random.Random) -> dict[str, Any]:
    where = {"target": rng.choice(FILE_CALLS), "when": rng.choice(["before", "after"])}
    return {"at": where | {"nth": rng.choice([1, 1, 2, 3]), "signal": "KILL"}}


def a_cloud_call(rng: random.Random) -> dict[str, Any]:
    where = {"target": rng.choice(CLOUD_CALLS), "when": rng.choice(["before", "after"])}
    return {"at": where | {"nth": rng.choice([1, 1, 2, 3, 5]), "signal": "KILL"}}


def a_pause(rng: random.Random) -> dict[str, Any]:
    return a_call(rng, signal="STOP")


def a_defect(rng: random.Random) -> dict[str, Any]:
    """Once, or for as long as the attempt lives."""
    where = {"target": rng.choice(STEPS), "nth": rng.choice([1, 1, 1, 2, 3])}
    return {"raise": where | {"times": rng.choice([1, 2, 1_000_000])}}


def a_defect_behind_a_commit(rng: random.Random) -> dict[str, Any]:
    where = {"target": rng.choice(COMMITS), "nth": rng.choice([1, 1, 2])}
    return {"raise": where | {"times": 1, "when": "after"}}


def a_line(rng: random.Random) -> dict[str, Any]:
    """Anywhere from the first lines that run to the last ones of a trial."""
    return {"line": {"files": rng.choice(LINES), "nth": round(10 ** rng.uniform(1.5, 4.0))}}
