"""The tags that clients give their jobs, where an index finds a job by one of them. Synchronous; runs in a
transaction of the caller."""

import json
from typing import Any

from comfy_mcp.domain.events import JobEvent, JobQueued
from comfy_mcp.store.connection import Connection, Statement
from comfy_mcp.store.core import bindparam, insert, job_tags, jobs, select

_INSERT = Statement(insert(job_tags))
HAS: Any = jobs.c.id.in_(select(job_tags.c.job_id).where(job_tags.c.tag == bindparam("b_tag")))


def put(connection: Connection, event: JobEvent) -> None:
    """Those of a new job."""
    if isinstance(event, JobQueued):
        for each in event.tags:
            connection.send(_INSERT, {"job_id": event.job_id, "tag": text_of(*each)})


def text_of(name: str, value: str) -> str:
    """One text for both, in ASCII."""
    return json.dumps([name, value])
