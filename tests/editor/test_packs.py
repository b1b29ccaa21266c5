"""Nodes of custom packs against what the editor sends with the packs' own scripts in it (see packs.py)."""

from collections import Counter

from comfy_mcp.domain.object_info import ObjectInfo
from tests.editor.recorded import VERSION, Verdict, judged, load

UNKNOWN_HERE = {
    "easy prompt",  # its script renames the first option of a list
    "easy prompt #changed",
    "Power Primitive (rgthree) #changed",  # a change of type leaves a second control of one name
}


def packs_verdicts() -> list[Verdict]:
    recorded = load(f"packs_{VERSION}.json.gz")
    info = ObjectInfo.parse(recorded["classes"])
    return [
        judged(name, each["file"], each["output"], info)
        for name, each in recorded["files"].items()
        if not name.startswith("Anything Everywhere")  # nothing to run
    ]


def test_nodes_of_packs_are_sent_as_their_scripts_send_them() -> None:
    found = packs_verdicts()
    kinds = Counter(verdict.kind for verdict in found)
    assert len(found) > 1_700
    assert {verdict.name for verdict in found if verdict.kind == "silent"} <= UNKNOWN_HERE
    assert kinds["equal"] / len(found) >= 0.98
