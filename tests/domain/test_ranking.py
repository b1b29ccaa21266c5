"""Words find what they name, whatever their endings."""

import pytest

from comfy_mcp.domain.ranking import Index, words_of

TEXTS = {
    "upscale": (("ImageUpscaleWithModel", 3), ("makes a picture larger", 1)),
    "scale": (("Image Scale", 3), ("resizes an image, upscaling or downscaling it", 1)),
    "noise": (("Add noise", 3), ("to an image", 1)),
    "empty": (("", 3),),
}


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("upscale", "upscale"),
        ("which node upscales an image?", "upscale"),
        ("noisy noises", "noise"),
        ("resize", "scale"),
        ("larger pictures", "upscale"),
    ],
)
def test_the_best_text_comes_first(question: str, first: str) -> None:
    found = Index(TEXTS).search(question)
    assert found[0][1] == first
    assert [score for score, _ in found] == sorted((score for score, _ in found), reverse=True)


@pytest.mark.parametrize("question", ["", "the of a", "zebra"])
def test_words_that_no_text_has_find_nothing(question: str) -> None:
    assert Index(TEXTS).search(question) == []


def test_an_index_over_nothing_finds_nothing() -> None:
    assert Index({}).search("image") == []


def test_names_are_taken_apart_at_their_capitals() -> None:
    assert words_of("CLIPTextEncode SDXL_v2 écrire") == words_of("clip text encode sdxl v 2 écrire")
    assert words_of("images imaging image") == ["imag"] * 3
