"""The fixture tools that need answers of the client before they are done (2026-07-28, SEP-2322)."""

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from tests.conformance.content import text_result

Context = ServerRequestContext[Any, Any]
Params = types.CallToolRequestParams
Result = types.CallToolResult | types.InputRequiredResult

_KEY = secrets.token_bytes(32)


def needs_context(params: types.GetPromptRequestParams) -> types.GetPromptResult | types.InputRequiredResult:
    """The prompt of the same kind."""
    answers = params.input_responses or {}
    if "user_context" not in answers:
        return _required({"user_context": _elicit("What context should the prompt use?", context="string")})
    message = types.PromptMessage(role="user", content=types.TextContent(text=f"{answers['user_context']}"))
    return types.GetPromptResult(messages=[message])


async def _elicitation(ctx: Context, params: Params) -> Result:
    answer = (params.input_responses or {}).get("user_name")
    if not isinstance(answer, types.ElicitResult):
        return _required({"user_name": _elicit("What is your name?", name="string")})
    return text_result(f"Hello, {(answer.content or {}).get('name')}!")


async def _sampling(ctx: Context, params: Params) -> Result:
    return _one(params, "capital_question", _sample("What is the capital of France?", 100))


async def _list_roots(ctx: Context, params: Params) -> Result:
    return _one(params, "client_roots", types.ListRootsRequest())


async def _request_state(ctx: Context, params: Params) -> Result:
    if params.request_state is None:
        return _required({"confirm": _elicit("Please confirm", ok="boolean")}, state="confirm")
    _open(params.request_state, "confirm")
    return text_result("state-ok")


async def _multiple(ctx: Context, params: Params) -> Result:
    asked: types.InputRequests = {
        "user_name": _elicit("What is your name?", name="string"),
        "greeting": _sample("Generate a greeting", 50),
        "client_roots": types.ListRootsRequest(),
    }
    answers = params.input_responses or {}
    if params.request_state is None or not asked.keys() <= answers.keys():
        return _required(asked, state="all")
    _open(params.request_state, "all")
    return text_result("Everything is here.")


async def _multi_round(ctx: Context, params: Params) -> Result:
    answers = params.input_responses or {}
    if params.request_state is None:
        return _required({"step1": _elicit("Step 1: What is your name?", name="string")}, state="round-1")
    if "step1" in answers:
        _open(params.request_state, "round-1")
        return _required(
            {"step2": _elicit("Step 2: What is your favorite color?", color="string")}, state="round-2"
        )
    _open(params.request_state, "round-2")
    return text_result("Both are known.")


async def _capabilities(ctx: Context, params: Params) -> Result:
    declared = ctx.session.client_capabilities or types.ClientCapabilities()
    asked: types.InputRequests = {}
    if declared.sampling is not None:
        asked["question"] = _sample("Say something", 50)
    if declared.elicitation is not None:
        asked["name"] = _elicit("What is your name?", name="string")
    return _required(asked) if asked else text_result("The client can be asked nothing.")


TOOLS: Mapping[str, Callable[[Context, Params], Awaitable[Result]]] = {
    "test_input_required_result_elicitation": _elicitation,
    "test_input_required_result_sampling": _sampling,
    "test_input_required_result_list_roots": _list_roots,
    "test_input_required_result_request_state": _request_state,
    "test_input_required_result_multiple_inputs": _multiple,
    "test_input_required_result_multi_round": _multi_round,
    "test_input_required_result_tampered_state": _request_state,
    "test_input_required_result_capabilities": _capabilities,
    "test_streaming_elicitation": _elicitation,
}


def _one(params: Params, key: str, request: types.InputRequest) -> Result:
    answer = (params.input_responses or {}).get(key)
    return _required({key: request}) if answer is None else text_result(f"The answer was {answer}.")


def _required(requests: types.InputRequests, *, state: str | None = None) -> types.InputRequiredResult:
    return types.InputRequiredResult(
        input_requests=requests, request_state=None if state is None else f"{state}.{_signature(state)}"
    )


def _open(sealed: str, expected: str) -> None:
    """Raises MCPError: what a client sends back may have been changed."""
    state, _, signature = sealed.partition(".")
    if state != expected or not hmac.compare_digest(signature, _signature(state)):
        raise MCPError(code=types.INVALID_PARAMS, message="The request state is not one of ours.")


def _signature(state: str) -> str:
    return hmac.new(_KEY, state.encode(), hashlib.sha256).hexdigest()


def _elicit(message: str, **fields: str) -> types.ElicitRequest:
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in fields.items()},
        "required": list(fields),
    }
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def _sample(text: str, max_tokens: int) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=types.TextContent(text=text))
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens)
    )
