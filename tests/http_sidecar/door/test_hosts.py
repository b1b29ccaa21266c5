"""Which Host and Origin headers are believed."""

import pytest

from http_sidecar.door.hosts import embeds, host_allowed, origin_allowed


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:9090", "a.localhost", "127.0.0.1", "10.0.0.7:9090", "[::1]", "[fe80::1]:9090"],
)
def test_this_machine_and_addresses_are_believed(host: str) -> None:
    assert host_allowed(host, ())


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example", "evil.example:9090", "localhost.evil.example", "127.0.0.1.evil.example",
     "localhost:x", "[::1", "user@localhost", "localhost/path"],
)  # fmt: skip
def test_other_names_and_what_is_no_host_are_not(host: str | None) -> None:
    assert not host_allowed(host, ())


def test_a_listed_name_is_believed_with_any_port_or_only_with_its_own() -> None:
    assert host_allowed("bridge:9090", ("bridge",))
    assert host_allowed("Bridge", ("bridge",))
    assert host_allowed("bridge:9090", ("bridge:9090",))
    assert not host_allowed("bridge:9091", ("bridge:9090",))
    assert host_allowed("anything.example", ("*",))


@pytest.mark.parametrize("origin", [None, "http://127.0.0.1:9090", "https://app.example"])
def test_no_page_pages_of_this_server_and_listed_ones_may_call(origin: str | None) -> None:
    assert origin_allowed(origin, "127.0.0.1:9090", ("https://app.example",))


@pytest.mark.parametrize(
    "origin",
    ["null", "https://evil.example", "http://app.example", "http://10.0.0.8", "http://localhost.evil.example",
     "http://user@localhost", "http://localhost:x", "", "http://localhost:3000", "http://127.0.0.1:5173",
     "http://[::1]", "http://localhost"],
)  # fmt: skip
def test_other_pages_may_not(origin: str) -> None:
    assert not origin_allowed(origin, "10.0.0.7:9090", ("https://app.example",))


def test_a_page_of_this_very_server_may_call_where_its_host_is_believed() -> None:
    assert origin_allowed("http://bridge:9090", "bridge:9090", ())
    assert not origin_allowed("http://bridge:9091", "bridge:9090", ())
    assert not origin_allowed("http://bridge:9090", None, ())


def test_any_origin_may_be_allowed() -> None:
    assert origin_allowed("null", "localhost", ("*",))
    assert origin_allowed("https://evil.example", "localhost", ("*",))


def fetched(site: str, mode: str = "no-cors", dest: str = "image", **more: str) -> dict[str, str]:
    return {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest, **more}


@pytest.mark.parametrize(
    "headers",
    [
        fetched("cross-site"),
        fetched("cross-site", "no-cors", "script"),
        fetched("cross-site", "navigate", "iframe"),
        fetched("cross-site", "cors", "empty", Origin="https://evil.example"),
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_what_a_page_of_another_site_embeds_is_known_by_its_site(headers: dict[str, str]) -> None:
    assert embeds(headers, ("https://app.example",))
    assert not embeds(headers, ("*",))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        fetched("none", "navigate", "document"),
        fetched("same-origin"),
        fetched("same-site"),  # the browser keeps it from the page: Cross-Origin-Resource-Policy
        fetched("cross-site", "navigate", "document"),
        fetched("cross-site", "cors", "empty", Origin="https://app.example"),
    ],
)
def test_a_link_the_own_page_and_a_listed_one_embed_nothing_foreign(headers: dict[str, str]) -> None:
    assert not embeds(headers, ("https://app.example",))
