"""The key of signed links: one for all processes, for its owner's eyes only."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from comfy_mcp.domain.ids import OutputId
from comfy_mcp.library.links import KEY_BYTES, Links

ID = OutputId("o1")


def links(folder: Path, url: str | None = "https://host.example/base", now: int = 1_800_000_000) -> Links:
    return Links(folder / "links.key", url, now_ms=lambda: now * 1000)


def opens(made: Links, url: str, output_id: str = ID) -> bool:
    query = parse_qs(urlsplit(url).query)
    return made.allows(output_id, query["expires"][0], query["signature"][0])


def test_a_link_is_absolute_and_opens_one_output(tmp_path: Path) -> None:
    made = links(tmp_path)
    url = made.of("/v1/comfyui/output/o1", ID)
    assert url.startswith("https://host.example/base/v1/comfyui/output/o1?expires=")
    assert opens(made, url)
    assert not opens(made, url, "o2")
    assert made.of("/v1/comfyui/output/o1", ID) == url
    assert opens(links(tmp_path), url)  # another process
    assert not opens(links(tmp_path, now=1_800_000_000 + 86_400), url)
    assert opens(links(tmp_path, url=None), url)  # who has no address of its own says where it was reached


def test_the_key_is_its_owners_and_a_damaged_one_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "links.key"
    url = links(tmp_path).of("/o", ID)
    assert (file.stat().st_mode & 0o777, len(file.read_bytes())) == (0o600, KEY_BYTES)
    file.write_bytes(b"half")
    made = links(tmp_path)
    assert not opens(made, url)
    assert opens(made, made.of("/o", ID))
    assert [each.name for each in tmp_path.iterdir()] == ["links.key"]
