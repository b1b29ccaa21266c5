"""aiohttp's errors as those of the domain: what is wrong with the engine, and what helps."""

import os
from types import TracebackType

import aiohttp

from comfy_mcp.domain.errors import EngineBadAnswer, EngineUnreachable
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.places.comfyui.answers import WireFault
from comfy_mcp.places.comfyui.diagnosis import (
    READ_THE_LOG,
    Diagnosis,
    of_certificate,
    of_handshake,
    of_status,
)
from comfy_mcp.places.protocol import CHECK_IT_RUNS, ITS_URL

BROKEN = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)
"""The connection broke. `ClientConnectorError` is one too: there was none."""


class TooSlow(EngineUnreachable):
    """A timeout passed."""


class Redirected(aiohttp.ClientError):
    """Instead of following it."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


class Faults:
    """Of one engine."""

    engine: EngineId

    def bad_answer(self, endpoint: str, what: str, *, fix: str = READ_THE_LOG) -> EngineBadAnswer:
        return self.diagnosed(endpoint, Diagnosis(what=what, fix=fix))

    def unexpected(self, endpoint: str, status: int) -> EngineBadAnswer:
        """A status that is not the one of ComfyUI."""
        return self.diagnosed(endpoint, of_status(status))

    def diagnosed(self, endpoint: str, found: Diagnosis) -> EngineBadAnswer:
        return EngineBadAnswer(f"Engine {self.engine}, {endpoint}: {found.what}.", next_step=found.fix)

    def unreachable(self, endpoint: str, what: str) -> EngineUnreachable:
        return EngineUnreachable(f"Engine {self.engine}, {endpoint}: {what}.", next_step=CHECK_IT_RUNS)

    def translated(self, endpoint: str) -> "_Translated":
        """A context: aiohttp's errors, timeouts and WireFault as EngineUnreachable and EngineBadAnswer."""
        return _Translated(self, endpoint)

    def of(self, endpoint: str, error: Exception) -> EngineUnreachable | EngineBadAnswer | None:
        """None: the error is not aiohttp's."""
        match error:
            case aiohttp.ClientConnectorError():
                return self._not_connected(endpoint, error)
            case TimeoutError():
                what = f"Engine {self.engine}, {endpoint}: no answer in time."
                return TooSlow(what, next_step=CHECK_IT_RUNS)
            case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | ConnectionError():
                return self.unreachable(endpoint, "the connection broke")
            case aiohttp.WSServerHandshakeError() | Redirected():
                return self.diagnosed(endpoint, of_handshake(error.status))
            case aiohttp.ClientPayloadError():
                return self.bad_answer(endpoint, "the answer is incomplete")
            case aiohttp.ClientError():
                return self.bad_answer(endpoint, f"not HTTP as expected ({type(error).__name__})")
            case WireFault():
                return self.bad_answer(endpoint, str(error))
            case _:
                return None

    def _not_connected(self, endpoint: str, error: aiohttp.ClientConnectorError) -> EngineUnreachable:
        match error:
            case aiohttp.ClientConnectorCertificateError():
                found = of_certificate(getattr(error.certificate_error, "verify_code", 0))
                what, fix = found.what, found.fix
            case aiohttp.ClientConnectorSSLError():
                what = "no TLS connection"
                fix = "Check whether the address of ComfyUI must begin with http:// instead of https://."
            case aiohttp.ClientConnectorDNSError():
                what, fix = "its host name is not known", f"Correct the host name in {ITS_URL}."
            case _:
                number = error.os_error.errno
                reason = os.strerror(number) if number and number > 0 else type(error.os_error).__name__
                what, fix = f"no connection ({reason})", CHECK_IT_RUNS
        return EngineUnreachable(f"Engine {self.engine}, {endpoint}: {what}.", next_step=fix)


class _Translated:
    """Several are entered for each job: a generator would cost three times as much."""

    __slots__ = ("_endpoint", "_faults")

    def __init__(self, faults: Faults, endpoint: str) -> None:
        self._faults = faults
        self._endpoint = endpoint

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and (fault := self._faults.of(self._endpoint, error)) is not None:
            raise fault from None
