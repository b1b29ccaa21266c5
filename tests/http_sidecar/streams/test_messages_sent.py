"""What the streams send is what the message models declare."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from http_sidecar.streams.messages import SOCKET_MESSAGES, SSE_MESSAGES, wire_text
from tests.support.http_streams import StreamHouse, open_house, sse_messages
from tests.support.jobs import completed, output_of_job, progressed

MODELS = {model.model_fields["type"].default: model for model in (*SOCKET_MESSAGES, *SSE_MESSAGES)}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[StreamHouse]:
    async with open_house(tmp_path) as house:
        yield house


async def test_what_the_streams_say_is_what_the_models_say(house: StreamHouse) -> None:
    job_id = await house.submit()
    async with house.stream() as client, house.sse(job_id) as response:
        await client.subscribe("*", since=0)
        said = await client.settled()
        await client.ws.send_str("?")
        said.append(await client.next())
        assert await house.claim() == job_id
        job = house.jobs[job_id]
        await house.write(job_id, progressed(job, 0.5))
        said += await client.settled()
        await house.write(job_id, completed(job, output_count=1), outputs=[output_of_job(job)])
        said += await client.settled()
        said += await sse_messages(response)
    kinds = {message["type"] for message in said}
    assert kinds == {"workflow:queued", "workflow:progress", "workflow:completed", "error"}
    for message in said:
        model = MODELS[message["type"]]
        assert json.loads(wire_text(model.model_validate(message))) == message
        with pytest.raises(ValidationError):
            model.model_validate({key: value for key, value in message.items() if key != "seq"})
