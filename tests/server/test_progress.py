"""Progress of a wait: paced, growing, the last state always."""

import asyncio

import pytest

from comfy_mcp.operations.shapes import StatusName, WorkflowResult
from comfy_mcp.server.progress import ProgressReporter, progress_message
from tests.support.mcp_surface import background


def state(
    status: StatusName = "running",
    progress: float = 0.0,
    node: str | None = None,
    position: int | None = None,
) -> WorkflowResult:
    return WorkflowResult(
        workflow_id="w",
        status=status,
        queue_position=position,
        progress=progress,
        current_node=node,
        start_time=None,
        completion_time=None,
        outputs=[],
        error=None,
        failure=None,
        priority="normal",
        client="c",
        engine=None,
        attempt=0,
        created_time=0,
    )


class Sent:
    def __init__(self) -> None:
        self.values: list[tuple[float, float | None, str | None]] = []
        self.arrived = asyncio.Event()

    async def __call__(self, value: float, total: float | None, message: str | None) -> None:
        self.values.append((value, total, message))
        self.arrived.set()

    async def next(self) -> None:
        await self.arrived.wait()
        self.arrived.clear()


async def report(*states: WorkflowResult) -> list[tuple[float, float | None, str | None]]:
    """Each state is sent before the next one is heard."""
    sent = Sent()
    reporter = ProgressReporter(sent, send_timeout_s=5, pause_s=0)
    async with background(reporter.run()):
        for heard in states[:-1]:
            await reporter.heard(heard)
            await sent.next()
        await reporter.heard(states[-1])
    await reporter.finish()
    return sent.values


async def test_values_grow_when_only_the_message_changes() -> None:
    values = await report(
        state("queued", position=3), state("queued", position=2), state(progress=10, node="KSampler"),
        state("completed", 100),
    )  # fmt: skip
    numbers = [value for value, _, _ in values]
    assert numbers == sorted(set(numbers))
    assert [message for _, _, message in values] == [
        "queued, position 3", "queued, position 2", "KSampler", "completed",
    ]  # fmt: skip
    assert values[-1] == (100.0, 100.0, "completed")


async def test_a_job_that_starts_over_does_not_move_the_bar_back() -> None:
    values = await report(state(progress=60, node="A"), state("queued", 0), state(progress=10, node="A"),
                          state("failed", 10))  # fmt: skip
    numbers = [value for value, _, _ in values]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 60
    assert numbers[-1] < 61
    assert values[-1][2] == "failed"


async def test_states_between_two_sends_are_one() -> None:
    sent = Sent()
    reporter = ProgressReporter(sent, send_timeout_s=5, pause_s=3600)
    async with background(reporter.run()):
        await reporter.heard(state(progress=1))
        await sent.next()
        for progress in range(2, 90):
            await reporter.heard(state(progress=progress))
        await reporter.heard(state("completed", 100))
    await reporter.finish()
    assert [value for value, _, _ in sent.values] == [1, 100]


@pytest.mark.parametrize("waits", [state("queued", position=2), state(progress=99.9995, node="A")])
async def test_a_wait_in_which_nothing_happens_is_reported_again_and_again(waits: WorkflowResult) -> None:
    sent = Sent()
    reporter = ProgressReporter(sent, send_timeout_s=5, pause_s=0, heartbeat_s=0.001)
    async with background(reporter.run()):
        await reporter.heard(waits)
        for _ in range(5):
            await sent.next()
    await reporter.heard(state("completed", 100))
    await reporter.finish()
    numbers = [value for value, _, _ in sent.values]
    assert len(numbers) >= 6
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 100
    assert numbers[-2] < 100


async def test_nothing_is_reported_before_the_first_state() -> None:
    sent = Sent()
    reporter = ProgressReporter(sent, send_timeout_s=5, pause_s=0, heartbeat_s=0.001)
    async with background(reporter.run()):
        await asyncio.sleep(0)
    await reporter.finish()
    assert sent.values == []


async def test_the_same_state_is_sent_once() -> None:
    sent = Sent()
    reporter = ProgressReporter(sent, send_timeout_s=5, pause_s=0)
    await reporter.heard(state(progress=5, node="A"))
    await reporter.finish()
    await reporter.heard(state(progress=5, node="A"))
    await reporter.finish()
    assert len(sent.values) == 1


async def test_a_client_that_does_not_take_progress_gets_no_more_and_the_wait_goes_on() -> None:
    calls = 0

    async def stuck(value: float, total: float | None, message: str | None) -> None:
        nonlocal calls
        calls += 1
        await asyncio.Event().wait()

    reporter = ProgressReporter(stuck, send_timeout_s=0.01, pause_s=0)
    await reporter.heard(state(progress=1))
    await reporter.run()
    await reporter.heard(state("completed", 100))
    await reporter.finish()
    assert calls == 1


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (state("queued"), "queued"),
        (state("running"), "running"),
        (state("running", node="VAE Decode"), "VAE Decode"),
        (state("cancelled"), "cancelled"),
    ],
)
def test_the_message_says_where_it_is(result: WorkflowResult, message: str) -> None:
    assert progress_message(result) == message
