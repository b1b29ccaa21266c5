"""Pure: what stands between the bridge and ComfyUI, by the answer that came instead of ComfyUI's."""

from dataclasses import dataclass

from comfy_mcp.places.protocol import ITS_URL, START_IT

READ_THE_LOG = "Check ComfyUI's log, and that the URL is ComfyUI's own, not a login page."
UPGRADES = (
    "The proxy in front of ComfyUI must pass WebSocket upgrades (nginx: `proxy_http_version 1.1` and the "
    "headers `Upgrade` and `Connection`); or set COMFYUI_WS_URL, or `ws_url` in the file of engines, to an "
    "address that does."
)
_SECRETS = (
    "COMFY_BRIDGE_ENGINE_TOKEN or COMFY_BRIDGE_ENGINE_HEADERS (`token` or `headers` in the file of engines)"
)
_LOG_IN = f"Set {ITS_URL} to ComfyUI's own address, or {_SECRETS} to what the proxy in front of it asks for."
_CREDENTIALS = f"Set {_SECRETS} to credentials that the proxy in front of ComfyUI accepts."
_BEHIND_IT = f"{START_IT} behind the proxy, or correct where the proxy sends its requests."
_TOO_LARGE = (
    "Raise the limit of the proxy in front of ComfyUI (nginx: `client_max_body_size`), or ComfyUI's own "
    "(`--max-upload-size`)."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was met, as the end of a sentence, and what to do about it."""

    what: str
    fix: str


def of_status(status: int) -> Diagnosis:
    """Of an answer whose status is not the one that ComfyUI gives."""
    if 300 <= status < 400:
        return Diagnosis(what=f"a redirect (status {status}), as login pages send it", fix=_LOG_IN)
    match status:
        case 401 | 403 | 407:
            return Diagnosis(what=f"the credentials are refused (status {status})", fix=_CREDENTIALS)
        case 404 | 405:
            fix = f"Set {ITS_URL} to ComfyUI's own address, with the path under which a proxy serves it."
            return Diagnosis(what=f"no ComfyUI at this address (status {status})", fix=fix)
        case 413:
            return Diagnosis(what="the request is too large for it (status 413)", fix=_TOO_LARGE)
        case 502 | 503 | 504:
            what = f"a proxy answers, and ComfyUI behind it does not (status {status})"
            return Diagnosis(what=what, fix=_BEHIND_IT)
        case _:
            return Diagnosis(what=f"status {status}", fix=READ_THE_LOG)


def of_handshake(status: int) -> Diagnosis:
    """Of a WebSocket that was not opened. 101 and 200: an answer without the upgrade."""
    if 300 <= status < 400 or status in {401, 403, 407}:
        other = of_status(status)
        return Diagnosis(what=f"the WebSocket is refused: {other.what}", fix=other.fix)
    return Diagnosis(what=f"the WebSocket is refused (status {status})", fix=UPGRADES)


def of_no_json(status: int, media_type: str) -> Diagnosis:
    """Of an answer with the right status whose body is something else."""
    what = f"status {status} with {media_type} that is not JSON"
    if media_type == "text/html":
        return Diagnosis(what=f"{what}: a login page, or another server", fix=_LOG_IN)
    return Diagnosis(what=what, fix=READ_THE_LOG)


def of_certificate(verify_code: int) -> Diagnosis:
    """Of a TLS certificate that OpenSSL does not accept, for that reason."""
    match verify_code:
        case 9 | 10:
            what = "its TLS certificate has expired, or is not valid yet"
            return Diagnosis(
                what=what, fix="Renew it where ComfyUI or its proxy has it, or correct the clock."
            )
        case 62 | 64:
            fix = f"Set {ITS_URL} to the host name that the certificate is for."
            return Diagnosis(what="its TLS certificate is for another host", fix=fix)
        case _:
            fix = "Set COMFY_BRIDGE_ENGINE_CA_FILE to the CA certificate that signed it."
            return Diagnosis(what="its TLS certificate is not trusted", fix=fix)


def refuses_the_request(status: int) -> bool:
    """Whether a POST with this answer certainly reached no queue, and never will: no other try helps."""
    return status == 413
