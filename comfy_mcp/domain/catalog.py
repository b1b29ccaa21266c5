"""Models and outputs: kinds, filters, pages."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from comfy_mcp.domain.ids import ClientId, EngineId, JobId, NodeId, OutputId

T = TypeVar("T")


class OutputKind(StrEnum):
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    TEXT = "text"
    LATENT = "latent"
    MODEL3D = "3d"
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFile:
    """One output as the engine reports it: a file in one of its folders, or a text without a file.

    `folder_type` is `output`, `temp` or `input`. `text` is set for kind TEXT only, where `filename` is "".
    """

    kind: OutputKind
    filename: str
    subfolder: str = ""
    folder_type: str = "output"
    node: NodeId | None = None
    animated: bool = False
    text: str | None = None

    @property
    def is_written(self) -> bool:
        """Its bytes are text for a reader: a text file, or a drawing that is written as XML."""
        return self.kind is OutputKind.TEXT or self.filename.lower().endswith(".svg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """An output with the job that made it. `size` in bytes and `sha256` are None until known."""

    id: OutputId
    job_id: JobId
    attempt: int
    engine: EngineId
    file: OutputFile
    created_at: int
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFound:
    """What became known of an output: its bytes, and their hash where they were read."""

    id: OutputId
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """`next_cursor` is None on the last page. `total` counts all matches where that is cheap."""

    items: tuple[T, ...]
    next_cursor: str | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputQuery:
    """Which outputs, newest first. Times are epoch milliseconds; both ends included; no `kinds` means all.
    `job_id` may be a batch: then of all its jobs."""

    job_id: JobId | None = None
    client: ClientId | None = None
    filename: str | None = None
    id_start: str | None = None
    kinds: Collection[OutputKind] = ()
    created_after: int | None = None
    created_before: int | None = None
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model file. `size` in bytes; `sha256` is None until it has been computed."""

    name: str
    type: str
    size: int | None = None
    sha256: str | None = None
    modified_at: int | None = None


V1_MODEL_FOLDERS: Mapping[str, str] = {
    "checkpoints": "checkpoints",
    "loras": "loras",
    "vae": "vae",
    "controlnet": "controlnet",
    "upscale": "upscale_models",
}
"""The contract's five types and ComfyUI's folder for each. Other folders keep their own name."""

MODEL_SUFFIXES = frozenset(
    {".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl", ".gguf", ".onnx", ".engine"}
)
"""Suffixes of model files: ComfyUI's own, and those of GGUF, ONNX and TensorRT nodes."""


def is_model_file(text: str) -> bool:
    """Whether a text in a graph, or an option of an input, ends like a model file."""
    return without_model_suffix(text) is not text


def without_model_suffix(name: str) -> str:
    """The name as it is, where it does not end like a model file."""
    dot = name.rfind(".", -_LONGEST)
    return name[:dot] if dot >= 0 and name[dot:].lower() in MODEL_SUFFIXES else name


_LONGEST = max(map(len, MODEL_SUFFIXES))


_KIND_BY_SUFFIX: Mapping[str, OutputKind] = {
    **dict.fromkeys(
        (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tiff", ".avif", ".exr", ".svg"),
        OutputKind.IMAGE,
    ),
    **dict.fromkeys((".mp4", ".webm", ".mov", ".mkv", ".avi", ".m4v"), OutputKind.VIDEO),
    **dict.fromkeys((".flac", ".mp3", ".wav", ".ogg", ".opus", ".m4a", ".aac"), OutputKind.AUDIO),
    **dict.fromkeys((".txt", ".json", ".csv", ".md", ".srt"), OutputKind.TEXT),
    **dict.fromkeys(
        (".glb", ".gltf", ".obj", ".ply", ".stl", ".fbx", ".spz", ".splat", ".ksplat", ".usdz"),
        OutputKind.MODEL3D,
    ),
    ".latent": OutputKind.LATENT,
}


def kind_of_file(filename: str) -> OutputKind:
    """The kind by the suffix: ComfyUI's key is not enough, `images` also contains videos."""
    dot = filename.rfind(".")
    return _KIND_BY_SUFFIX.get(filename[dot:].lower(), OutputKind.FILE) if dot >= 0 else OutputKind.FILE


def lasting(outputs: Sequence[Output]) -> Sequence[Output]:
    """Without previews, where there is more than those."""
    return [each for each in outputs if each.file.folder_type != "temp"] or outputs
