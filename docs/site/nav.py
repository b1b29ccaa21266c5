"""Run by mkdocs: the decisions, in their order, as the last part of the navigation."""

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    files = sorted((Path(config["docs_dir"]) / "decisions").glob("*.md"))
    config["nav"].append({"Decisions": [f"decisions/{file.name}" for file in files]})
    return config
