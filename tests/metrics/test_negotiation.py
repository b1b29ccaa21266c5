"""Which format a scraper gets."""

import pytest

from comfy_mcp.metrics import Format, negotiate

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_TEXT_ONLY = (
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Format.TEXT),
        ("*/*", Format.TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", Format.TEXT),
        (PROMETHEUS_2, Format.OPENMETRICS),
        (PROMETHEUS_3_TEXT_ONLY, Format.TEXT),
        ("application/openmetrics-text", Format.OPENMETRICS),
        ("Application/OpenMetrics-Text ; Version=1.0.0", Format.OPENMETRICS),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.7", Format.TEXT),
        ("application/openmetrics-text;q=0", Format.TEXT),
        ("application/openmetrics-text;q=loud", Format.TEXT),
        ("application/openmetrics-text;q=nan", Format.TEXT),
        ("application/openmetrics-text;q=9", Format.TEXT),
        (";;;,,=;q", Format.TEXT),
        ("application/openmetrics-text;version=∞;escaping=\x00", Format.OPENMETRICS),
    ],
)
def test_the_accept_header_decides(accept: str, form: Format) -> None:
    assert negotiate(accept) is form
