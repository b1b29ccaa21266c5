"""The one error body."""

import json
from http import HTTPStatus

import pytest

from comfy_mcp.domain.errors import ErrorCode, LimitExceeded, NotFound
from http_sidecar.door.problems import ERROR_CODE, STATUS_OF, phrase_of, problem, problem_of


def test_every_code_has_its_status() -> None:
    assert set(STATUS_OF) == set(ErrorCode)
    assert all(status >= 400 for status in STATUS_OF.values())


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_makes_a_whole_body(code: ErrorCode) -> None:
    answer = problem_of(NotFound("It is so.", next_step="Do that.", code=code), "/path")
    body = json.loads(answer.text or "")
    assert (answer.status, answer.content_type) == (STATUS_OF[code], "application/problem+json")
    assert (body["error"], body["title"]) == (phrase_of(STATUS_OF[code]),) * 2
    assert (body["statusCode"], body["status"]) == (STATUS_OF[code],) * 2
    assert (body["code"], body["type"]) == (code.value, f"urn:comfy-bridge:problem:{code.value}")
    assert (body["instance"], body["nextStep"]) == ("/path", "Do that.")
    assert answer[ERROR_CODE] == code.value


def test_details_add_members_and_replace_none() -> None:
    error = LimitExceeded(
        "Too much.", next_step="Less.", code=ErrorCode.QUEUE_FULL, details={"limit": 5, "status": "mine"}
    )
    answer = problem_of(error, "/")
    body = json.loads(answer.text or "")
    assert (body["limit"], body["status"]) == (5, 503)
    assert answer.headers["Retry-After"] == "5"


def test_who_is_not_known_is_told_how_to_say_who() -> None:
    error = NotFound("Who?", next_step="Say.", code=ErrorCode.UNAUTHENTICATED)
    assert problem_of(error, "/").headers["WWW-Authenticate"].startswith("Bearer ")


def test_a_message_without_a_next_step_is_a_sentence_all_the_same() -> None:
    answer = problem(HTTPStatus.NOT_FOUND, "Nothing", code="x", next_step="", instance="/")
    assert json.loads(answer.text or "")["detail"] == "Nothing."


def test_a_status_has_the_words_of_its_rfc_on_every_python() -> None:
    """Python 3.13 renamed these four."""
    renamed = (413, 414, 416, 422)
    assert [phrase_of(HTTPStatus(status)) for status in renamed] == [
        "Content Too Large",
        "URI Too Long",
        "Range Not Satisfiable",
        "Unprocessable Content",
    ]
    assert phrase_of(HTTPStatus.NOT_FOUND) == "Not Found"
