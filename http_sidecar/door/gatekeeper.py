"""Who gets in: the key, the rate limit, the browser's same-origin rules, and no new work while draining."""

from collections.abc import MutableMapping
from http import HTTPStatus

from aiohttp import web

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import Denied, ErrorCode, ShuttingDown
from comfy_mcp.operations.context import Caller, require_right
from comfy_mcp.settings import HttpGroup
from http_sidecar.api_keys import KeyRing, caller_of, key_of, link_ended, unauthenticated
from http_sidecar.app_state import CALLER, DRAIN, IDENTIFIERS
from http_sidecar.door.addresses import bucket_of, client_address, is_loopback, networks_of
from http_sidecar.door.hosts import embeds, foreign_page, host_allowed, origin_allowed
from http_sidecar.door.probes import METRICS, is_open, is_page, is_probe
from http_sidecar.door.problems import problem
from http_sidecar.door.rate_limit import BUCKET, RateLimits, Verdict
from http_sidecar.routes import MCP_PATH

RATE = web.RequestKey("rate", Verdict)


class Gatekeeper:
    """Asked before every handler."""

    def __init__(self, settings: HttpGroup, keys: KeyRing, limits: RateLimits) -> None:
        self._keys = keys
        self._owner = caller_of(keys.owner)
        self._limits = limits
        self._proxies = networks_of(settings.trusted_proxies)
        self._metrics_open = settings.metrics_public
        self._guarded = is_loopback(settings.http_host)
        self._hosts = settings.allowed_hosts
        self._origins = settings.cors_origins

    async def refusal(self, request: web.Request) -> web.Response | None:
        """What to answer instead of the handler. Sets CALLER wherever a key is asked for.

        Raises Denied, ShuttingDown, StoreFault.
        """
        path = request.path
        if "Content-Encoding" in request.headers and _is_encoded(request):
            return _encoded(request)
        probe = is_probe(path)
        if probe and is_open(path, metrics=self._metrics_open):
            return None
        required = await self._keys.required()
        if not required:
            self._guard(request)
        caller = await self._caller_of(request) if required else self._owner
        if not probe or caller is None:
            # A wrong key is counted for its address: guessing is as slow as anything else.
            known = caller if required else None
            limiter = self._limits.messages if path == MCP_PATH or is_page(path) else self._limits.requests
            bucket = request[BUCKET] = f"client {known.client}" if known else self._address_of(request)
            verdict = limiter.hit(bucket)
            if verdict is not None:
                request[RATE] = verdict
                if not verdict.allowed:
                    return _too_often(request)
        self._let_in(request, caller)
        return None

    def _let_in(self, request: web.Request, caller: Caller | None) -> None:
        """Raises Denied, ShuttingDown."""
        if caller is not None:
            if request.path == METRICS and not caller.rights & {Right.METRICS, Right.READ}:
                require_right(caller, Right.METRICS, METRICS)
            request[CALLER] = caller
        elif not is_open(request.path, metrics=self._metrics_open) and _is_routed(request):
            raise link_ended() if _is_link(request) else unauthenticated()
        if request.method in {"POST", "PUT"} and request.app[DRAIN].begun:
            raise ShuttingDown("The service is shutting down.", next_step="Try again in a few seconds.")

    async def _caller_of(self, request: web.Request) -> Caller | None:
        """Whom the key belongs to, or what else a feature takes for one; None without any that counts."""
        if (key := key_of(request)) is not None:
            identity = await self._keys.identify(key)
            return None if identity is None else caller_of(identity)
        for identify in request.app[IDENTIFIERS]:
            if (caller := await identify(request)) is not None:
                return caller
        return None

    def _guard(self, request: web.Request) -> None:
        """Without keys, being on this machine is what lets one in: then a web page in its browser must not.

        Raises Denied for a Host or Origin that is not this service's (DNS rebinding, cross-site posts), or
        for what a page of another site embeds.
        """
        if not self._guarded:
            return
        host, origin = request.headers.get("Host"), request.headers.get("Origin")
        if not host_allowed(host, self._hosts):
            raise Denied(
                "The server does not accept this Host header.",
                next_step="Use localhost or an IP address, or add the name to COMFY_BRIDGE_ALLOWED_HOSTS.",
            )
        if not origin_allowed(origin, host, self._origins) or embeds(request.headers, self._origins):
            raise foreign_page()

    def _address_of(self, request: web.Request) -> str:
        if not self._proxies:
            return bucket_of(request.remote or "unknown")
        # A proxy may add a line of its own below the client's: all of them are one list (RFC 9110, 5.3).
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
        return bucket_of(client_address(request.remote, forwarded, self._proxies))


def add_headers(request: web.Request, headers: MutableMapping[str, str]) -> None:
    if (verdict := request.get(RATE)) is not None:
        headers.update(verdict.headers())


def _is_routed(request: web.Request) -> bool:
    """A path or method that does not exist is a 404 or 405 for everybody: it gives nothing away."""
    return request.match_info.http_exception is None


def _is_link(request: web.Request) -> bool:
    """It came by a signed link, and not by a key, which would count."""
    return key_of(request) is None and bool(request.query.keys() & {"expires", "signature"})


def _is_encoded(request: web.Request) -> bool:
    """The server inflates nothing, so nothing behind the door may take an encoded body for a plain one."""
    encodings = ",".join(request.headers.getall("Content-Encoding", ()))
    return any(name.strip().lower() not in {"", "identity"} for name in encodings.split(","))


def _encoded(request: web.Request) -> web.Response:
    answer = problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "The server takes no compressed request bodies.",
        code="content_encoding",
        next_step="Send the body as it is, without Content-Encoding.",
        instance=request.path,
        headers={"Accept-Encoding": "identity"},  # RFC 9110, 15.5.16
    )
    answer.force_close()
    return answer


def _too_often(request: web.Request) -> web.Response:
    return problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "Rate limit exceeded, retry in 1 minute",  # to the letter of the v1 contract
        code=ErrorCode.RATE_LIMITED.value,
        next_step="Wait for the time in Retry-After; follow workflows by a stream instead of polling.",
        instance=request.path,
        retryable=True,
    )
