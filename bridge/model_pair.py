"""The image model and the audio model on one canvas: two copies, each with a text encoder, and the VAE that they share."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import comfy.model_patcher
import comfy.sd
import comfy.utils
import folder_paths
import torch

from ..itsound_core import embedded
from ..itsound_core.latents import LATENT_CHANNELS
from ..itsound_core.weights import shapes_of
from . import completeness, files
from .models import WEIGHT_DTYPES, check_file, load_model
from .text_encoder_folder import native_text_name

NODE = "LoadDualUNets"
TOKEN_EMBEDDING, TRANSFORMERS_5 = "token_embedding.weight", "embeddings.token_embedding.weight"
SAME_VAE = 3e-3
"""Relative difference of two VAEs' weights up to which they are the same one: rounding to bfloat16 makes 1.1e-3."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairChoice:
    """Names as LoadDualUNets' inputs have them; FROM_MODEL stands for what the models bring."""

    image_model_name: str
    audio_model_name: str
    image_clip_name: str = files.FROM_MODEL
    audio_clip_name: str = files.FROM_MODEL
    vae_name: str = files.FROM_MODEL

    def stamp(self) -> list[str | None]:
        """Changes when a file or folder under one of the names was replaced on disk."""
        models = (
            files.stamp_of(partial(files.model_path, embedded_folder=embedded.IMAGE_FOLDER), self.image_model_name),
            files.stamp_of(partial(files.model_path, embedded_folder=embedded.AUDIO_FOLDER), self.audio_model_name),
        )
        others = ("text_encoders", self.image_clip_name), ("text_encoders", self.audio_clip_name), ("vae", self.vae_name)
        paths = [Path(folder_paths.get_full_path_or_raise(key, name)) for key, name in others if name not in (None, files.FROM_MODEL)]
        return [*models, *map(files.stamp, paths)]


class ModelPair(NamedTuple):
    """What LoadDualUNets puts out, in its order."""

    image_model: comfy.model_patcher.ModelPatcher
    image_clip: comfy.sd.CLIP
    audio_model: comfy.model_patcher.ModelPatcher
    audio_clip: comfy.sd.CLIP
    vae: comfy.sd.VAE


def load_pair(choice: PairChoice, weight_dtype: str) -> ModelPair:
    """Both models of a choice, in one number format of WEIGHT_DTYPES.

    Raises ValueError naming the input: for a file that cannot be read, lacks weights or is something else, for two latent spaces, and where
    a text encoder or the VAE is missing or does not fit.
    """
    options = WEIGHT_DTYPES[weight_dtype]
    own_image_clip, own_audio_clip, own_vae = (
        name == files.FROM_MODEL for name in (choice.image_clip_name, choice.audio_clip_name, choice.vae_name)
    )
    # what can be refused quickly comes first: names and shapes, then the small models, then the large ones
    for socket, name in (("image_model_name", choice.image_model_name), ("audio_model_name", choice.audio_model_name)):
        with files.naming(NODE, socket, name):
            check_file(name)
    image_clip = None if own_image_clip else _load_clip("image_clip_name", choice.image_clip_name)
    audio_clip = None if own_audio_clip else _load_clip("audio_clip_name", choice.audio_clip_name)
    vae = None if own_vae else _load_vae(choice.vae_name)
    with files.naming(NODE, "image_model_name", choice.image_model_name):
        image = load_model(choice.image_model_name, embedded.IMAGE_FOLDER, options, own_image_clip, own_vae)
    with files.naming(NODE, "audio_model_name", choice.audio_model_name):
        audio = load_model(choice.audio_model_name, embedded.AUDIO_FOLDER, options, own_audio_clip, own_vae)

    image_clip, audio_clip = image_clip or image.clip, audio_clip or audio.clip
    image_clip = image_clip or _borrow_clip("image", choice.image_model_name, audio_clip)
    audio_clip = audio_clip or _borrow_clip("audio", choice.audio_model_name, image_clip)
    _require_same_width("image", image.model, image_clip)
    _require_same_width("audio", audio.model, audio_clip)
    return ModelPair(image.model, image_clip, audio.model, audio_clip, vae or _shared_vae(image.vae, audio.vae))


def _load_clip(socket: str, name: str) -> comfy.sd.CLIP:
    with files.naming(NODE, socket, name):
        path = Path(folder_paths.get_full_path_or_raise("text_encoders", name))
        with files.reading(path):
            weights = comfy.utils.load_torch_file(str(path), safe_load=True)
        if not any(tensor.endswith(TOKEN_EMBEDDING) for tensor in weights):
            raise ValueError("It is no CLIP text encoder. Choose the one of Stable Diffusion 1.5, often named clip_l.safetensors.")
        options = {"embedding_directory": folder_paths.get_folder_paths("embeddings"), "clip_type": comfy.sd.CLIPType.STABLE_DIFFUSION}
        if TRANSFORMERS_5 in weights:  # load_clip would find none of its names and leave the weights as they happen to lie in memory
            weights = {native_text_name(tensor): weight for tensor, weight in weights.items()}
            clip = comfy.sd.load_text_encoder_state_dicts([weights], **options)
        else:
            clip = comfy.sd.load_clip([str(path)], **options)
        remedy = "Copy the whole file again, or choose the one of Stable Diffusion 1.5, often named clip_l.safetensors."
        completeness.require_whole_text_encoder(clip, weights, remedy)
        return clip


def _borrow_clip(side: str, model_name: str, clip: comfy.sd.CLIP | None) -> comfy.sd.CLIP:
    if clip is None:
        raise ValueError(
            f'{NODE}: {side}_model_name is "{model_name}", which has no text encoder, and the other model has none either. '
            f"Choose {side}_clip_name (a file in models/text_encoders)."
        )
    logger.info('%s: "%s" has no text encoder; the %s prompt is read by the other model\'s.', NODE, model_name, side)
    return clip.clone()


def _require_same_width(side: str, model: comfy.model_patcher.ModelPatcher, clip: comfy.sd.CLIP) -> None:
    encoder = clip.cond_stage_model
    transformer = getattr(encoder, encoder.clip).transformer if hasattr(encoder, "clip") else None
    width = transformer and getattr(transformer, "text_width", transformer.get_input_embeddings().embedding_dim)
    needed = model.model.model_config.unet_config["context_dim"]
    if width != needed:
        raise ValueError(
            f"{NODE}: the {side} model reads text embeddings {needed} wide, its text encoder writes {width or 'another kind'}. "
            f"Choose another {side}_clip_name."
        )


def _load_vae(name: str) -> comfy.sd.VAE:
    with files.naming(NODE, "vae_name", name):
        path = Path(folder_paths.get_full_path_or_raise("vae", name))
        with files.reading(path):
            weights, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
        vae = comfy.sd.VAE(sd=weights, metadata=metadata)
        vae.throw_exception_if_invalid()
        completeness.require_whole_vae(vae, weights, "Copy the whole file again, or choose the VAE of SD 1.5.")
        if vae.latent_channels != LATENT_CHANNELS:
            raise ValueError(f"Its latents have {vae.latent_channels} channels, SD 1.x's {LATENT_CHANNELS}. Choose the VAE of SD 1.5.")
    return vae


def _shared_vae(image: comfy.sd.VAE | None, audio: comfy.sd.VAE | None) -> comfy.sd.VAE:
    """The image model's VAE, else the audio model's. Warns where they differ, as a fine-tuned one does; raises where they cannot agree."""
    if image is None or audio is None:
        vae = image or audio
        if vae is None:
            raise ValueError(f"{NODE}: neither model has a VAE. Choose vae_name (a file in models/vae; SD 1.5's fits both).")
        logger.info("%s: the %s model has no VAE; the other model's is used.", NODE, "image" if image is None else "audio")
        return vae
    ours, theirs = (vae.first_stage_model.state_dict() for vae in (image, audio))
    if shapes_of(ours) != shapes_of(theirs):
        raise ValueError(
            f"{NODE}: image_model_name and audio_model_name bring VAEs of different shapes, so their latents are not the same space. "
            "Choose two models of one family (Stable Diffusion 1.5 with Auffusion, embedded with embedded), or vae_name if you know that "
            "one VAE fits both."
        )
    squares = torch.tensor([[(ours[name] - theirs[name]).float().square().sum(), ours[name].float().square().sum()] for name in ours])
    difference = float((squares[:, 0].sum() / squares[:, 1].sum()).sqrt())
    if difference > SAME_VAE:
        logger.warning(
            "%s: the models' VAEs differ by %.2g %% of their weights: one is fine-tuned, or the latents are not the same space. "
            "The image model's is used; choose vae_name to use another.",
            NODE,
            100 * difference,
        )
    return image
