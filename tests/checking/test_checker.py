"""Large workflows are judged as small ones are, by a process that may be killed at any time."""

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.checking import checker as module
from comfy_mcp.checking import worker
from comfy_mcp.checking.checker import WAITING, Checker
from comfy_mcp.checking.messages import OUT_OF_MEMORY, Question, packed
from comfy_mcp.domain.errors import BridgeError, ErrorCode, InvalidGraph, LimitExceeded
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.domain.judging import Judged, judge
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.shares import Shares
from tests.support.graphs import picture

IMAGE = {"input": {"required": {"images": ["IMAGE"]}}, "output": ["IMAGE"], "output_node": True}
BLANK = {"input": {"required": {"width": ["INT"]}, "optional": {"a": ["X"]}}, "output": ["IMAGE"]}
INFO = ObjectInfo.parse({"SaveImage": IMAGE, "EmptyImage": BLANK})
PICTURE = picture()


def chain(length: int) -> dict[str, Any]:
    first = {"0": {"class_type": "EmptyImage", "inputs": {"width": 8}}}
    return first | {
        str(at): {"class_type": "SaveImage", "inputs": {"images": [str(at - 1), 0]}}
        for at in range(1, length)
    }


@pytest.fixture
async def checker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Checker]:
    """For which all of these are large."""
    monkeypatch.setattr(module, "INLINE_BYTES", 100)
    checker = Checker()
    yield checker
    await checker.aclose()


async def judged(
    checker: Checker, raw: object, info: ObjectInfo | None = INFO, client: str = "ann"
) -> Judged:
    return await checker.judge(raw, json.dumps(raw).encode(), info, client=ClientId(client))


def pid(checker: Checker) -> int:
    assert checker._process is not None
    return checker._process.pid


@pytest.mark.parametrize("info", [INFO, None])
async def test_the_process_judges_as_this_one_does(checker: Checker, info: ObjectInfo | None) -> None:
    for raw in (PICTURE, chain(3_000), {"prompt": PICTURE}):
        assert await judged(checker, raw, info) == judge(raw, info)


async def test_small_workflows_start_no_process() -> None:
    checker = Checker()
    assert await judged(checker, PICTURE) == judge(PICTURE, INFO)
    assert checker._process is None
    await checker.aclose()


async def test_a_small_file_that_opens_to_much_goes_to_the_process() -> None:
    leaf = {"id": 1, "type": "SaveImage"}
    subgraphs = [
        {"id": f"s{at}", "nodes": [leaf] if at == 12 else [{"id": n, "type": f"s{at + 1}"} for n in (1, 2)]}
        for at in range(13)
    ]
    checker = Checker()
    found = await judged(
        checker, {"nodes": [{"id": 1, "type": "s0"}], "definitions": {"subgraphs": subgraphs}}
    )
    assert len(found.graph.nodes) == 4096
    assert checker._process is not None
    await checker.aclose()


@pytest.mark.parametrize("raw", [[], {"1": 7, "padding": "x" * 100}, {"nodes": [], "padding": "x" * 100}])
async def test_what_is_refused_is_refused_alike(checker: Checker, raw: object) -> None:
    with pytest.raises(InvalidGraph) as here:
        judge(raw, INFO)
    with pytest.raises(InvalidGraph) as there:
        await judged(checker, raw)
    assert vars(there.value) == vars(here.value)


async def test_the_process_is_kept_and_knows_the_classes_of_the_engine_until_others_come(
    checker: Checker,
) -> None:
    for info in (INFO, INFO, ObjectInfo.parse({"SaveImage": IMAGE}), INFO, None, INFO):
        assert (await judged(checker, PICTURE, info)).report == judge(PICTURE, info).report
        first = pid(checker)
    assert pid(checker) == first


async def test_over_its_limit_the_process_is_replaced_and_the_workflow_refused() -> None:
    checker = Checker(cpu_s=0)
    with pytest.raises(LimitExceeded, match="0 s of CPU") as caught:
        await judged(checker, chain(150_000))
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert (await judged(checker, PICTURE)).report.runnable
    await checker.aclose()


async def test_without_an_answer_in_time_it_is_refused_too(
    checker: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await judged(checker, PICTURE)
    os.kill(pid(checker), signal.SIGSTOP)
    monkeypatch.setattr(module, "WALL_S", 0.05)
    with pytest.raises(LimitExceeded):
        await judged(checker, PICTURE)


async def test_a_process_that_was_killed_meanwhile_is_replaced(checker: Checker) -> None:
    await judged(checker, PICTURE)
    assert checker._process is not None
    checker._process.kill()
    await checker._process.wait()
    assert (await judged(checker, PICTURE)).report.runnable


async def test_an_end_that_no_limit_explains_is_a_defect(checker: Checker) -> None:
    await judged(checker, PICTURE)
    os.kill(pid(checker), signal.SIGSTOP)
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(failure(checker))
        while checker._turns._running.has_room("ann"):
            await asyncio.sleep(0)
        os.kill(pid(checker), signal.SIGTERM)
        os.kill(pid(checker), signal.SIGCONT)
    assert isinstance(asking.result(), RuntimeError)


async def failure(checker: Checker) -> Exception | None:
    try:
        await judged(checker, chain(1_000))
    except (RuntimeError, BridgeError) as error:
        return error
    return None


async def test_a_caller_who_leaves_takes_the_process_with_him(checker: Checker) -> None:
    await judged(checker, PICTURE)
    os.kill(pid(checker), signal.SIGSTOP)
    asking = asyncio.get_running_loop().create_task(judged(checker, chain(1_000)))
    while checker._turns._running.has_room("ann"):
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    assert checker._process is None
    assert (await judged(checker, PICTURE)).report.runnable


async def test_too_many_that_wait_are_refused(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, "_waiting", Shares(0, "large workflows", code=ErrorCode.QUEUE_FULL))
    with pytest.raises(LimitExceeded) as caught:
        await judged(checker, PICTURE)
    assert caught.value.code is ErrorCode.QUEUE_FULL


async def test_one_client_leaves_room_and_turns_for_others(checker: Checker) -> None:
    """However many large workflows it sends: those of others are checked in between."""
    await judged(checker, PICTURE)
    os.kill(pid(checker), signal.SIGSTOP)
    done: list[str] = []

    async def send(client: str) -> None:
        assert (await judged(checker, PICTURE, client=client)).report.runnable
        done.append(client)

    async with asyncio.TaskGroup() as group:
        for client in ("ann",) * (WAITING // 2) + ("bob", "eve", "bob"):
            group.create_task(send(client))
            await asyncio.sleep(0)
        with pytest.raises(LimitExceeded, match="You have 8 of the 16 places") as caught:
            await judged(checker, PICTURE, client="ann")
        assert caught.value.code is ErrorCode.QUEUE_FULL
        os.kill(pid(checker), signal.SIGCONT)
    assert done == ["ann", "ann", "bob", "eve", "ann", "bob", *["ann"] * 5]
    assert (await judged(checker, PICTURE, client="ann")).report.runnable


async def test_an_idle_process_ends(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.0)
    await judged(checker, PICTURE)
    assert checker._process is not None
    async with asyncio.timeout(30):
        assert await checker._process.wait() == 0
    assert (await judged(checker, PICTURE)).report.runnable


@pytest.mark.parametrize("where", ["judge", "packed"])
def test_the_worker_says_when_it_has_no_memory(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    question = packed(Question(text=json.dumps(PICTURE).encode(), cpu_s=10, info=INFO, same_info=False))
    monkeypatch.setattr(worker, "_limit_cpu", lambda _: None)
    monkeypatch.setattr(worker, where, full)
    with pytest.raises(SystemExit) as caught:
        worker.main(io.BytesIO(question), io.BytesIO())
    assert caught.value.code == OUT_OF_MEMORY


async def test_a_module_in_the_folder_of_the_start_is_not_run(
    checker: Checker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('not the one of Python')")
    monkeypatch.chdir(tmp_path)
    assert (await judged(checker, PICTURE)).report.runnable


async def test_a_process_that_cannot_be_started_refuses_the_workflow(
    checker: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_process(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", no_process)
    with pytest.raises(LimitExceeded, match="could not be started"):
        await judged(checker, PICTURE)


@pytest.mark.parametrize("cut", [1, 3, 5, 100])
def test_a_question_that_breaks_off_ends_the_process_quietly(cut: int) -> None:
    """Whoever asked was killed while it wrote."""
    whole = packed(Question(text=json.dumps(PICTURE).encode(), cpu_s=1, info=None, same_info=False))
    answers = io.BytesIO()
    worker.main(io.BytesIO(whole[:cut]), answers)
    assert answers.getvalue() == b""


async def test_an_answer_that_nobody_reads_ends_the_process_quietly() -> None:
    """Whoever asked was killed while it waited: its log is the stderr of this process."""
    question = packed(Question(text=json.dumps(PICTURE).encode(), cpu_s=10, info=None, same_info=False))
    unread, answers = os.pipe()
    os.close(unread)
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "comfy_mcp.checking.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=answers,
            stderr=asyncio.subprocess.PIPE,
        )
    finally:
        os.close(answers)
    _, errors = await process.communicate(question)
    assert errors == b""
    assert process.returncode == 0
