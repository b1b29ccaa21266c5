"""Which assets a graph may name, and how many."""

from tests.http_sidecar.comfy_api.conftest import API, HEADERS
from tests.support.graphs import picture
from tests.support.sidecar import Sidecar


async def test_more_assets_than_a_submit_takes_are_refused_before_any_is_looked_for(v2: Sidecar) -> None:
    nodes = {
        str(n): {
            "class_type": "LoadImage",
            "inputs": {"image": {"__type": "core/ASSET", "info": {"id": f"a{n}"}}},
        }
        for n in range(65)
    }
    answer = await v2("POST", f"{API}/jobs", json={"workflow": nodes}, headers=HEADERS)
    assert (answer.status, answer.body["error"]["code"]) == (422, "missing_asset")
    assert "64" in answer.body["error"]["message"]


async def test_an_object_that_is_no_reference_stays_as_it_is(v2: Sidecar) -> None:
    graph = picture()
    graph["1"]["inputs"]["note"] = {"__type": "other"}
    made = await v2("POST", f"{API}/jobs", json={"workflow": graph}, headers=HEADERS)
    kept = await v2("GET", f"{made.body['urls']['self']}/workflow", headers=HEADERS)
    assert kept.body == {"workflow": graph, "format": "api"}
