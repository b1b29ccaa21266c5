"""/metrics: what a scrape shows, what it can't be made to wait for, and what is counted on the way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from comfy_mcp.domain.errors import ErrorCode, NotFound
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.metrics import Metrics
from comfy_mcp.operations import metrics_refresh
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.context import Caller, OperationContext
from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.operations.services import Services
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from http_sidecar.app_state import BRIDGE
from http_sidecar.door import metrics as sidecar
from http_sidecar.door.door import Door, Reshape
from http_sidecar.door.gatekeeper import Gatekeeper
from http_sidecar.drain import Drain
from tests.support.mcp_surface import LIMIT_S, slow_graph
from tests.support.metrics import metrics_of

Http = TestClient[Any, Any]
ROUTE = "/v1/things/{name}"


class Untouchable:
    """A service that nobody may use."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"a scrape used {name}")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(engines=[], version="0", now_ms=lambda: 1_000)


def only(metrics: Metrics) -> Services:
    """Services of which nothing but the metrics may be touched."""
    names = {name: cast("Any", Untouchable()) for name in Services.__dataclass_fields__}
    return Services(**{**names, "metrics": metrics})


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[Http]:
    """As in the sidecar, a client that goes cancels its handler (TestServer's default)."""
    async with TestClient(TestServer(app)) as client:
        yield client


class OpenGate(Gatekeeper):
    """Lets everybody in."""

    def __init__(self) -> None:
        pass

    async def refusal(self, request: web.Request) -> None:
        return None


def as_it_is(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    return response


def app_of(services: Services, *routes: web.RouteDef, reshape: Reshape = as_it_is) -> web.Application:
    app = web.Application()
    app[BRIDGE] = Bridge(services)
    app.router.add_routes(routes)
    assert services.metrics is not None
    door = Door(OpenGate(), drain=Drain(), metrics=services.metrics, origins=(), reshape=reshape)
    door.setup(app)
    sidecar.setup(app)
    return app


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def requests(metrics: Metrics, status: int, *, route: str = ROUTE, method: str = "GET") -> float | None:
    return value(metrics, "http_requests_total", method=method, route=route, status_code=str(status))


# ---------------------------------------------------------------------------- the scrape


async def test_a_scrape_reads_memory_and_touches_no_service(metrics: Metrics) -> None:
    async with serving(app_of(only(metrics))) as client:
        answer = await client.get("/metrics")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert 'comfyui_workflow_total{status="completed"} 0.0' in await answer.text()


async def test_openmetrics_is_served_to_who_asks_for_it(metrics: Metrics) -> None:
    async with serving(app_of(only(metrics))) as client:
        answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
        text = await answer.text()
    assert answer.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert text.endswith("# EOF\n")
    names = {family.name for family in parse_openmetrics(text)}  # type: ignore[no-untyped-call]
    assert "comfyui_workflow" in names


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text;version=x;escaping=%%", "a" * 4000, ";,;=;q"]
)
async def test_a_wild_accept_header_gets_an_answer(metrics: Metrics, accept: str) -> None:
    async with serving(app_of(only(metrics))) as client:
        answer = await client.get("/metrics", headers={"Accept": accept})
        assert answer.status == 200
        assert b"comfyui_queue_length" in await answer.read()


async def test_an_engine_that_hangs_hangs_no_scrape(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_refresh, "REFRESH_S", 0.01)
    asked = asyncio.Event()
    over = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/system_stats" in await reader.readline():
            asked.set()
        await over.wait()
        writer.close()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as engine:
        url = f"http://127.0.0.1:{engine.sockets[0].getsockname()[1]}"
        settings = load_settings(
            engine_urls=url,
            state_dir=tmp_path / "state",
            connect_timeout_s=LIMIT_S * 10,
            request_timeout_s=LIMIT_S * 10,
        )
        async with (
            asyncio.timeout(LIMIT_S),
            open_runtime(settings) as services,
            serving(app_of(services)) as client,
        ):
            await asked.wait()
            for _ in range(3):
                answer = await client.get("/metrics")
                assert answer.status == 200
                # The engine is waited for still: it has not been found up, nor down.
                assert "\ncomfy_bridge_engine_up{" not in await answer.text()
            over.set()


async def test_the_store_s_truth_is_in_the_scrape(services: Services) -> None:
    refreshed = asyncio.Event()
    watched = metrics_of(services).set_queue

    def set_queue(**found: Any) -> None:
        watched(**found)
        refreshed.set()

    metrics_of(services).set_queue = set_queue  # type: ignore[method-assign]
    context = OperationContext(services=services, caller=Caller(client=ClientId("me"), surface="test"))
    submitted = await BY_NAME["submit_workflow"].call(context, {"workflow": slow_graph()})
    await BY_NAME["wait_for_workflow"].call(context, {"workflow_id": submitted.workflow_id})
    async with serving(app_of(services)) as client, asyncio.timeout(LIMIT_S):
        await refreshed.wait()
        text = await (await client.get("/metrics")).text()
    assert 'comfyui_workflow_total{status="completed"} 1.0' in text
    assert "\ncomfyui_queue_length 0.0\n" in text
    assert 'comfyui_workflow_duration_seconds_count{gpu_type="local"} 1.0' in text
    assert submitted.workflow_id not in text
    (engine,) = services.engines.pool
    assert value(metrics_of(services), "comfy_bridge_attempts_total", engine=engine) == 1
    assert value(metrics_of(services), "comfy_bridge_nodes_total", engine=engine, source="fresh") == 2
    assert value(metrics_of(services), "comfy_bridge_engine_reconnects_total", engine=engine) == 0
    assert value(metrics_of(services), "comfy_bridge_event_lag_seconds_count")
    assert value(metrics_of(services), "comfy_bridge_store_seconds_count", work="read")
    assert value(metrics_of(services), "comfy_bridge_store_seconds_count", work="write")


# ---------------------------------------------------------------------------- requests


async def thing(request: web.Request) -> web.StreamResponse:
    match request.match_info["name"]:
        case "missing":
            raise NotFound("No such thing.", next_step="Look elsewhere.")
        case "moved":
            raise web.HTTPFound("/elsewhere")
        case "broken":
            raise RuntimeError("a defect")
        case "teapot":
            return web.Response(status=418)
        case _:
            return web.json_response({})


THING = web.get(ROUTE, thing)


@pytest.mark.parametrize(
    ("name", "status", "error"),
    [
        ("here", 200, None),
        ("moved", 302, None),
        ("missing", 404, ErrorCode.WORKFLOW_NOT_FOUND.value),
        ("broken", 500, ErrorCode.INTERNAL.value),
        ("teapot", 418, "http_418"),
    ],
)
async def test_a_request_counts_under_its_template(
    metrics: Metrics, name: str, status: int, error: str | None
) -> None:
    async with serving(app_of(only(metrics), THING)) as client:
        answer = await client.get(f"/v1/things/{name}", allow_redirects=False)
    assert answer.status == status
    assert requests(metrics, status) == 1
    labels = {"method": "GET", "route": ROUTE, "status_code": str(status)}
    assert value(metrics, "http_request_duration_seconds_count", **labels) == 1
    errors_of_route = {
        sample.labels["error_type"]: sample.value
        for family in metrics.registry.collect()
        if family.name == "api_errors"
        for sample in family.samples
    }
    assert errors_of_route == ({} if error is None else {error: 1.0})


async def test_what_the_door_itself_gets_wrong_counts_as_500(metrics: Metrics) -> None:
    def broken(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        raise RuntimeError("a defect")

    async with serving(app_of(only(metrics), THING, reshape=broken)) as client:
        assert (await client.get("/v1/things/broken")).status == 500
    assert requests(metrics, 500) == 1
    assert value(metrics, "api_errors_total", error_type="http_500", route=ROUTE) == 1


async def test_the_contract_s_buckets_are_used(metrics: Metrics) -> None:
    metrics.http_request(method="GET", route=ROUTE, status=200, seconds=0.0)
    les = [
        sample.labels["le"]
        for family in metrics.registry.collect()
        if family.name == "http_request_duration_seconds"
        for sample in family.samples
        if sample.name.endswith("_bucket")
    ]
    assert (les[0], les[-2], les[-1]) == ("0.001", "5.0", "+Inf")


async def test_paths_that_nobody_routes_share_one_label(metrics: Metrics) -> None:
    async with serving(app_of(only(metrics), THING)) as client:
        for number in range(20):
            await client.get(f"/probe/{number}.php")
            await client.get(f"/v1/things/{number}")
        text = await (await client.get("/metrics")).text()
    assert requests(metrics, 404, route="unmatched") == 20
    assert requests(metrics, 200) == 20
    assert value(metrics, "api_errors_total", error_type="route_not_found", route="unmatched") == 20
    assert ".php" not in text


async def test_a_client_that_goes_is_counted_as_gone(metrics: Metrics) -> None:
    entered, counted = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            asyncio.get_running_loop().call_soon(counted.set)
        return web.Response()

    async with serving(app_of(only(metrics), web.get("/slow", slow))) as client:
        _, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(LIMIT_S):
            await entered.wait()
            writer.close()
            await counted.wait()
    assert requests(metrics, 499, route="/slow") == 1
    assert value(metrics, "api_errors_total", error_type="http_499", route="/slow") == 1


async def test_a_stream_counts_once_and_when_it_begins(metrics: Metrics) -> None:
    async def events(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(f"data: {requests(metrics, 200, route='/events')}\n\n".encode())
        return answer

    async def sockets(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(str(requests(metrics, 101, route="/ws")))
        await socket.close()
        return socket

    routes = web.get("/events", events), web.get("/ws", sockets)
    async with serving(app_of(only(metrics), *routes)) as client:
        assert await (await client.get("/events")).text() == "data: 1.0\n\n"
        async with client.ws_connect("/ws") as socket:
            assert await socket.receive_str(timeout=LIMIT_S) == "1.0"
            await socket.receive(timeout=LIMIT_S)
    assert requests(metrics, 200, route="/events") == 1
    assert requests(metrics, 101, route="/ws") == 1


# ---------------------------------------------------------------------------- in the sidecar


async def test_the_sidecar_counts_its_own_requests_by_template_and_code(
    http: Http, services: Services
) -> None:
    for number in range(3):
        assert (await http.get(f"/v1/comfyui/workflow/no-such-{number}")).status == 404
    route = "/v1/comfyui/workflow/{workflowId}"
    assert requests(metrics_of(services), 404, route=route) == 3
    assert value(metrics_of(services), "api_errors_total", error_type="workflow_not_found", route=route) == 3
    text = await (await http.get("/metrics")).text()
    assert f'http_requests_total{{method="GET",route="{route}",status_code="404"}} 3.0' in text
    assert "no-such" not in text
