"""Rows of outputs and Outputs."""

from collections.abc import Mapping
from typing import Any

from comfy_mcp.domain.catalog import Output, OutputFile, OutputKind
from comfy_mcp.store.codec import storable
from comfy_mcp.store.connection import AnyRow


def output_values(output: Output) -> dict[str, Any]:
    """Every column of `outputs` but seq."""
    file = output.file
    return {
        "id": output.id,
        "job_id": output.job_id,
        "attempt": output.attempt,
        "engine": output.engine,
        "kind": file.kind.value,
        "filename": storable(file.filename),
        "subfolder": storable(file.subfolder),
        "folder_type": storable(file.folder_type),
        "node": storable(file.node),
        "animated": file.animated,
        "text": storable(file.text),
        "created_at": output.created_at,
        "size": output.size,
        "sha256": output.sha256,
    }


_KINDS: Mapping[str, OutputKind] = {kind.value: kind for kind in OutputKind}


def output_of(row: AnyRow) -> Output:
    """A kind that this version does not know is a file."""
    return Output(
        id=row.id,
        job_id=row.job_id,
        attempt=row.attempt,
        engine=row.engine,
        file=OutputFile(
            kind=_KINDS.get(row.kind, OutputKind.FILE),
            filename=row.filename,
            subfolder=row.subfolder,
            folder_type=row.folder_type,
            node=row.node,
            animated=bool(row.animated),
            text=row.text,
        ),
        created_at=row.created_at,
        size=row.size,
        sha256=row.sha256,
    )
