"""The library and the monitor with the real client, the embedded engine and the real store. No fakes."""

from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from comfy_mcp.domain.catalog import Model, Output, OutputFile, OutputKind
from comfy_mcp.domain.errors import ErrorCode, InvalidInput, NotFound
from comfy_mcp.domain.gpu import GpuSource
from comfy_mcp.domain.ids import ClientId, JobId, OutputId
from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from comfy_mcp.gpu import GpuMonitor
from comfy_mcp.gpu.nvml import NvmlReading
from comfy_mcp.library import ModelLibrary, OutputFiles
from comfy_mcp.places.comfyui.client import ComfyUIClient
from comfy_mcp.settings import Settings
from comfy_mcp.store import Store


class NoDriver:
    def read(self) -> NvmlReading:
        return NvmlReading(devices=(), reason="NVML: no library")

    def close(self) -> None: ...


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[EmbeddedEngine]:
    async with EmbeddedEngine(EngineConfig(base_directory=tmp_path / "engine")) as running:
        yield running


@pytest.fixture
def settings(engine: EmbeddedEngine) -> Settings:
    return Settings(engine_urls=(engine.url,))


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[ComfyUIClient]:
    async with ComfyUIClient(settings.engines[0], settings) as opened:
        yield opened


def output_of(client: ComfyUIClient, name: str, subfolder: str = "") -> Output:
    return Output(
        id=OutputId("out-1"),
        job_id=JobId("job-1"),
        attempt=1,
        engine=client.engine,
        file=OutputFile(kind=OutputKind.IMAGE, filename=name, subfolder=subfolder),
        created_at=1,
    )


async def test_an_output_comes_over_http(tmp_path: Path, client: ComfyUIClient, settings: Settings) -> None:
    stream = BytesIO()
    Image.effect_noise((900, 600), 80).save(stream, "PNG")
    target = tmp_path / "engine" / "output" / "sub ä" / "a b.png"
    target.parent.mkdir(parents=True)
    target.write_bytes(stream.getvalue())
    files = OutputFiles(settings, engines={client.engine: client})
    output = output_of(client, "a b.png", "sub ä")
    async with files.open(output) as content:
        assert content.size == len(stream.getvalue())
    whole = await files.read(output)
    assert (whole.data, whole.media_type) == (stream.getvalue(), "image/png")
    preview = await files.preview(output, client=ClientId("me"))
    assert (preview.width, preview.height) == (768, 512)


async def test_an_output_that_is_gone_says_so(client: ComfyUIClient, settings: Settings) -> None:
    files = OutputFiles(settings, engines={client.engine: client})
    with pytest.raises(NotFound) as caught:
        await files.read(output_of(client, "gone.png"))
    assert caught.value.code is ErrorCode.OUTPUT_GONE


async def test_models_come_over_http(tmp_path: Path, client: ComfyUIClient, settings: Settings) -> None:
    loras = tmp_path / "engine" / "models" / "loras"
    (loras / "sub").mkdir(parents=True, exist_ok=True)
    (loras / "sub" / "a.safetensors").write_bytes(b"12345")
    modified = (loras / "sub" / "a.safetensors").stat().st_mtime
    library = ModelLibrary(settings, timeout_s=30, engines={client.engine: client})
    page = await library.list()
    assert page.items == (
        Model(name="sub/a.safetensors", type="loras", size=5, modified_at=int(modified * 1000)),
    )
    assert {"upscale", "diffusion_models", "text_encoders"} <= set(await library.types())
    assert not {"configs", "custom_nodes", "upscale_models"} & set(await library.types())
    with pytest.raises(InvalidInput) as caught:
        await library.list(type="nosuch")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


async def test_an_engine_on_the_processor_is_no_gpu(client: ComfyUIClient, settings: Settings) -> None:
    monitor = GpuMonitor(settings, engines={client.engine: client}, now_ms=lambda: 1, driver=NoDriver())
    sample = await monitor.sample()
    assert sample.source is GpuSource.NONE
    assert sample.reason == f"NVML: no library; engine {client.engine} runs without a GPU"


async def test_the_store_remembers_hashes(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "vae"
    folder.mkdir(parents=True)
    (folder / "a.pt").write_bytes(b"weights")
    modified = (folder / "a.pt").stat().st_mtime_ns
    settings = Settings(state_dir=tmp_path / "state", models_dir=tmp_path / "models")
    store = await Store.open(settings)
    try:
        await store.put_file_hash(str(folder / "a.pt"), 7, modified, "f" * 64)
        library = ModelLibrary(settings, timeout_s=30, engines={}, hashes=store)
        assert [model.sha256 for model in (await library.list()).items] == ["f" * 64]
    finally:
        await store.close()
