"""Examples in the document. The graph runs on every engine as it is: "Try it out" on the page sends it."""

from typing import Any

WORKFLOW_ID = "6f1c2b5e-0d1a-4c58-9a53-2f1f5a0d7c11"
OUTPUT_ID = "o_3f9a1c"
CREATED_MS = 1_795_500_000_000

GRAPH: dict[str, Any] = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 3_368_601},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "example"}},
}

SUBMIT = {"workflow": GRAPH, "priority": "normal"}

_OUTPUT = {
    "outputId": OUTPUT_ID,
    "filename": "example_00001_.png",
    "workflowId": WORKFLOW_ID,
    "type": "image",
    "size": 200,
    "createdAt": CREATED_MS + 900,
    "url": f"/v1/comfyui/output/{OUTPUT_ID}",
    "uri": f"comfy://outputs/{OUTPUT_ID}",
    "subfolder": "",
    "folder": "output",
    "nodeId": "2",
    "mediaType": "image/png",
    "content": None,
}

_WORKFLOW = {
    "workflowId": WORKFLOW_ID,
    "status": "completed",
    "queuePosition": None,
    "progress": 100,
    "currentNode": None,
    "currentNodeId": None,
    "startTime": CREATED_MS + 20,
    "completionTime": CREATED_MS + 910,
    "outputs": [_OUTPUT],
    "error": None,
    "failure": None,
    "priority": "normal",
    "client": "local",
    "engine": "default",
    "attempt": 1,
    "createdTime": CREATED_MS,
    "etaMs": None,
    "cancelRequested": False,
    "warnings": [],
    "nextStep": None,
}

_GPU = {
    "available": True,
    "source": "nvml",
    "gpus": [
        {
            "index": 0,
            "name": "NVIDIA L4",
            "uuid": "GPU-8a1f0c55-7a0e-4f0c-9d55-3a6b1c2d4e5f",
            "state": "ok",
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
            "mig": [],
            "engine": None,
        }
    ],
    "reason": None,
}

MCP_REVISION = "2026-07-28"

MCP_EXAMPLE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/list",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": MCP_REVISION,
            "io.modelcontextprotocol/clientInfo": {"name": "example", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    },
}

ANSWERS: dict[str, Any] = {
    "submit_workflow": {
        "workflowId": WORKFLOW_ID,
        "status": "queued",
        "queuePosition": 1,
        "warnings": [],
        "nextStep": f"GET /v1/comfyui/workflow/{WORKFLOW_ID}/wait.",
    },
    "retry_workflow": {
        "workflowId": WORKFLOW_ID,
        "status": "queued",
        "queuePosition": 1,
        "retryOf": "0c6a3b1e-5f8e-4a3c-9a0e-6f2f9c1d4b22",
    },
    "workflow_status": _WORKFLOW,
    "wait_for_workflow": _WORKFLOW,
    "cancel_workflow": {
        "workflowId": WORKFLOW_ID,
        "status": "cancelled",
        "cancelRequested": True,
        "nextStep": None,
    },
    "list_workflows": {"workflows": [_WORKFLOW], "nextCursor": None},
    "queue": {"running": [], "queued": [], "counts": {"completed": 1}},
    "list_models": {
        "models": [
            {
                "name": "sd15.safetensors",
                "type": "checkpoints",
                "size": 4_265_146_304,
                "hash": None,
            }
        ],
        "types": ["checkpoints", "loras", "vae"],
        "nextCursor": None,
        "total": 1,
    },
    "list_outputs": {"outputs": [_OUTPUT], "nextCursor": None},
    "gpu_status": _GPU,
    "system_status": {
        "version": "0.1.0",
        "client": "local",
        "engines": [
            {
                "id": "default",
                "url": "http://127.0.0.1:8188",
                "up": True,
                "version": "0.3.75",
                "isComfyui": True,
                "queueRemaining": 0,
                "drivenBy": "this process",
                "error": None,
            }
        ],
        "jobs": {"completed": 1},
        "gpu": _GPU,
        "store": {
            "path": "/state/bridge.sqlite3",
            "driver": "pysqlite3",
            "sqliteVersion": "3.53.4",
            "journalMode": "wal",
            "schemaRevision": "0002",
            "setAside": None,
        },
        "problems": [],
    },
}
"""By operation; what is left out is the model's default. A test holds them to the models."""
