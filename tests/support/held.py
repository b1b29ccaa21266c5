"""Runs of embedded engines in this process that stand still until a test lets them go on."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from comfy_mcp.embedded.execution import NodeContext


@contextmanager
def held(*, at: int = 1) -> Iterator[Callable[[], None]]:
    """Every node that tells its steps stands still after step `at`, until what this gives is called. A run
    that is interrupted ends all the same."""
    go_on, progress = threading.Event(), NodeContext.progress

    def stopping(node: NodeContext, value: int, *more: object) -> None:
        progress(node, value, *more)  # type: ignore[arg-type]
        while value == at and not go_on.wait(0.01):
            node._worker.check_interrupt()

    with patch.object(NodeContext, "progress", stopping):
        try:
            yield go_on.set
        finally:
            go_on.set()
