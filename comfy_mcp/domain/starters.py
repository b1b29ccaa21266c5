"""Workflows of the bridge's own, in API format, for what an engine has: something to begin with.

Sizes, steps and the like follow the family of the checkpoint, which its file name tells. Every class is one
of ComfyUI's own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from comfy_mcp.domain.catalog import is_model_file
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.workflow_entries import WorkflowEntry, WorkflowOrigin

Graph = dict[str, Any]

LOADER, FILE = "CheckpointLoaderSimple", "ckpt_name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How checkpoints of one kind are used. `marks`: parts of file names."""

    title: str
    marks: tuple[str, ...]
    side: int = 1024
    steps: int = 25
    cfg: float = 7.0
    sampler: str = "euler"
    scheduler: str = "normal"
    latent: str = "EmptyLatentImage"
    guidance: float | None = None


FAMILIES = (
    Family(
        title="FLUX schnell", marks=("schnell",), steps=4, cfg=1.0, scheduler="simple",
        latent="EmptySD3LatentImage",
    ),
    Family(
        title="FLUX", marks=("flux",), steps=20, cfg=1.0, scheduler="simple", latent="EmptySD3LatentImage",
        guidance=3.5,
    ),
    Family(
        title="SD 3", marks=("sd3", "sd_3", "stable-diffusion-3"), steps=28, cfg=4.5, scheduler="sgm_uniform",
        latent="EmptySD3LatentImage",
    ),
    Family(title="SDXL Turbo", marks=("sd_xl_turbo", "sdxl_turbo", "sdxl-turbo"), side=512, steps=4, cfg=1.0),
    Family(title="SDXL Lightning", marks=("lightning", "hyper"), steps=8, cfg=1.5, scheduler="sgm_uniform"),
    Family(title="SDXL", marks=("xl", "pony", "illustrious", "noobai"), steps=30, cfg=6.5),
    Family(title="SD 2", marks=("v2-1", "768-v", "sd21", "sd2"), side=768),
)  # fmt: skip
"""The first whose mark is in the name; else it is used as SD 1.5."""
SD15 = Family(title="SD 1.5", marks=(), side=512)

NO_PICTURES = (
    "ace_step",
    "stable-audio",
    "stable_audio",
    "svd",
    "ltx",
    "hunyuan",
    "mochi",
    "cosmos",
    "zero123",
)
"""Parts of the names of checkpoints that make no picture from a text."""


def family_of(checkpoint: str) -> Family:
    name = checkpoint.lower()
    return next((each for each in FAMILIES if any(mark in name for mark in each.marks)), SD15)


def checkpoints_of(info: ObjectInfo) -> Sequence[str]:
    """Those that make pictures, the ones for inpainting last."""
    known = info.classes.get(LOADER)
    listed = known.inputs[FILE].options if known is not None and FILE in known.inputs else None
    names = [name for name in listed or () if isinstance(name, str)]
    able = [name for name in names if not any(mark in name.lower() for mark in NO_PICTURES)]
    return sorted(able, key=lambda name: "inpaint" in name.lower())


def starter(name: str, info: ObjectInfo, checkpoint: object = None) -> Graph | None:
    """The graph of a starter, for the checkpoint that is asked for or the first that fits; None: no such
    starter, or the engine has nothing that it could run with. What is no checkpoint is refused later on,
    when it is set."""
    made = _STARTERS.get(name)
    if made is None:
        return None
    if not made.checkpoint:
        graph = made.graph("", SD15)
    else:
        able = checkpoints_of(info)
        first = next((each for each in able if ("inpaint" in each.lower()) == (name == "inpaint")), None)
        chosen = _asked(checkpoint, able) or first or next(iter(able), None)
        if chosen is None:
            return None
        graph = made.graph(chosen, family_of(chosen))
    return _declared(graph, info) if _has_all(graph, info) else None


def _asked(checkpoint: object, able: Sequence[str]) -> str | None:
    """The file that is meant, in any case and without folder or ending too; one that the engine lacks."""
    if not isinstance(checkpoint, str):
        return None
    wanted = checkpoint.lower()
    meant = next((each for each in able if wanted in {each.lower(), _stem(each)}), None)
    return meant or (checkpoint if is_model_file(checkpoint) else None)


def _stem(file: str) -> str:
    return file.replace("\\", "/").rpartition("/")[2].rpartition(".")[0].lower()


def _has_all(graph: Graph, info: ObjectInfo) -> bool:
    return all(node["class_type"] in info.classes for node in graph.values())


def _declared(graph: Graph, info: ObjectInfo) -> Graph:
    """Without the inputs that this version of ComfyUI does not have."""
    for node in graph.values():
        known = info.classes[node["class_type"]].inputs
        node["inputs"] = {name: value for name, value in node["inputs"].items() if name in known}
    return graph


def starters_of(info: ObjectInfo | None) -> tuple[WorkflowEntry, ...]:
    """Those whose classes the engine has, whether it has a checkpoint or not."""
    if info is None:
        return ()
    named = next(iter(checkpoints_of(info)), None)
    found = []
    for name, made in _STARTERS.items():
        graph = made.graph(named or "", SD15)
        if _has_all(graph, info):
            with_what = f" With {named} ({family_of(named).title})." if made.checkpoint and named else ""
            found.append(
                WorkflowEntry(
                    name=name,
                    origin=WorkflowOrigin.STARTER,
                    title=made.title,
                    about=made.about + with_what,
                    words=made.words,
                    makes=("image",),
                    inputs=made.inputs,
                    outputs=("image",),
                )
            )
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Starter:
    title: str
    about: str
    words: tuple[str, ...]
    inputs: tuple[str, ...]
    graph: Callable[[str, Family], Graph]
    checkpoint: bool = True


def _node(class_type: str, title: str | None = None, **inputs: object) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title or class_type}}


def _texts(checkpoint: str, family: Family) -> Graph:
    """The checkpoint and both prompts. "pos" is what the sampler takes as positive."""
    graph = {
        "ckpt": _node(LOADER, ckpt_name=checkpoint),
        "prompt": _node("CLIPTextEncode", "Prompt", text="", clip=["ckpt", 1]),
        "negative": _node("CLIPTextEncode", "Negative prompt", text="", clip=["ckpt", 1]),
    }
    if family.guidance is not None:
        graph["guidance"] = _node("FluxGuidance", conditioning=["prompt", 0], guidance=family.guidance)
    return graph


def _sampled(graph: Graph, family: Family, latent: list[object], denoise: float, prefix: str) -> Graph:
    positive = "guidance" if "guidance" in graph else "prompt"
    return graph | {
        "sampler": _node(
            "KSampler",
            seed=0,
            steps=family.steps,
            cfg=family.cfg,
            sampler_name=family.sampler,
            scheduler=family.scheduler,
            denoise=denoise,
            model=["ckpt", 0],
            positive=[positive, 0],
            negative=["negative", 0],
            latent_image=latent,
        ),
        "decode": _node("VAEDecode", samples=["sampler", 0], vae=["ckpt", 2]),
        "save": _node("SaveImage", images=["decode", 0], filename_prefix=prefix),
    }


def _text_to_image(checkpoint: str, family: Family) -> Graph:
    size = _node(family.latent, width=family.side, height=family.side, batch_size=1)
    return _sampled(_texts(checkpoint, family) | {"size": size}, family, ["size", 0], 1.0, "text-to-image")


def _image_to_image(checkpoint: str, family: Family) -> Graph:
    graph = _texts(checkpoint, family) | {
        "image": _node("LoadImage", "Image", image=""),
        "scaled": _node(
            "ImageScaleToTotalPixels",
            image=["image", 0],
            upscale_method="lanczos",
            megapixels=round(family.side**2 / 2**20, 2),
            resolution_steps=8,
        ),
        "encode": _node("VAEEncode", pixels=["scaled", 0], vae=["ckpt", 2]),
    }
    return _sampled(graph, family, ["encode", 0], 0.6, "image-to-image")


def _inpaint(checkpoint: str, family: Family) -> Graph:
    graph = _texts(checkpoint, family) | {
        "image": _node("LoadImage", "Image", image=""),
        "mask": _node("LoadImageMask", "Mask", image="", channel="red"),
        "encode": _node(
            "VAEEncodeForInpaint", pixels=["image", 0], vae=["ckpt", 2], mask=["mask", 0], grow_mask_by=6
        ),
    }
    return _sampled(graph, family, ["encode", 0], 1.0, "inpaint")


def _upscale(_checkpoint: str, _family: Family) -> Graph:
    return {
        "image": _node("LoadImage", "Image", image=""),
        "scaled": _node("ImageScaleBy", image=["image", 0], upscale_method="lanczos", scale_by=2.0),
        "save": _node("SaveImage", images=["scaled", 0], filename_prefix="upscale"),
    }


_PROMPTS = ("text: Prompt", "text: Negative prompt")
_STARTERS: Mapping[str, _Starter] = MappingProxyType(
    {
        "text-to-image": _Starter(
            title="Text to image",
            about="A picture from a text.",
            words=("make", "create", "draw", "generate", "picture", "photo", "txt2img", "t2i"),
            inputs=_PROMPTS,
            graph=_text_to_image,
        ),
        "image-to-image": _Starter(
            title="Image to image",
            about="An image changed by a text; denoise says how much.",
            words=("change", "edit", "vary", "variation", "restyle", "img2img", "i2i"),
            inputs=("image", *_PROMPTS),
            graph=_image_to_image,
        ),
        "inpaint": _Starter(
            title="Inpaint",
            about="The white part of a mask painted anew by a text.",
            words=("fill", "replace", "remove", "erase", "mask", "part", "inpainting"),
            inputs=("image", "mask", *_PROMPTS),
            graph=_inpaint,
        ),
        "upscale": _Starter(
            title="Upscale",
            about="An image made larger by scale, without a model.",
            words=("enlarge", "bigger", "larger", "resize", "double", "upscaling"),
            inputs=("image",),
            graph=_upscale,
            checkpoint=False,
        ),
    }
)
