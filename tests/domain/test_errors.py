"""The tree of errors: what every leaf must offer to whoever reads it."""

from collections.abc import Iterator

import pytest

from comfy_mcp.domain import errors
from comfy_mcp.domain.errors import (
    READABLE,
    BridgeError,
    Conflict,
    Denied,
    EngineBadAnswer,
    EngineFault,
    EngineUnreachable,
    ErrorCode,
    Fenced,
    GraphProblem,
    InvalidGraph,
    InvalidInput,
    LimitExceeded,
    NotFound,
    ShuttingDown,
    StoreFault,
    carrying,
)


def descendants(kind: type[BridgeError]) -> Iterator[type[BridgeError]]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


ALL = tuple(kind for kind in descendants(BridgeError) if kind.__module__ == errors.__name__)
"""Of the domain: an adapter may have a leaf of its own for itself."""


def make(kind: type[BridgeError]) -> BridgeError:
    if issubclass(kind, InvalidGraph):
        return kind("It broke.", next_step="Mend it.", problems=[GraphProblem(kind="k", message="m")])
    return kind("It broke.", next_step="Mend it.")


@pytest.mark.parametrize("kind", ALL)
def test_every_error_says_what_happened_and_what_to_do_next(kind: type[BridgeError]) -> None:
    error = make(kind)
    assert (error.message, error.next_step) == ("It broke.", "Mend it.")
    assert str(error) == "It broke. Mend it."
    assert error.details == {}


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_a_code_of_its_own_and_none_is_called_internal(kind: type[BridgeError]) -> None:
    assert make(kind).code is kind.default_code
    assert kind.default_code is not ErrorCode.INTERNAL


@pytest.mark.parametrize("kind", ALL)
def test_every_error_takes_along_what_was_found_before_it(kind: type[BridgeError]) -> None:
    error = make(kind)
    assert error.with_warnings([]) is error
    with pytest.raises(kind) as caught, carrying(["a", "b"]), carrying(["b", "c"]):
        raise error
    carried = caught.value
    assert (error.warnings, error.warned) == ((), "")
    assert carried.warnings == ("a", "b", "c")
    assert carried.details == {"warnings": ["a", "b", "c"]}
    assert carried.warned == "Warning: a b c"
    assert {**vars(carried), "details": {}} == vars(error)
    assert str(carried) == str(error)


def test_of_many_warnings_the_text_has_the_first_and_counts_the_others() -> None:
    error = BridgeError("m", next_step="").with_warnings([f"{number}".zfill(READABLE) for number in range(3)])
    assert error.warned == f"Warning: {'0' * READABLE} And 2 more."
    assert len(error.warnings) == 3


def test_what_is_no_list_of_warnings_is_none() -> None:
    assert BridgeError("m", next_step="", details={"warnings": 7}).warnings == ()


def test_the_root_counts_as_internal() -> None:
    assert BridgeError("m", next_step="").code is ErrorCode.INTERNAL
    assert str(BridgeError("m", next_step="")) == "m"


def test_a_code_given_at_the_raise_goes_before_the_default() -> None:
    error = InvalidInput("m", next_step="n", code=ErrorCode.INVALID_ARGUMENT, details={"cursor": "x"})
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert error.details == {"cursor": "x"}


def test_what_may_work_when_tried_again_is_marked_so() -> None:
    again = {EngineFault, EngineUnreachable, EngineBadAnswer, StoreFault, LimitExceeded, ShuttingDown}
    never = {InvalidInput, InvalidGraph, NotFound, Denied, Conflict, Fenced}
    assert {kind for kind in ALL if kind.transient} == again
    assert {kind for kind in ALL if not kind.transient} == never


def test_the_drawing_at_the_top_of_the_module_is_the_tree() -> None:
    drawn = {
        line.strip("│├└─ ").split()[0]
        for line in (errors.__doc__ or "").splitlines()
        if "──" in line or line == "BridgeError"
    }
    assert drawn == {"BridgeError", *(kind.__name__ for kind in ALL)}


def test_codes_are_stable_words() -> None:
    assert all(code.value == code.name.lower() for code in ErrorCode)


def test_a_graph_error_carries_its_problems() -> None:
    problem = GraphProblem(kind="required_input_missing", message="m", node_id="3", input_name="x")
    error = InvalidGraph("m", next_step="n", problems=[problem])
    assert error.problems == (problem,)
    assert error.code is ErrorCode.GRAPH_INVALID


@pytest.mark.parametrize("kind", [InvalidInput, LimitExceeded])
def test_what_is_too_large_stays_so_whichever_limit_says_it(kind: type[BridgeError]) -> None:
    assert not kind("It has 9 MB.", next_step="Make it smaller.", code=ErrorCode.TOO_LARGE).retryable
    assert LimitExceeded("Full.", next_step="Wait.").retryable
