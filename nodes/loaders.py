"""Loaders: the two diffusion models on one canvas with their text encoders and shared VAE, and the vocoder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import folder_paths
from comfy_api.latest import io

from ..bridge import files, inputs
from ..bridge.model_pair import PairChoice, load_pair
from ..bridge.models import WEIGHT_DTYPES, model_names
from ..bridge.vocoding import LoadedVocoder
from ..itsound_core import embedded
from ..itsound_core.vocoder import CONFIG_FILE, WEIGHT_FILES, load_vocoder

MODEL_PLACES = "'embedded', or a file or folder under models/checkpoints, models/diffusion_models or models/diffusers"
CLIP_PLACES = "a file under models/text_encoders. A model without one borrows the other's"
VOCODERS = "vocoders"

files.register_folder(VOCODERS, folder_paths.supported_pt_extensions)


class LoadDualUNets(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        text_encoders = [files.FROM_MODEL, *files.file_names("text_encoders")]
        return io.Schema(
            node_id="LoadDualUNets",
            display_name="Load Image and Audio Models",
            category="Images that Sound/loaders",
            description="Loads the two diffusion models that share one canvas: one that makes pictures, one that makes spectrograms. "
            "Both must work in SD 1.x's latent space (Stable Diffusion 1.5 and Auffusion do). They are always two copies, so each can "
            "take its own LoRA. 'embedded' is the small pair that comes with this pack.",
            search_aliases=["stable diffusion", "auffusion", "dual model loader", "load diffusion models", "images that sound"],
            inputs=[
                io.Combo.Input(
                    "image_model_name",
                    options=model_names(),
                    tooltip=f"The model that makes pictures: {MODEL_PLACES}.",
                ),
                io.Combo.Input(
                    "audio_model_name",
                    options=model_names(),
                    tooltip=f"The model that makes spectrograms, such as Auffusion: {MODEL_PLACES}.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    advanced=True,
                    tooltip="Number format of both diffusion models' weights. 'default' is what suits the device best; fp8 halves the "
                    "memory of fp16 and costs quality.",
                ),
                io.Combo.Input(
                    "image_clip_name",
                    options=text_encoders,
                    default=files.FROM_MODEL,
                    optional=True,
                    advanced=True,
                    tooltip=f"Text encoder for the image prompt: the image model's own, or {CLIP_PLACES}.",
                ),
                io.Combo.Input(
                    "audio_clip_name",
                    options=text_encoders,
                    default=files.FROM_MODEL,
                    optional=True,
                    advanced=True,
                    tooltip=f"Text encoder for the audio prompt: the audio model's own, or {CLIP_PLACES}.",
                ),
                io.Combo.Input(
                    "vae_name",
                    options=[files.FROM_MODEL, *files.file_names("vae")],
                    default=files.FROM_MODEL,
                    optional=True,
                    advanced=True,
                    tooltip="The VAE between latents and spectrograms: the image model's (else the audio model's), or a file under "
                    "models/vae.",
                ),
            ],
            outputs=[
                io.Model.Output("image_model", display_name="image model", tooltip="The diffusion model that makes pictures."),
                io.Clip.Output("image_clip", display_name="image clip", tooltip="The text encoder for the image prompt."),
                io.Model.Output("audio_model", display_name="audio model", tooltip="The diffusion model that makes spectrograms."),
                io.Clip.Output("audio_clip", display_name="audio clip", tooltip="The text encoder for the audio prompt."),
                io.Vae.Output("vae", display_name="vae", tooltip="The VAE that both models share."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, image_model_name, audio_model_name, weight_dtype="default", **names) -> Any:
        """Changes when a file under one of the names was replaced on disk."""
        return PairChoice(image_model_name, audio_model_name, **names).stamp()

    @classmethod
    def execute(
        cls,
        image_model_name,
        audio_model_name,
        weight_dtype="default",
        image_clip_name=files.FROM_MODEL,
        audio_clip_name=files.FROM_MODEL,
        vae_name=files.FROM_MODEL,
    ) -> io.NodeOutput:
        inputs.in_range(cls, locals())
        choice = PairChoice(image_model_name, audio_model_name, image_clip_name, audio_clip_name, vae_name)
        return io.NodeOutput(*load_pair(choice, weight_dtype))


class LoadVocoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadVocoder",
            display_name="Load Vocoder",
            category="Images that Sound/loaders",
            description="Loads a HiFi-GAN that turns spectrograms into sound. It must be trained on this spectrogram: 256 mel bins, "
            "160 samples a column at 16 kHz, as Auffusion's is. 'embedded' comes with this pack; it is rough, and "
            "Griffin-Lim, without any vocoder, comes closer.",
            search_aliases=["hifi-gan", "hifigan", "auffusion vocoder", "spectrogram to sound"],
            inputs=[
                io.Combo.Input(
                    "vocoder_name",
                    options=_vocoder_names(),
                    tooltip=f"'embedded', a folder under models/{VOCODERS} with {CONFIG_FILE} and {' or '.join(WEIGHT_FILES)}, or a folder "
                    "under models/diffusers that has such a folder named vocoder.",
                )
            ],
            outputs=[io.Custom("VOCODER").Output("vocoder", display_name="vocoder", tooltip="The vocoder, for Spectrogram to Audio.")],
        )

    @classmethod
    def fingerprint_inputs(cls, vocoder_name) -> Any:
        """Changes when the vocoder's files were replaced on disk."""
        return files.stamp_of(_vocoder_folder, vocoder_name)

    @classmethod
    def execute(cls, vocoder_name) -> io.NodeOutput:
        inputs.in_range(cls, locals())
        with files.naming("LoadVocoder", "vocoder_name", vocoder_name):
            generator = load_vocoder(_vocoder_folder(vocoder_name))
        # not CoreModelPatcher: its dynamic loading only knows ComfyUI's own layers
        patcher = comfy.model_patcher.ModelPatcher(
            generator, load_device=comfy.model_management.vae_device(), offload_device=comfy.model_management.vae_offload_device()
        )
        return io.NodeOutput(LoadedVocoder(patcher, vocoder_name))


# Names and files ---------------------------------------------------------------------------------------------------------------------


def _vocoder_names() -> list[str]:
    return [
        files.EMBEDDED,
        *(f"{VOCODERS}/{name}" for name in files.folder_names(VOCODERS, CONFIG_FILE)),
        *(f"diffusers/{name}" for name in files.folder_names("diffusers", os.path.join("vocoder", CONFIG_FILE))),
    ]


def _vocoder_folder(name: str) -> Path:
    if name == files.EMBEDDED:
        return embedded.VOCODER_FOLDER
    key, _, folder = name.partition("/")
    return files.folder_path(key, folder) / "vocoder" if key == "diffusers" else files.folder_path(key, folder)


NODES = [LoadDualUNets, LoadVocoder]
