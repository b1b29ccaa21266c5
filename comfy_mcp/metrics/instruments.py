"""Every metric with its name, labels and buckets: the contract's first, then our own (`comfy_bridge_`).

No label ever carries a job id, a key, a path or anything else without a bound.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

HTTP_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
TOOL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
DURATION_BUCKETS = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
WAIT_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0)
RUN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
STORE_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0)


class Instruments:
    """The metrics, on a registry of their own. docs/metrics.md explains them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._contract()
        self._jobs()
        self._engines()
        self._gpus()
        self._process()

    def _contract(self) -> None:
        self.workflows = self._counter(
            "comfyui_workflow_total", "Workflows that entered a status.", ["status"]
        )
        self.duration = self._histogram(
            "comfyui_workflow_duration_seconds",
            "Start to completion of workflows that completed.",
            ["gpu_type"],
            DURATION_BUCKETS,
        )
        self.errors = self._counter(
            "comfyui_workflow_errors_total", "Workflows that failed, by kind.", ["error_type"]
        )
        self.queue_length = self._gauge("comfyui_queue_length", "Workflows that are queued.", [])
        self.gpu_utilization = self._gauge("comfyui_gpu_utilization", "GPU load in percent.", ["gpu_id"])
        self.vram_used = self._gauge("comfyui_vram_usage_bytes", "GPU memory in use.", ["gpu_id"])
        http = ["method", "route", "status_code"]
        self.requests = self._counter("http_requests_total", "HTTP requests answered.", http)
        self.request_seconds = self._histogram(
            "http_request_duration_seconds",
            "From reading the request to the complete answer; for a stream, to its start.",
            http,
            HTTP_BUCKETS,
        )
        self.api_errors = self._counter(
            "api_errors_total", "HTTP answers that were errors, by code.", ["error_type", "route"]
        )
        self.tool_calls = self._counter(
            "mcp_tool_invocations_total", "MCP tool calls that ended.", ["tool_name", "status"]
        )
        self.tool_seconds = self._histogram(
            "mcp_tool_duration_seconds", "Duration of MCP tool calls.", ["tool_name"], TOOL_BUCKETS
        )

    def _jobs(self) -> None:
        self.wait_seconds = self._histogram(
            "comfy_bridge_workflow_wait_seconds",
            "Submit to first start of a workflow.",
            ["priority"],
            WAIT_BUCKETS,
        )
        self.run_seconds = self._histogram(
            "comfy_bridge_workflow_run_seconds",
            "Start to end of a workflow's last attempt.",
            ["engine", "status"],
            RUN_BUCKETS,
        )
        self.attempts = self._counter(
            "comfy_bridge_attempts_total", "Submissions of workflows to an engine.", ["engine"]
        )
        self.requeues = self._counter(
            "comfy_bridge_requeues_total",
            "Attempts lost by an engine; the workflow is queued again.",
            ["engine"],
        )
        self.oom_retries = self._counter(
            "comfy_bridge_oom_retries_total",
            "Attempts that ran out of memory; the engine freed some, the workflow is queued again.",
            ["engine"],
        )
        self.queued = self._gauge(
            "comfy_bridge_workflows_queued", "Workflows that are queued, by where they run.", ["lane"]
        )
        self.waiting = self._gauge(
            "comfy_bridge_workflows_waiting", "Workflows that no engine has yet.", ["priority"]
        )
        self.held = self._gauge(
            "comfy_bridge_workflows_held",
            "Workflows that are held, by what they wait for.",
            ["reason"],
        )
        self.at_limit = self._gauge(
            "comfy_bridge_clients_at_limit", "Clients that are at a limit of their key.", ["limit"]
        )
        self.in_flight = self._gauge(
            "comfy_bridge_workflows_in_flight", "Workflows sent to an engine.", ["engine"]
        )

        self.gpu_seconds = self._counter(
            "comfy_bridge_workflow_gpu_seconds_total",
            "GPU-seconds of attempts on this machine's GPUs.",
            ["engine"],
        )

        self.cloud_spent = self._gauge(
            "comfy_bridge_cloud_spent_today",
            "What workflows at services cost today (UTC), with what is reserved for them.",
            [],
        )
        self.cloud_budget = self._gauge(
            "comfy_bridge_cloud_budget", "Most that they may cost on one day (0 = no budget).", []
        )

        self.webhook_tries = self._counter(
            "comfy_bridge_webhook_tries_total",
            "Tries to deliver an event to a webhook, by what came of them.",
            ["outcome"],
        )

    def _engines(self) -> None:
        self.engine_up = self._gauge("comfy_bridge_engine_up", "1 if the engine answers.", ["engine"])
        self.engine_driven = self._gauge(
            "comfy_bridge_engine_driven", "1 if a live process holds the engine's lease.", ["engine"]
        )
        self.engine_queue = self._gauge(
            "comfy_bridge_engine_queue_length", "Prompts in the engine's own queue.", ["engine"]
        )
        self.reconnects = self._counter(
            "comfy_bridge_engine_reconnects_total",
            "Event streams opened after this process's first one.",
            ["engine"],
        )
        self.nodes = self._counter(
            "comfy_bridge_nodes_total",
            "Nodes that engines ran or read from their cache.",
            ["engine", "source"],
        )
        self.vram_total = self._gauge("comfy_bridge_gpu_vram_total_bytes", "GPU memory.", ["gpu_id"])
        self.gpu_celsius = self._gauge("comfy_bridge_gpu_temperature_celsius", "GPU temperature.", ["gpu_id"])
        self.torch_vram = self._gauge(
            "comfy_bridge_engine_torch_vram_bytes", "GPU memory reserved by the engine's torch.", ["engine"]
        )

    def _gpus(self) -> None:
        gpu = ["gpu_id"]
        self.gpu_ok = self._gauge("comfy_bridge_gpu_ok", "1 if the GPU works.", gpu)
        self.gpus_gone = self._gauge("comfy_bridge_gpus_gone", "GPUs that the driver no longer shows.", [])
        self.gpu_watts = self._gauge("comfy_bridge_gpu_power_watts", "GPU power draw.", gpu)
        self.gpu_watts_limit = self._gauge("comfy_bridge_gpu_power_limit_watts", "Its limit.", gpu)
        self.gpu_celsius_limit = self._gauge(
            "comfy_bridge_gpu_temperature_limit_celsius", "Temperature at which the GPU slows down.", gpu
        )
        self.gpu_slowed = self._gauge(
            "comfy_bridge_gpu_slowed", "1 while this slows the GPU down.", ["gpu_id", "reason"]
        )
        self.gpu_ecc = self._gauge(
            "comfy_bridge_gpu_ecc_errors",
            "Memory errors since the driver was loaded.",
            ["gpu_id", "kind"],
        )

    def _process(self) -> None:
        self.event_lag = self._histogram(
            "comfy_bridge_event_lag_seconds",
            "From receiving an engine's event to delivering it to this process's subscribers.",
            [],
            LAG_BUCKETS,
        )
        self.hub_subscribers = self._gauge(
            "comfy_bridge_hub_subscribers", "Subscribers of this process's event hub.", []
        )
        self.hub_drops = self._counter(
            "comfy_bridge_hub_dropped_events_total", "Events that a slow subscriber of the hub lost.", []
        )
        self.loop_stalls = self._counter(
            "comfy_bridge_loop_stalls_total", "Times that the event loop stood for more than 250 ms.", []
        )
        self.tasks = self._gauge("comfy_bridge_asyncio_tasks", "Tasks of this process's event loop.", [])
        self.open_streams = self._gauge(
            "comfy_bridge_open_streams", "Streams that clients have open.", ["kind"]
        )
        self.cut_streams = self._counter(
            "comfy_bridge_streams_cut_off_total",
            "Streams disconnected because the client read too slowly.",
            ["kind"],
        )
        self.store_bytes = self._gauge("comfy_bridge_store_bytes", "Size of the store's files.", ["file"])
        self.store_seconds = self._histogram(
            "comfy_bridge_store_seconds", "Duration of store calls.", ["work"], STORE_BUCKETS
        )
        self.refreshed = self._gauge(
            "comfy_bridge_gauges_refreshed_timestamp_seconds",
            "Time of the last answer of a source of gauges.",
            ["source"],
        )
        self.build = self._gauge("comfy_bridge_build_info", "Always 1.", ["version"])

    def _counter(self, name: str, meaning: str, labels: list[str]) -> Counter:
        return Counter(name, meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str, labels: list[str]) -> Gauge:
        return Gauge(name, meaning, labels, registry=self._registry)

    def _histogram(self, name: str, meaning: str, labels: list[str], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, meaning, labels, buckets=buckets, registry=self._registry)
