"""Each mode of a hostile engine has a bound: how the job ends, what is said, how much is asked and kept."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.driving import attempt, hearing, stopping
from comfy_mcp.driving.claiming import MAX_UNSENT
from comfy_mcp.driving.containment import MAX_CONCLUDE_TRIES
from comfy_mcp.places.comfyui.outputs import MAX_OUTPUTS
from comfy_mcp.places.protocol import ITS_URL
from tests.hostile.engine import GRAPH, TEXT_CHARS, TEXTS, HostileEngine, Mode, hostile_engine
from tests.support.constants import constants
from tests.support.sidecar import WORKFLOW, Sidecar, open_sidecar

SECRET = "the-secret-of-this-engine"
QUICK: dict[str, Any] = {
    "connect_timeout_s": 1.0,
    "request_timeout_s": 1.5,
    "engine_headers": {"X-Engine-Secret": SECRET},
}


@asynccontextmanager
async def house(folder: Path, mode: Mode, **more: Any) -> AsyncIterator[tuple[HostileEngine, Sidecar]]:
    with constants(QUIET_S=0.1, MAX_PAUSE_S=0.1):
        async with (
            hostile_engine(mode) as engine,
            open_sidecar(folder, engine_url=engine.url, **(QUICK | more)) as sidecar,
        ):
            yield engine, sidecar


async def said(sidecar: Sidecar, words: str) -> list[str]:
    """The problems of the system, once one of them has these words."""
    async with asyncio.timeout(20):
        while True:
            problems: list[str] = (await sidecar("GET", "/v1/status")).body["problems"]
            if any(words in each for each in problems):
                return problems
            await asyncio.sleep(0.02)


# ------------------------------------------------------------------------------------------ the way to it

UPGRADES = "must pass WebSocket upgrades"
CREDENTIALS = "(`token` or `headers` in the file of engines) to credentials"
OWN_ADDRESS = f"Set {ITS_URL} to ComfyUI's own address"

WITHOUT_EVENTS = {
    Mode.SOCKET_502: ("the WebSocket is refused (status 502)", UPGRADES),
    Mode.SOCKET_200: ("the WebSocket is refused (status 200)", UPGRADES),
    Mode.SOCKET_401: ("the WebSocket is refused: the credentials are refused (status 401)", CREDENTIALS),
    Mode.SOCKET_ELSEWHERE: ("the WebSocket is refused: a redirect (status 302)", OWN_ADDRESS),
    Mode.SOCKET_MUTE: ("no greeting from the engine in time", UPGRADES),
}


@pytest.mark.parametrize("mode", WITHOUT_EVENTS)
async def test_without_events_jobs_run_by_polling_and_it_is_said(tmp_path: Path, mode: Mode) -> None:
    cause, fix = WITHOUT_EVENTS[mode]
    async with house(tmp_path, mode) as (engine, sidecar):
        [problem] = await said(sidecar, "so workflows run, without live progress")
        assert cause in problem
        assert fix in problem
        assert "Start ComfyUI" not in problem
        submitted = (await sidecar("POST", WORKFLOW, json={"workflow": GRAPH})).body
        assert [cause in each and fix in each for each in submitted["warnings"]] == [True]
        ended = await sidecar.ended(submitted["workflowId"])
        assert (ended["status"], len(ended["outputs"])) == ("completed", 1)
        assert engine.strangers == []
        report = (await sidecar("GET", "/v1/status")).body["engines"][0]
        assert report["up"]
        engine.healed = True
        async with asyncio.timeout(20):  # its events are taken as soon as there are some
            while (await sidecar("GET", "/v1/status")).body["problems"]:
                await asyncio.sleep(0.02)
        later = await sidecar.ended(await sidecar.submit(GRAPH))
        assert later["status"] == "completed"


BLOCKED = {
    Mode.CREDENTIALS: ("the credentials are refused (status 401)", CREDENTIALS),
    Mode.LOGIN_PAGE: ("with text/html that is not JSON: a login page, or another server", OWN_ADDRESS),
    Mode.LOGIN_REDIRECT: ("a redirect (status 302), as login pages send it", OWN_ADDRESS),
    Mode.GATEWAY: ("a proxy answers, and ComfyUI behind it does not (status 502)", "Start ComfyUI behind"),
}


async def waits_because(sidecar: Sidecar, cause: str, fix: str) -> dict[str, Any]:
    """A new job waits, and all that tells of it says why, and what helps. The answer to its submit."""
    submitted: dict[str, Any] = (await sidecar("POST", WORKFLOW, json={"workflow": GRAPH})).body
    await said(sidecar, cause)
    state = (await sidecar("GET", f"{WORKFLOW}/{submitted['workflowId']}")).body
    [problem] = await said(sidecar, cause)
    for text in (problem, " ".join(submitted["warnings"]), state["waitingFor"]["message"]):
        assert cause in text
        assert fix in text
        assert "No ComfyUI answers" not in text
        assert "Start ComfyUI at" not in text
    assert state["waitingFor"]["reason"] == "engine"
    assert state["status"] == "queued"
    return submitted


@pytest.mark.parametrize("mode", BLOCKED)
async def test_who_answers_instead_of_comfyui_is_named_everywhere_and_the_job_waits(
    tmp_path: Path, mode: Mode
) -> None:
    cause, fix = BLOCKED[mode]
    async with house(tmp_path, mode) as (engine, sidecar):
        submitted = await waits_because(sidecar, cause, fix)
        ready = await sidecar("GET", "/ready")
        if mode is Mode.GATEWAY:  # it may come at any moment
            assert ready.status == 200
        else:
            assert ready.status == 503
            assert cause in ready.body["reason"]
        assert engine.posted == []
        engine.healed = True
        ended = await sidecar.ended(submitted["workflowId"])
        assert (ended["status"], ended["waitingFor"]) == ("completed", None)
        assert (await sidecar("GET", "/ready")).status == 200


UNACCEPTED = {
    Mode.UNTRUSTED: ("its TLS certificate is not trusted", "Set COMFY_BRIDGE_ENGINE_CA_FILE to the CA"),
    Mode.EXPIRED: ("its TLS certificate has expired", "Renew it"),
    Mode.OTHER_NAME: ("its TLS certificate is for another host", f"Set {ITS_URL} to the host name"),
}


@pytest.mark.parametrize("mode", UNACCEPTED)
async def test_a_certificate_that_is_not_accepted_is_told_everywhere_with_the_reason(
    tmp_path: Path, mode: Mode
) -> None:
    authority = tmp_path / "authority.pem"
    async with hostile_engine(mode) as engine:
        authority.write_text(engine.certificate)
        known = QUICK | {"engine_url": engine.url, "engine_ca_file": authority}
        unknown = known | {"engine_ca_file": None}
        async with open_sidecar(tmp_path, **(unknown if mode is Mode.UNTRUSTED else known)) as sidecar:
            submitted = await waits_because(sidecar, *UNACCEPTED[mode])
            ready = await sidecar("GET", "/ready")
            assert (ready.status, UNACCEPTED[mode][0] in ready.body["reason"]) == (503, True)
        assert engine.asked == {}
        if mode is Mode.UNTRUSTED:  # what the advice says helps
            async with open_sidecar(tmp_path, **known) as sidecar:
                assert (await sidecar.ended(submitted["workflowId"]))["status"] == "completed"


async def test_where_nothing_answers_comfyui_has_to_be_started(tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9"
    async with open_sidecar(tmp_path, engine_url=nobody, **QUICK) as sidecar:
        submitted = (await sidecar("POST", WORKFLOW, json={"workflow": GRAPH})).body
        assert submitted["warnings"][0].startswith(f"No ComfyUI answers at {nobody}.")
        assert await said(sidecar, "Start ComfyUI") == [
            f"Start ComfyUI at {nobody}, or set {ITS_URL} to where it runs."
        ]
        assert (await sidecar("GET", "/ready")).status == 200, "jobs wait for it"
        state = (await sidecar("GET", f"{WORKFLOW}/{submitted['workflowId']}")).body
        assert state["waitingFor"]["message"].startswith(f"No ComfyUI answers at {nobody}. Start ComfyUI at")


async def test_a_request_that_is_too_large_for_a_proxy_ends_its_job_with_the_cause(tmp_path: Path) -> None:
    async with house(tmp_path, Mode.POST_TOO_LARGE) as (engine, sidecar):
        ended = await sidecar.ended(await sidecar.submit(GRAPH))
        assert (ended["status"], ended["failure"]["kind"]) == ("failed", "engine_bad_answer")
        assert "too large for it (status 413)" in ended["failure"]["message"]
        assert "client_max_body_size" in ended["failure"]["message"]
        assert engine.asked["/prompt"] <= 3, "it is not sent again"


# -------------------------------------------------------------------------------------- what nodes it has


@pytest.mark.parametrize("mode", [Mode.NODES_PAGE, Mode.NODES_NONE, Mode.NODES_BROKEN])
async def test_a_node_list_that_cant_be_believed_refuses_no_job(tmp_path: Path, mode: Mode) -> None:
    async with house(tmp_path, mode) as (_, sidecar):
        answer = await sidecar("POST", WORKFLOW, json={"workflow": GRAPH})
        assert answer.status == 202, answer.body
        assert (await sidecar.ended(answer.body["workflowId"]))["status"] == "completed"
        unchecked = [each for each in answer.body["warnings"] if "/object_info" in each]
        assert len(unchecked) == (0 if mode is Mode.NODES_BROKEN else 1)


# ---------------------------------------------------------------------------------- what it says of prompts

UNREADABLE = ("failed", "engine_bad_answer")
ENDS = {
    Mode.WELL: ("completed", None),
    Mode.HALF_CHARACTER: ("completed", None),
    Mode.HISTORY_TOO_LARGE: UNREADABLE,
    Mode.HISTORY_ENDLESS: UNREADABLE,
    Mode.HISTORY_500: UNREADABLE,
    Mode.HISTORY_SHAPE: UNREADABLE,
    Mode.NO_BRACES: ("completed", None),
    Mode.STEPS: ("completed", None),
    Mode.LONG_TEXTS: ("completed", None),
    Mode.MANY_OUTPUTS: ("completed", None),
    Mode.DOTS: ("completed", None),
    Mode.LONG_ERROR: ("failed", "node_error"),
    Mode.LONG_REFUSAL: ("failed", "validation"),
}


@pytest.mark.parametrize("mode", ENDS)
async def test_every_job_ends_and_the_look_ups_have_a_bound(tmp_path: Path, mode: Mode) -> None:
    async with house(tmp_path, mode) as (engine, sidecar):
        ended = await sidecar.ended(await sidecar.submit(GRAPH))
        kind = None if ended["failure"] is None else ended["failure"]["kind"]
        assert (ended["status"], kind) == ENDS[mode]
        assert engine.asked.get("/history", 0) <= MAX_CONCLUDE_TRIES + 3
        assert len(ended["outputs"]) <= MAX_OUTPUTS
        assert len(json.dumps(ended["failure"])) < 2_000


async def test_half_a_character_is_u_fffd(tmp_path: Path) -> None:
    async with house(tmp_path, Mode.HALF_CHARACTER) as (_, sidecar):
        ended = await sidecar.ended(await sidecar.submit(GRAPH))
        texts = [each["content"] for each in ended["outputs"] if each["type"] == "text"]
        assert texts == ["half �", "nul �"]
        [file] = [each for each in ended["outputs"] if each["filename"]]
        assert (file["filename"], file["subfolder"]) == ("half �.png", "�")


async def test_long_texts_are_cut_in_a_state_and_whole_under_their_output(tmp_path: Path) -> None:
    async with house(tmp_path, Mode.LONG_TEXTS) as (_, sidecar):
        job = await sidecar.submit(GRAPH)
        await sidecar.ended(job)
        state = await sidecar("GET", f"{WORKFLOW}/{job}")
        assert len(state.data) < 1_000_000
        assert len(state.body["outputs"]) == TEXTS
        listed = await sidecar("GET", f"/v1/comfyui/outputs?workflowId={job}")
        assert len(listed.data) < 1_000_000
        whole = await sidecar("GET", state.body["outputs"][0]["url"])
        assert len(whole.data) == TEXT_CHARS + 2


async def test_the_texts_of_one_run_have_a_bound_all_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "TEXT_CHARS", 5 * (TEXT_CHARS + 2))
    async with house(tmp_path, Mode.LONG_TEXTS) as (_, sidecar):
        assert len((await sidecar.ended(await sidecar.submit(GRAPH)))["outputs"]) == 5


async def test_a_prompt_that_runs_for_ever_is_cancelled_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "STOP_LIMIT_S", 0.3)
    async with house(tmp_path, Mode.RUNS_FOR_EVER) as (_, sidecar):
        job = await sidecar.submit(GRAPH)
        await sidecar.until_running(job)
        await sidecar("DELETE", f"{WORKFLOW}/{job}")
        assert (await sidecar.ended(job))["status"] == "cancelled"
        late = await sidecar.submit(GRAPH, runTimeoutS=0.2)
        ended = await sidecar.ended(late)
        assert (ended["status"], ended["failure"]["kind"]) == ("failed", "timeout")


async def test_a_dead_worker_is_told_in_the_job_that_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "WORKER_LIMIT_S", 0.2)
    async with house(tmp_path, Mode.IDLE) as (_, sidecar):
        job = await sidecar.submit(GRAPH)
        [problem] = await said(sidecar, "accepts prompts and ran none")
        assert "Restart ComfyUI" in problem
        state = (await sidecar("GET", f"{WORKFLOW}/{job}")).body
        assert "Restart ComfyUI" in state["waitingFor"]["message"]
        await sidecar("DELETE", f"{WORKFLOW}/{job}")


async def test_no_other_host_is_given_the_engines_secret(tmp_path: Path) -> None:
    async with house(tmp_path, Mode.SOCKET_ELSEWHERE) as (engine, sidecar):
        await said(sidecar, "a redirect")
        assert engine.asked["/ws"] >= 1
        assert engine.strangers == []


# ------------------------------------------------------------------------------------------ input files


def with_file(number: int) -> dict[str, Any]:
    """A workflow whose file the engine does not have."""
    text = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes([number]) * 600_000).decode()
    load = {"class_type": "LoadImage", "inputs": {"image": f"data:image/png;base64,{text}"}}
    return GRAPH | {"1": load}


async def test_files_that_never_reach_the_engine_hold_up_no_other_job(tmp_path: Path) -> None:
    """Few of them are on their way; one that is cancelled ends at once, and the rest when it reads again."""
    async with house(tmp_path, Mode.UPLOADS_UNREAD, request_timeout_s=30.0) as (engine, sidecar):
        stuck = [await sidecar.submit(with_file(number)) for number in range(2 * MAX_UNSENT)]
        async with asyncio.timeout(20):
            while engine.uploads < MAX_UNSENT:
                await asyncio.sleep(0.01)
        for _ in range(3):
            ended = await sidecar.ended(await sidecar.submit(GRAPH))
            assert ended["status"] == "completed"
        states = [(await sidecar("GET", f"{WORKFLOW}/{each}")).body["status"] for each in stuck]
        assert states == ["queued"] * len(stuck)
        assert (await sidecar("DELETE", f"{WORKFLOW}/{stuck[0]}")).body["status"] == "cancelled"
        assert (await sidecar.ended(stuck[0]))["status"] == "cancelled"
        async with asyncio.timeout(20):
            while engine.uploads < MAX_UNSENT:  # the next one takes its place
                await asyncio.sleep(0.01)
        engine.healed = True
        assert {(await sidecar.ended(each))["status"] for each in stuck[1:]} == {"completed"}
        assert engine.most_uploads <= MAX_UNSENT + 1, "the cancelled one may still be closing"
