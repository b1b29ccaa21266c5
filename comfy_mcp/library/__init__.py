"""Files: models and outputs on disk and over HTTP, previews, workflow files."""

from comfy_mcp.library.input_files import InputFiles
from comfy_mcp.library.model_engines import ModelSource
from comfy_mcp.library.model_hashes import HashCache
from comfy_mcp.library.models import ModelLibrary
from comfy_mcp.library.output_content import FileServer, OutputContent, OutputData, ServedFile, Span
from comfy_mcp.library.outputs import OutputFiles
from comfy_mcp.library.previews import Preview, make_preview
from comfy_mcp.library.workflow_files import WorkflowFiles, parse_workflow_text
from comfy_mcp.library.workflows import WorkflowLibrary, WorkflowSource

__all__ = [
    "FileServer",
    "HashCache",
    "InputFiles",
    "ModelLibrary",
    "ModelSource",
    "OutputContent",
    "OutputData",
    "OutputFiles",
    "Preview",
    "ServedFile",
    "Span",
    "WorkflowFiles",
    "WorkflowLibrary",
    "WorkflowSource",
    "make_preview",
    "parse_workflow_text",
]
