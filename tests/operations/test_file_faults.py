"""Several files that can't be used are one error: of the kind of the first."""

from comfy_mcp.domain.errors import ErrorCode, InvalidGraph, InvalidInput, NotFound
from comfy_mcp.domain.file_inputs import FileInput
from comfy_mcp.domain.ids import NodeId
from comfy_mcp.operations.file_faults import fault_at, of_all

INVALID = InvalidInput("no file.", next_step="Give one.", code=ErrorCode.PATH_UNREADABLE)
GONE = NotFound("it is gone.", next_step="Give another one.", code=ErrorCode.OUTPUT_GONE)


def at(node: str, error: InvalidInput | NotFound) -> InvalidGraph | NotFound:
    found = FileInput(node=NodeId(node), class_type="LoadImage", name="image", value="x")
    fault = fault_at(found, error)
    assert isinstance(fault, InvalidGraph | NotFound)
    return fault


def test_the_first_says_the_others() -> None:
    first = of_all([at("1", INVALID), at("2", GONE), at("3", INVALID)])
    assert isinstance(first, InvalidGraph)
    assert [(each.node_id, each.input_name) for each in first.problems] == [("1", "image"), ("3", "image")]
    assert (first.code, first.next_step) == (ErrorCode.PATH_UNREADABLE, "Give one.")
    gone = of_all([at("1", GONE), at("2", INVALID)])
    assert isinstance(gone, NotFound)
    assert (gone.code, gone.next_step) == (ErrorCode.OUTPUT_GONE, "Give another one.")
    assert gone.message == (
        "Node 1 (LoadImage), input 'image': it is gone. Node 2 (LoadImage), input 'image': no file."
    )


def test_one_is_itself() -> None:
    only = at("1", GONE)
    assert of_all([only]) is only
