"""The same tests with the jobs in SQLite and in PostgreSQL: a conftest imports the fixture.

For stores of the process itself: what starts others gives them an environment of its own.
"""

import pytest

from tests.support import postgres


@pytest.fixture(params=["sqlite", "postgresql"], autouse=True)
def kept_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every store that the test opens is a new one there."""
    if request.param == "postgresql":
        monkeypatch.setenv("COMFY_BRIDGE_STORE", postgres.shared().database())
