"""For every test: the machine's own configuration and state stay outside; what runs beside what."""

import gc
import logging
import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest
import structlog
from coverage import Coverage
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests.support.fork_server import import_everything

TEST_TOOL_SETTINGS = frozenset(
    {"COMFYUI_SRC", "COMFY_BRIDGE_CACHE", "COMFY_BRIDGE_FETCH", "COMFY_BRIDGE_START_TIMEOUT"}
)


# No wall-clock is asserted, and nothing is left behind; in CI every run tries the same examples.
settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
    print_blob=True,
    derandomize="CI" in os.environ,
)
settings.load_profile("any machine")

TOGETHER = ("tests/apps/", "tests/contract/", "tests/deploy/", "tests/live/", "tests/page/")
"""Folders whose tests share what is dear to make: a browser, a real ComfyUI, an installed wheel."""


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives each process whole files, or whole folders of TOGETHER, in their order."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in TOGETHER if file.startswith(folder)), file)


LONGEST_FIRST = (
    "tests/faults/test_faults.py",
    "tests/page/",
    "tests/http_sidecar/openapi/test_schemathesis.py",
    "tests/connect/test_bare.py",
    "tests/live/",
)
"""What takes half a minute and more. Begun late, it would run while the other processes have ended."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST_FIRST))


UNWATCHED = (
    "tests/apps/",
    "tests/domain/test_budgets.py::test_a_share_",
    "tests/domain/test_budgets.py::test_no_line_",
    "tests/domain/test_budgets.py::test_the_work_",
    "tests/domain/test_budgets_any_file.py",
    "tests/faults/",
    "tests/live/",
    "tests/page/",
)
"""Tests that coverage doesn't watch: it would double their time, and others reach the same lines."""


def coverage_of(config: pytest.Config) -> Any:
    """pytest-cov's control of what is measured in this process, or None."""
    return getattr(config.pluginmanager.getplugin("_cov"), "cov_controller", None)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, Any, Any]:
    """Coverage watches the package's import, but not how ten thousand tests are found and handed out.
    And no collection of garbage looks at those, and at all that they have imported, again and again."""
    if coverage := coverage_of(session.config):
        if coverage.started:  # not in the process that hands them out
            import_everything()
        coverage.pause()
        if (below := Coverage.current()) is not None:  # pytest-cov starts two in each process of xdist's
            below.stop()
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    coverage = coverage_of(item.config)
    if coverage and coverage.started == item.nodeid.startswith(UNWATCHED):
        (coverage.pause if coverage.started else coverage.resume)()
    return (yield)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    config.option.loadscopereorder = False  # by the number of its tests, the longest file would be the last
    return ByFile(config, log)


@pytest.fixture(autouse=True, scope="session")
def _no_settings_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither what the environment configures nor a state folder in the home is used by a test."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("COMFYUI_", "COMFY_BRIDGE_")) and name not in TEST_TOOL_SETTINGS
    }
    for name in ours:
        del os.environ[name]
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state-home"))
    yield
    os.environ.update(ours)
    if before is None:
        del os.environ["XDG_STATE_HOME"]
    else:
        os.environ["XDG_STATE_HOME"] = before


def plain_logging() -> None:
    """Of a traceback no values: to draw those takes a second each time."""
    *steps, _ = structlog.get_config()["processors"]
    as_text = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*steps, as_text])


plain_logging()


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Commands configure logging for their process; here it is the test runner's."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    plain_logging()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
