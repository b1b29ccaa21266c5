"""Resizing with the methods that ComfyUI names."""

from __future__ import annotations

from PIL import Image

UPSCALE_METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")

_RESAMPLING = {
    "nearest-exact": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "area": Image.Resampling.BOX,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def resize(image: Image.Image, size: tuple[int, int], method: str) -> Image.Image:
    """The image at exactly this size."""
    if image.size == size:
        return image
    if method == "bilinear" and (size[0] < image.width or size[1] < image.height):
        # ComfyUI's bilinear looks at four neighbours only, even when it makes an image smaller, whereas
        # Pillow's resize averages: an affine transform samples in the same way.
        across, down = image.width / size[0], image.height / size[1]
        matrix = (across, 0, 0, 0, down, 0)
        return image.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return image.resize(size, _RESAMPLING[method])


def cut_center(image: Image.Image, aspect: float) -> Image.Image:
    """The largest middle part that has this ratio of width to height."""
    width, height = image.size
    old_aspect = width / height
    left = top = 0
    if old_aspect > aspect:
        left = round((width - width * (aspect / old_aspect)) / 2)
    elif old_aspect < aspect:
        top = round((height - height * (old_aspect / aspect)) / 2)
    return image.crop((left, top, width - left, height - top)) if left or top else image
