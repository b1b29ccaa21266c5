"""Example calls and answers of the operations, for documents that are generated from the registry.

Members that are left out have their default. The graph needs no model: it runs on every engine.
"""

from collections.abc import Mapping
from typing import Any

Example = Mapping[str, Any]

_WORKFLOW_ID = "6f1c2b5e-0d1a-4c58-9a53-2f1f5a0d7c11"
_OUTPUT_ID = "o_3f9a1c"
_CREATED_MS = 1_795_500_000_000

SUBMIT_CALL: Example = {
    "workflow": {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 3_368_601},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "example"}},
    },
    "priority": "normal",
}

_OUTPUT = {
    "outputId": _OUTPUT_ID,
    "filename": "example_00001_.png",
    "workflowId": _WORKFLOW_ID,
    "type": "image",
    "size": 200,
    "createdAt": _CREATED_MS + 900,
    "url": f"/v1/comfyui/output/{_OUTPUT_ID}",
    "uri": f"comfy://outputs/{_OUTPUT_ID}",
    "nodeId": "2",
    "mediaType": "image/png",
}

WORKFLOW = {
    "workflowId": _WORKFLOW_ID,
    "status": "completed",
    "queuePosition": None,
    "progress": 100,
    "currentNode": None,
    "startTime": _CREATED_MS + 20,
    "completionTime": _CREATED_MS + 910,
    "outputs": [_OUTPUT],
    "error": None,
    "failure": None,
    "priority": "normal",
    "client": "local",
    "engine": "default",
    "attempt": 1,
    "createdTime": _CREATED_MS,
}

_ENTRY = {
    "name": "text-to-image",
    "origin": "starter",
    "label": "Text to image",
    "about": "A picture from a text. With sd15.safetensors (SD 1.5).",
    "inputs": ["prompt (text)", "steps (integer)"],
    "outputs": ["image"],
    "runnable": True,
}

_QUEUED = {"workflowId": _WORKFLOW_ID, "status": "queued", "queuePosition": 1}

GPU = {
    "available": True,
    "source": "nvml",
    "gpus": [
        {
            "index": 0,
            "name": "NVIDIA L4",
            "uuid": "GPU-8a1f0c55-7a0e-4f0c-9d55-3a6b1c2d4e5f",
            "utilization": 41.0,
            "memory": {"used": 6_442_450_944, "total": 24_152_899_584, "percentUsed": 26.7},
            "temperature": 55.0,
            "temperatureLimit": 94.0,
            "powerWatts": 48.5,
            "powerLimitWatts": 72.0,
            "graphicsClock": 2040,
            "memoryClock": 6251,
            "throttleReasons": ["sw_power_cap"],
            "slowedBy": ["sw_power_cap"],
            "eccCorrected": 0,
            "eccUncorrected": 0,
            "processes": [{"pid": 4711, "memory": 6_100_000_000}],
            "processCount": 1,
        }
    ],
}

_ENGINE = {
    "id": "default",
    "url": "http://127.0.0.1:8188",
    "up": True,
    "version": "0.3.75",
    "isComfyui": True,
    "queueRemaining": 0,
    "drivenBy": "this process",
}

_STORE = {
    "path": "/state/bridge.sqlite3",
    "driver": "pysqlite3",
    "version": "SQLite 3.53.4",
    "journalMode": "wal",
    "schemaRevision": "0002",
}

ENGINE_CHANGE: Example = {
    "engine": "gpu-1",
    "file": "/srv/bridge/engines.toml",
    "nextStep": "system_status shows it within seconds.",
}

_WEBHOOK: dict[str, Any] = {
    "client": "local",
    "url": "https://receiver.example/comfy",
    "events": ["workflow.completed"],
    "createdAt": _CREATED_MS,
}
_DELIVERY: Example = {
    "deliveryId": f"msg_{_WORKFLOW_ID}_completed_1",
    "workflowId": _WORKFLOW_ID,
    "type": "workflow.completed",
    "state": "dead",
    "url": "https://receiver.example/comfy",
    "tries": 23,
    "createdAt": _CREATED_MS + 910,
    "dueAt": None,
    "endedAt": _CREATED_MS + 90_000_000,
    "error": "the answer is HTTP 500",
}

SUBMITTED: Example = _QUEUED | {
    "nextStep": f'Call wait_for_workflow(workflow_id="{_WORKFLOW_ID}") to wait for its end.'
}
RETRIED: Example = _QUEUED | {"retryOf": "0c6a3b1e-5f8e-4a3c-9a0e-6f2f9c1d4b22"}
PRIORITIZED: Example = {
    "workflowId": _WORKFLOW_ID,
    "status": "queued",
    "priority": "high",
    "changed": 1,
    "queuePosition": 1,
    "nextStep": f'Call wait_for_workflow(workflow_id="{_WORKFLOW_ID}").',
}
GRAPH: Example = {"workflowId": _WORKFLOW_ID, "graph": SUBMIT_CALL["workflow"], "file": None}
CANCELLED: Example = {"workflowId": _WORKFLOW_ID, "status": "cancelled", "cancelRequested": True}
WORKFLOWS: Example = {"workflows": [WORKFLOW]}
QUEUE: Example = {"running": [], "queued": [], "counts": {"completed": 1}}
FOUND: Example = {"workflows": [_ENTRY], "total": 1, "nextStep": None}
DESCRIBED: Example = {
    "workflow": _ENTRY,
    "parameters": [
        {"name": "prompt", "type": "text", "value": "", "nodes": ["prompt.text"]},
        {"name": "steps", "type": "integer", "value": 25, "minimum": 1, "maximum": 10_000},
    ],
    "nextStep": None,
}
NODES: Example = {
    "nodes": [
        {"name": "EmptyImage", "category": "image", "outputs": ["IMAGE"]},
    ],
    "total": 1,
}
MODELS: Example = {
    "models": [{"name": "sd15.safetensors", "type": "checkpoints", "size": 4_265_146_304, "hash": None}],
    "types": ["checkpoints", "loras", "vae"],
    "total": 1,
}
OUTPUTS: Example = {"outputs": [_OUTPUT]}
UPLOADED: Example = {"name": "photo.png", "subfolder": "", "type": "input"}
DRAINED: Example = {"engine": "gpu-1", "drained": True}
RESUMED: Example = {"engine": "gpu-1", "drained": False}
NEW_WEBHOOK: Example = _WEBHOOK | {"secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}
NEW_SECRET: Example = _WEBHOOK | {
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "oldSecretUntil": _CREATED_MS + 86_400_000,
}
WEBHOOKS: Example = {"webhooks": [_WEBHOOK]}
REMOVED_WEBHOOK: Example = {"client": "local", "removed": True}
DELIVERIES: Example = {"deliveries": [_DELIVERY]}
REPLAYED: Example = {"replayed": 1}
SYSTEM: Example = {
    "version": "0.2.0",
    "client": "local",
    "engines": [_ENGINE],
    "jobs": {"completed": 1},
    "gpu": GPU,
    "store": _STORE,
}
