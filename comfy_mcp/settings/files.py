"""Settings of models and outputs: their folders."""

from pathlib import Path

from pydantic import Field

from comfy_mcp.settings.names import Group, alias

MODEL_FOLDERS = ("models_checkpoints", "models_loras", "models_vae", "models_controlnet", "models_upscale")


class FileGroup(Group):
    outputs_dir: Path | None = Field(
        default=None,
        validation_alias=alias("OUTPUTS_DIR", "COMFYUI_OUTPUTS", "COMFYUI_OUTPUT_DIR"),
        description="ComfyUI's output folder, if this machine can read it; otherwise files come over HTTP.",
    )
    models_dir: Path | None = Field(
        default=None,
        validation_alias=alias("MODELS_DIR", "COMFYUI_MODELS"),
        description="ComfyUI's models folder; otherwise models are listed over HTTP.",
    )
    models_checkpoints: Path | None = Field(
        default=None, validation_alias=alias("MODELS_CHECKPOINTS", "COMFYUI_MODELS_CHECKPOINTS"),
        description="Folder of checkpoints, if it is not models/checkpoints.",
    )  # fmt: skip
    models_loras: Path | None = Field(
        default=None, validation_alias=alias("MODELS_LORAS", "COMFYUI_MODELS_LORAS"),
        description="Folder of LoRAs, if it is not models/loras.",
    )  # fmt: skip
    models_vae: Path | None = Field(
        default=None, validation_alias=alias("MODELS_VAE", "COMFYUI_MODELS_VAE"),
        description="Folder of VAEs, if it is not models/vae.",
    )  # fmt: skip
    models_controlnet: Path | None = Field(
        default=None, validation_alias=alias("MODELS_CONTROLNET", "COMFYUI_MODELS_CONTROLNET"),
        description="Folder of ControlNets, if it is not models/controlnet.",
    )  # fmt: skip
    models_upscale: Path | None = Field(
        default=None, validation_alias=alias("MODELS_UPSCALE", "COMFYUI_MODELS_UPSCALE"),
        description="Folder of upscalers, if it is not models/upscale_models.",
    )  # fmt: skip
    force_polling: bool = Field(
        default=False,
        description="Watch model folders by polling: bind mounts and network folders send no events.",
    )
    private_urls: bool = Field(
        default=False,
        description="Read input files from URLs of this machine and of private networks too, and send "
        "webhooks there.",
    )
    hash_models: bool = Field(
        default=True,
        description="Compute the SHA-256 of model files in the background, cached by path, size and "
        "modification time.",
    )

    @property
    def model_folders(self) -> dict[str, Path]:
        """Folders configured one by one, keyed by the v1 type."""
        named = {
            "checkpoints": self.models_checkpoints,
            "loras": self.models_loras,
            "vae": self.models_vae,
            "controlnet": self.models_controlnet,
            "upscale": self.models_upscale,
        }
        return {kind: path for kind, path in named.items() if path is not None}
