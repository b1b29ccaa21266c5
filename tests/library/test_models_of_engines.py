"""Models without folders here: the engines are asked."""

from pathlib import Path

import pytest

from comfy_mcp.domain.catalog import Model
from comfy_mcp.domain.errors import (
    BridgeError,
    EngineBadAnswer,
    EngineUnreachable,
    ErrorCode,
    InvalidInput,
)
from tests.library.test_models import FIVE, FakeEngine, down, library_of, names_of, offered, write


async def test_without_folders_the_engine_is_asked() -> None:
    engine = FakeEngine(
        {
            "checkpoints": offered("checkpoints", "b.safetensors", "sub\\a.ckpt"),
            "upscale_models": offered("upscale_models", "4x.pth"),
            "configs": offered("configs", "v1.yaml"),
            "text_encoders": (),
        }
    )
    library = library_of(one=engine)
    page = await library.list()
    assert page.items == (
        Model(name="b.safetensors", type="checkpoints", size=10, modified_at=5_000),
        Model(name="sub\\a.ckpt", type="checkpoints", size=10, modified_at=5_000),
        Model(name="4x.pth", type="upscale", size=10, modified_at=5_000),
    )
    assert await library.types() == (*FIVE, "text_encoders")
    assert "configs" not in engine.asked


async def test_one_type_asks_for_one_folder_and_is_remembered_for_a_while() -> None:
    engine = FakeEngine({"loras": offered("loras", "a.pt"), "vae": (), "upscale_models": ()})
    library = library_of(one=engine)
    for _ in range(3):
        assert await names_of(library, "loras") == ["loras:a.pt"]
    assert engine.asked == ["*", "loras"]


async def test_several_engines_are_united() -> None:
    one = FakeEngine({"loras": offered("loras", "a.pt", "both.pt", size=1), "unet": offered("unet", "u.sft")})
    two = FakeEngine({"loras": offered("loras", "both.pt", "c.pt", size=2), "vae": ()})
    library = library_of(one=one, two=two)
    page = await library.list(type="loras")
    assert [(model.name, model.size) for model in page.items] == [("a.pt", 1), ("both.pt", 1), ("c.pt", 2)]
    assert await names_of(library, "diffusion_models") == ["diffusion_models:u.sft"]


async def test_an_old_and_a_new_engine_name_the_same_type_differently() -> None:
    one = FakeEngine({"unet": offered("unet", "a.sft", "both.sft")})
    two = FakeEngine({"diffusion_models": offered("diffusion_models", "both.sft", "c.sft")})
    found = await names_of(library_of(one=one, two=two), "unet")
    assert found == [f"diffusion_models:{name}.sft" for name in ("a", "both", "c")]


async def test_an_engine_that_is_down_is_left_out_while_another_answers() -> None:
    up = FakeEngine({"loras": offered("loras", "a.pt")})
    for bad in (FakeEngine(fault=down()), FakeEngine(hangs=True)):
        assert await names_of(library_of(bad=bad, up=up, timeout_s=0.01), "loras") == ["loras:a.pt"]


@pytest.mark.parametrize(
    ("engine", "code"),
    [
        (FakeEngine(fault=down()), ErrorCode.ENGINE_UNREACHABLE),
        (FakeEngine(hangs=True), ErrorCode.ENGINE_UNREACHABLE),
        (FakeEngine(fault=EngineBadAnswer("html", next_step="")), ErrorCode.ENGINE_BAD_ANSWER),
    ],
)
async def test_when_no_engine_answers_its_fault_is_raised(engine: FakeEngine, code: ErrorCode) -> None:
    library = library_of(one=engine, timeout_s=0.01)
    for kind in (None, "loras", "nosuch"):
        with pytest.raises(BridgeError) as caught:
            await library.list(type=kind)
        assert caught.value.code is code
    assert await library.types() == FIVE


async def test_an_engine_that_comes_back_is_asked_again_at_once() -> None:
    engine = FakeEngine({"loras": offered("loras", "a.pt")}, fault=down())
    library = library_of(one=engine)
    with pytest.raises(EngineUnreachable):
        await library.list()
    engine.fault = None
    assert await names_of(library) == ["loras:a.pt"]


async def test_an_unknown_type_is_refused_with_those_of_the_engine() -> None:
    engine = FakeEngine({"clip_vision": ()})
    with pytest.raises(InvalidInput, match="clip_vision") as caught:
        await library_of(one=engine).list(type="nosuch")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert engine.asked == ["*"]


async def test_a_folder_for_one_type_leaves_the_others_to_the_engine(tmp_path: Path) -> None:
    write(tmp_path / "mine.safetensors")
    engine = FakeEngine({"loras": offered("loras", "theirs.pt"), "vae": offered("vae", "v.pt")})
    library = library_of(folders={"loras": tmp_path}, one=engine)
    assert await names_of(library) == ["loras:mine.safetensors", "vae:v.pt"]
    assert await names_of(library, "loras") == ["loras:mine.safetensors"]
    engine.fault = down()
    still = library_of(folders={"loras": tmp_path}, one=engine)
    assert await names_of(still) == ["loras:mine.safetensors"]
    with pytest.raises(EngineUnreachable):
        await still.list(type="vae")


async def test_with_the_models_folder_the_engine_is_not_asked(tmp_path: Path) -> None:
    write(tmp_path / "loras" / "a.pt")
    engine = FakeEngine(fault=down())
    library = library_of(tmp_path, one=engine)
    assert await names_of(library) == ["loras:a.pt"]
    assert await library.types() == FIVE
    assert engine.asked == []


async def test_a_models_folder_that_is_not_there_leaves_it_to_the_engine(tmp_path: Path) -> None:
    engine = FakeEngine({"loras": offered("loras", "a.pt")})
    library = library_of(tmp_path / "not-mounted", {"vae": tmp_path / "nor-this"}, one=engine)
    assert await names_of(library) == ["loras:a.pt"]
