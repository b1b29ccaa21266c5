"""What is said of a job whose engine does not answer any more, and of an engine that hangs."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.errors import BridgeError, EngineUnreachable, InvalidGraph
from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from comfy_mcp.library import model_engines
from comfy_mcp.library import workflows as workflow_lists
from comfy_mcp.operations import states
from comfy_mcp.places.comfyui import contact, node_list
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from tests.operations.conftest import CALLER, Bench
from tests.operations.test_file_inputs import load
from tests.support import graphs
from tests.support.constants import constants
from tests.support.processes import embedded_engine

LIMIT_S = 20.0
SHORT_S = 15.0
"""Far less than the time limits of requests, far more than an answer needs."""


@pytest.fixture
async def hung() -> AsyncIterator[str]:
    """The address of something that accepts connections and never answers."""
    over = asyncio.Event()

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        over.set()


@pytest.fixture(autouse=True)
def _nothing_waits_for_long() -> Iterator[None]:
    with constants(QUIET_S=0.05, MAX_PAUSE_S=0.05, CANCEL_WAIT_S=0.01):
        yield


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_running_job_of_a_dead_engine_says_so_and_guesses_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(contact, "PATIENCE_S", 0.3)
    async with embedded_engine(tmp_path / "engine") as (process, url):
        settings = load_settings(
            engine_urls=url,
            state_dir=tmp_path / "state",
        )
        async with open_runtime(settings) as services:
            call = Bench(services, CALLER)
            job = (await call("submit_workflow", workflow=graphs.slow())).workflow_id
            async with asyncio.timeout(LIMIT_S):
                while (state := await call("workflow_status", workflow_id=job)).status != "running":
                    await asyncio.sleep(0)
                assert state.silence is None
                os.kill(process.pid, number)
                while (state := await call("workflow_status", workflow_id=job)).silence is None:
                    await asyncio.sleep(0)
            assert (state.status, state.eta_ms) == ("running", None)
            assert "has not answered for" in state.text()
            assert "may still run there" in state.text()
            assert " left" not in state.text()
            assert state.silence.since <= services.now_ms()
            (running,) = (await call("queue")).running
            assert "has not answered for" in running.silence.message
            if number == signal.SIGSTOP:
                assert "It may load a model." in state.next_step
            else:  # nothing listens there
                async with asyncio.timeout(LIMIT_S):
                    while "It may load a model." in state.next_step:
                        state = await call("workflow_status", workflow_id=job)
                assert "Start or restart ComfyUI" in state.next_step
            with monkeypatch.context() as long_silent:
                long_silent.setattr(states, "HANGS_S", 0.0)
                state = await call("workflow_status", workflow_id=job)
            assert "restart ComfyUI" in state.next_step
            waited = await call("wait_for_workflow", workflow_id=job, timeout_s=0)
            assert waited.silence is not None
            asked = await call("cancel_workflow", workflow_id=job)
            assert (asked.status, asked.cancel_requested) == ("running", True)
            assert "has not answered for" in asked.next_step
            assert "ends as cancelled" in asked.next_step


async def test_a_hung_engine_keeps_nobody_waiting(tmp_path: Path, hung: str) -> None:
    settings = load_settings(engine_urls=hung, state_dir=tmp_path / "state")
    async with open_runtime(settings) as services, asyncio.timeout(LIMIT_S):
        call = Bench(services, CALLER)
        async with asyncio.timeout(SHORT_S):
            status = await call("system_status")
        (engine,) = status.engines
        assert not engine.up
        assert "No answer for" in engine.error
        assert "ask again in half a minute" in status.text()
        assert "restart" not in status.text()


ASKED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("list_models", {}),
    ("find_workflow", {}),
    ("find_workflow", {"query": "fox"}),
    ("find_nodes", {"query": "image"}),
    ("describe_workflow", {"name": "upscale"}),
    ("submit_workflow", {"workflow": "upscale", "inputs": {"image": "cat.png"}}),
    ("submit_workflow", {"workflow": graphs.picture()}),
    ("submit_workflow", {"workflow": graphs.slow(steps=1, step_ms=1), "variations": 2}),
    ("system_status", {}),
)


async def asked_all(call: Bench) -> dict[str, Any]:
    """What each answers, or its error; none takes longer than SHORT_S."""
    answers: dict[str, Any] = {}
    for number, (name, arguments) in enumerate(ASKED):
        async with asyncio.timeout(SHORT_S):
            try:
                answers[f"{number} {name}"] = await call(name, **arguments)
            except BridgeError as error:
                answers[f"{number} {name}"] = error
    return answers


async def test_an_engine_that_has_never_answered_is_said_to_be_silent(tmp_path: Path, hung: str) -> None:
    settings = load_settings(engine_urls=hung, state_dir=tmp_path / "state")
    async with open_runtime(settings) as services:
        answers = await asked_all(Bench(services, CALLER))
    models, nodes = answers["0 list_models"], answers["3 find_nodes"]
    assert isinstance(models, EngineUnreachable)
    assert "has not answered for" in models.message
    assert isinstance(nodes, EngineUnreachable)
    assert nodes.next_step
    assert "No engine answers" in answers["1 find_workflow"].text()
    assert "No engine answers now" in str(answers["4 describe_workflow"])
    assert "No engine answers now" in str(answers["5 submit_workflow"])
    queued = answers["6 submit_workflow"]
    assert queued.status == "queued"
    assert "has not answered for" in " ".join(queued.warnings)


async def test_what_an_engine_said_before_it_hung_is_still_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact, "PATIENCE_S", 0.3)
    monkeypatch.setattr(model_engines, "TTL_S", 0.0)
    monkeypatch.setattr(workflow_lists, "LISTS_TTL_S", 0.0)
    monkeypatch.setattr(node_list, "NODES_FRESH_S", 0.001)
    async with embedded_engine(tmp_path / "engine") as (process, url):
        settings = load_settings(engine_urls=url, state_dir=tmp_path / "state")
        async with open_runtime(settings) as services:
            call = Bench(services, CALLER)
            before = await asked_all(call)
            assert "upscale" in before["1 find_workflow"].text()
            os.kill(process.pid, signal.SIGSTOP)
            for _ in range(2):
                answers = await asked_all(call)
            doubted = await call("submit_workflow", workflow=load("gone.png"), dry_run=True)
            wrong = {**load("gone.png"), "3": load("sub/gone.png")["1"], "4": {"class_type": "NoSuchClass"}}
            with pytest.raises(InvalidGraph) as refused:
                await call("submit_workflow", workflow=wrong)
            os.kill(process.pid, signal.SIGCONT)
    for name in ("0 list_models", "1 find_workflow", "3 find_nodes", "4 describe_workflow"):
        assert answers[name].warnings, name
        assert "this is what was there" in answers[name].warnings[0], name
    assert "upscale" in answers["1 find_workflow"].text()
    assert answers["3 find_nodes"].total == before["3 find_nodes"].total
    for name in ("5 submit_workflow", "6 submit_workflow", "7 submit_workflow"):
        assert not isinstance(answers[name], BridgeError), name
        assert answers[name].status == "queued", name
    for warnings in (doubted.warnings, refused.value.warnings):
        said = " ".join(warnings)
        assert "'gone.png' is not in the list that this engine gave" in said
        assert re.search(r"does not answer: the lists of what it has are \d+ (s|min) old\.", said), said


async def test_a_batch_on_a_hung_engine_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact, "PATIENCE_S", 0.3)
    async with embedded_engine(tmp_path / "engine") as (process, url):
        settings = load_settings(engine_urls=url, state_dir=tmp_path / "state")
        async with open_runtime(settings) as services:
            call = Bench(services, CALLER)
            batch = (await call("submit_workflow", workflow=graphs.slow(), variations=2)).workflow_id
            async with asyncio.timeout(LIMIT_S):
                while (await call("workflow_status", workflow_id=batch)).status != "running":
                    await asyncio.sleep(0)
                os.kill(process.pid, signal.SIGSTOP)
                while (state := await call("workflow_status", workflow_id=batch)).silence is None:
                    await asyncio.sleep(0)
            assert "has not answered for" in state.text()
            waited = await call("wait_for_workflow", workflow_id=batch, timeout_s=0)
            assert "has not answered for" in waited.text()
            asked = await call("cancel_workflow", workflow_id=batch)
            assert asked.stopping
            assert "has not answered for" in asked.text()
            assert "ends as cancelled" in asked.text()
            os.kill(process.pid, signal.SIGCONT)


async def test_the_first_status_of_a_session_knows_who_drives(tmp_path: Path) -> None:
    async with EmbeddedEngine(EngineConfig(base_directory=tmp_path / "engine")) as engine:
        settings = load_settings(engine_urls=engine.url, state_dir=tmp_path / "state")
        async with open_runtime(settings) as services:
            status = await Bench(services, CALLER)("system_status")
        (item,) = status.engines
        assert (item.up, item.driven_by, status.problems) == (True, "this process", [])
        async with open_runtime(settings, drive=False) as services:
            status = await Bench(services, CALLER)("system_status")
        assert status.engines[0].driven_by is None
        assert "No process drives" in status.text()


async def test_a_process_that_drives_nothing_asks_the_engine_itself(tmp_path: Path) -> None:
    async with EmbeddedEngine(EngineConfig(base_directory=tmp_path / "engine")) as engine:
        settings = load_settings(engine_urls=engine.url, state_dir=tmp_path / "state")
        async with open_runtime(settings) as driving, open_runtime(settings, drive=False) as looking:
            job = (await Bench(driving, CALLER)("submit_workflow", workflow=graphs.slow())).workflow_id
            look = Bench(looking, CALLER)
            async with asyncio.timeout(LIMIT_S):
                while (state := await look("workflow_status", workflow_id=job)).status != "running":
                    await asyncio.sleep(0)
            assert state.silence is None
            (place,) = looking.engines.pool.all()
            assert place.known_age_s is not None
            assert await looking.engines.silence(type(place.engine)("another")) is None
