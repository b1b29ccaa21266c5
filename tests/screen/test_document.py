"""One document from several assets: everything inline, nothing let in from outside."""

import base64
import hashlib
import re
from pathlib import Path

import pytest

from comfy_mcp import screen
from comfy_mcp.screen.document import document, one_script


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the real assets; every file in it is one."""
    monkeypatch.setattr("comfy_mcp.screen.document.asset", lambda name: (tmp_path / name).read_text())
    return tmp_path


def write(folder: Path, **modules: str) -> None:
    for name, text in modules.items():
        (folder / f"{name}.js").write_text(text)


def test_imports_come_first_and_once_and_nothing_is_imported_or_exported_any_more(assets: Path) -> None:
    write(
        assets,
        main='import { left } from "./left.js";\nimport { right } from "./right.js";\nleft(right);\n',
        left='import {\n  right,\n} from "./right.js";\nexport const left = right;\n',
        right="export async function right() {}\nexport class Right {}\n",
    )
    assert [line for line in one_script("main.js").splitlines() if line] == [
        "async function right() {}",
        "class Right {}",
        "const left = right;",
        "left(right);",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "export default 1;",
        "export { a };",
        'import * as a from "./other.js";',
        'import { a as b } from "./x.mjs";',
        'import "./other.js";',
    ],
)
def test_a_form_that_cant_be_inlined_is_refused_by_name(assets: Path, line: str) -> None:
    write(assets, main=f"{line}\n")
    with pytest.raises(ValueError, match=r"main\.js: can't be inlined: (im|ex)port"):
        one_script("main.js")


def test_a_circle_of_imports_is_refused(assets: Path) -> None:
    write(assets, a='import { b } from "./b.js";\n', b='import { a } from "./a.js";\n')
    with pytest.raises(ValueError, match=r"a\.js imports itself by way of b\.js"):
        one_script("a.js")


@pytest.mark.parametrize("text", ['const a = "</SCRIPT>";', "// <!-- a comment"])
def test_a_script_that_would_end_its_element_is_refused(assets: Path, text: str) -> None:
    write(assets, main=text)
    with pytest.raises(ValueError, match="can't be inlined"):
        document("main.js", title="t")


def test_a_style_that_would_end_its_element_is_refused(assets: Path) -> None:
    write(assets, main="")
    (assets / "a.css").write_text('a::before { content: "</style>"; }')
    with pytest.raises(ValueError, match="a style with </style"):
        document("main.js", "a.css", title="t")


def test_the_policy_names_the_script_and_the_style_by_their_hashes(assets: Path) -> None:
    write(assets, main="let a = 1 < 2 && 'ü';\n")
    (assets / "a.css").write_text("a { color: red; }\n")
    text = document("main.js", "a.css", title="<b> & c")
    for element, directive in (("script", "script-src"), ("style", "style-src")):
        match = re.search(rf"<{element}[^>]*>(.*?)</{element}>", text, re.DOTALL)
        assert match
        digest = base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in text
    assert "default-src 'none'" in text
    assert "<title>&lt;b&gt; &amp; c</title>" in text


def test_no_asset_asks_for_anything_by_itself() -> None:
    for name in screen.NAMES:
        text = screen.asset(name)
        assert not re.search(
            r"\bfetch\(|XMLHttpRequest|WebSocket|EventSource|https?://|@import|url\(", text
        ), name
