"""Writes a Stable Diffusion 1.5 checkpoint of random numbers that is 1 MB on disk and loads like a real one.

Run by the real ComfyUI's interpreter: `python tiny_checkpoint.py FILE`. It needs torch and nothing else.

ComfyUI tells the model family by the names and shapes of the tensors. This has what it looks for in SD1.5
(320 channels, a context of 768, convolutions around the transformers), but one level of UNet in place of
four, the text encoder (CLIP-L) in its real size, since ComfyUI builds that one from a fixed configuration,
and the small autoencoder TAESD. That is 151 million parameters; all are overlapping views into one storage,
which is all that torch.save writes. Images made with it are noise.
"""

import sys
from collections.abc import Iterator

import torch  # type: ignore[import-not-found]  # there in ComfyUI's environment, not in ours

CHANNELS = 320
EMBEDDING = 4 * CHANNELS
CONTEXT = 768
LATENT = 4
CLIP_LAYERS = 12
CLIP_TOKENS = 49408
CLIP_POSITIONS = 77

Shape = tuple[int, ...]


class Storage:
    """One small storage of random numbers, and views of any shape into it."""

    SIZE = 200_000
    STEP = 61  # between rows: odd, so that neighbouring rows have little in common

    def __init__(self) -> None:
        numbers = torch.randn(self.SIZE, generator=torch.Generator().manual_seed(15))
        self._flat = torch.cat([torch.tensor([0.0, 1.0]), numbers * 0.02, numbers[: self.SIZE // 8] * 0.06])
        self._taken = 0

    def constant(self, value: int, shape: Shape) -> torch.Tensor:
        return torch.as_strided(self._flat, shape, (0,) * len(shape), value)

    def random(self, shape: Shape, *, wide: bool = False) -> torch.Tensor:
        """Numbers of deviation 0.02; wide: 0.06, which keeps a signal alive in TAESD's narrow layers."""
        start, size = (2 + self.SIZE, self.SIZE // 8) if wide else (2, self.SIZE)
        rows, columns = shape[0], torch.Size(shape[1:]).numel()
        step = min(self.STEP, (size - columns - 1) // rows)  # the longest table, 49408 rows, fits with 4
        span = (rows - 1) * step + columns
        self._taken = (self._taken + 7919) % (size - span)  # no two tensors alike
        inner = torch.empty(shape[1:], device="meta").stride()
        return torch.as_strided(self._flat, shape, (step, *inner), start + self._taken)


Entry = tuple[str, Shape | int]  # a number n stands for a normalisation over n channels


def layer(name: str, *shape: int, bias: bool = True) -> Iterator[Entry]:
    yield f"{name}.weight", shape
    if bias:
        yield f"{name}.bias", shape[:1]


def norm(name: str, channels: int) -> Iterator[Entry]:
    yield name, channels


def residual(name: str, channels_in: int) -> Iterator[Entry]:
    yield from norm(f"{name}.in_layers.0", channels_in)
    yield from layer(f"{name}.in_layers.2", CHANNELS, channels_in, 3, 3)
    yield from layer(f"{name}.emb_layers.1", CHANNELS, EMBEDDING)
    yield from norm(f"{name}.out_layers.0", CHANNELS)
    yield from layer(f"{name}.out_layers.3", CHANNELS, CHANNELS, 3, 3)
    if channels_in != CHANNELS:
        yield from layer(f"{name}.skip_connection", CHANNELS, channels_in, 1, 1)


def transformer(name: str) -> Iterator[Entry]:
    yield from norm(f"{name}.norm", CHANNELS)
    yield from layer(f"{name}.proj_in", CHANNELS, CHANNELS, 1, 1)
    block = f"{name}.transformer_blocks.0"
    for attention, source in (("attn1", CHANNELS), ("attn2", CONTEXT)):
        yield from layer(f"{block}.{attention}.to_q", CHANNELS, CHANNELS, bias=False)
        yield from layer(f"{block}.{attention}.to_k", CHANNELS, source, bias=False)
        yield from layer(f"{block}.{attention}.to_v", CHANNELS, source, bias=False)
        yield from layer(f"{block}.{attention}.to_out.0", CHANNELS, CHANNELS)
    for number in (1, 2, 3):
        yield from norm(f"{block}.norm{number}", CHANNELS)
    yield from layer(f"{block}.ff.net.0.proj", 8 * CHANNELS, CHANNELS)
    yield from layer(f"{block}.ff.net.2", CHANNELS, 4 * CHANNELS)
    yield from layer(f"{name}.proj_out", CHANNELS, CHANNELS, 1, 1)


def unet() -> Iterator[Entry]:
    yield from layer("time_embed.0", EMBEDDING, CHANNELS)
    yield from layer("time_embed.2", EMBEDDING, EMBEDDING)
    yield from layer("input_blocks.0.0", CHANNELS, LATENT, 3, 3)
    yield from residual("input_blocks.1.0", CHANNELS)
    yield from transformer("input_blocks.1.1")
    yield from residual("middle_block.0", CHANNELS)
    yield from transformer("middle_block.1")
    yield from residual("middle_block.2", CHANNELS)
    for number in (0, 1):  # each also gets the output of one input block
        yield from residual(f"output_blocks.{number}.0", 2 * CHANNELS)
        yield from transformer(f"output_blocks.{number}.1")
    yield from norm("out.0", CHANNELS)
    yield from layer("out.2", LATENT, CHANNELS, 3, 3)


def text_encoder() -> Iterator[Entry]:
    yield "embeddings.token_embedding.weight", (CLIP_TOKENS, CONTEXT)
    yield "embeddings.position_embedding.weight", (CLIP_POSITIONS, CONTEXT)
    for number in range(CLIP_LAYERS):
        name = f"encoder.layers.{number}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from layer(f"{name}.self_attn.{projection}", CONTEXT, CONTEXT)
        yield from norm(f"{name}.layer_norm1", CONTEXT)
        yield from layer(f"{name}.mlp.fc1", 4 * CONTEXT, CONTEXT)
        yield from layer(f"{name}.mlp.fc2", CONTEXT, 4 * CONTEXT)
        yield from norm(f"{name}.layer_norm2", CONTEXT)
    yield from norm("final_layer_norm", CONTEXT)


def autoencoder() -> Iterator[Entry]:
    """TAESD: stacks of blocks of three 64-channel convolutions, halving or doubling the size between them."""
    width = 64

    def convolution(name: str, outputs: int, inputs: int, *, bias: bool = True) -> Iterator[Entry]:
        yield from layer(name, outputs, inputs, 3, 3, bias=bias)

    yield from convolution("taesd_encoder.0", width, 3)
    yield from convolution("taesd_encoder.14", LATENT, width)
    yield from convolution("taesd_decoder.1", width, LATENT)
    yield from convolution("taesd_decoder.19", 3, width)
    for half, resizing, blocks in (
        ("taesd_encoder", (2, 6, 10), (1, 3, 4, 5, 7, 8, 9, 11, 12, 13)),
        ("taesd_decoder", (7, 12, 17), (3, 4, 5, 8, 9, 10, 13, 14, 15, 18)),
    ):
        for number in resizing:
            yield from convolution(f"{half}.{number}", width, width, bias=False)
        for number in blocks:
            for part in (0, 2, 4):
                yield from convolution(f"{half}.{number}.conv.{part}", width, width)


def state_dict() -> dict[str, torch.Tensor]:
    storage = Storage()
    tensors: dict[str, torch.Tensor] = {}
    parts = (
        ("model.diffusion_model.", unet(), False),
        ("cond_stage_model.transformer.text_model.", text_encoder(), False),
        ("first_stage_model.", autoencoder(), True),
    )
    for prefix, entries, wide in parts:
        for name, shape in entries:
            if isinstance(shape, int):
                tensors[f"{prefix}{name}.weight"] = storage.constant(1, (shape,))
                tensors[f"{prefix}{name}.bias"] = storage.constant(0, (shape,))
            elif len(shape) == 1:
                tensors[prefix + name] = storage.constant(0, shape)
            else:
                tensors[prefix + name] = storage.random(shape, wide=wide)
    tensors["first_stage_model.vae_scale"] = storage.constant(1, ())
    tensors["first_stage_model.vae_shift"] = storage.constant(0, ())
    return tensors


if __name__ == "__main__":
    torch.save({"state_dict": state_dict()}, sys.argv[1])
