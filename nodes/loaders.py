"""Loaders: the two diffusion models on one canvas with their text encoders and shared VAE, and the vocoder."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

import comfy.latent_formats
import comfy.model_detection
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import io

from ..bridge import files
from ..bridge.diffusers_folder import MODEL_INDEX, UNET_CONFIG, kind_of, load_text_encoder, load_unet, load_vae, native_text_name
from ..bridge.vocoding import Vocoder
from ..itsound_core import embedded
from ..itsound_core.vocoder import CONFIG_FILE, WEIGHT_FILES, load_vocoder
from ..itsound_core.weights import shapes_in, shapes_of, unreadable

FROM_MODEL = "from the model"
LATENT_CHANNELS = 4
WEIGHT_DTYPES: dict[str, dict[str, Any]] = {
    "default": {},
    "fp32": {"dtype": torch.float32},
    "fp16": {"dtype": torch.float16},
    "bf16": {"dtype": torch.bfloat16},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}
MODEL_PLACES = "'embedded', or a file or folder under models/checkpoints, models/diffusion_models or models/diffusers"
CLIP_PLACES = "a file under models/text_encoders. A model without one borrows the other's"
WITH_HEADER = (".safetensors", ".sft")
TOKEN_EMBEDDING, TRANSFORMERS_5 = "token_embedding.weight", "embeddings.token_embedding.weight"
SAME_VAE = 3e-3
"""Relative difference of two VAEs' weights up to which they are the same one: rounding to bfloat16 makes 1.1e-3."""
VOCODERS = "vocoders"

logger = logging.getLogger(__name__)

files.register_folder(VOCODERS, folder_paths.supported_pt_extensions)


class Loaded(NamedTuple):
    """One model of the pair, with the text encoder and VAE it brings; None for what it has not, or was not asked for."""

    model: comfy.model_patcher.ModelPatcher
    clip: comfy.sd.CLIP | None
    vae: comfy.sd.VAE | None


class LoadDualUNets(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        text_encoders = [FROM_MODEL, *files.file_names("text_encoders")]
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
                    options=_model_names(),
                    tooltip=f"The model that makes pictures: {MODEL_PLACES}.",
                ),
                io.Combo.Input(
                    "audio_model_name",
                    options=_model_names(),
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
                    default=FROM_MODEL,
                    optional=True,
                    advanced=True,
                    tooltip=f"Text encoder for the image prompt: the image model's own, or {CLIP_PLACES}.",
                ),
                io.Combo.Input(
                    "audio_clip_name",
                    options=text_encoders,
                    default=FROM_MODEL,
                    optional=True,
                    advanced=True,
                    tooltip=f"Text encoder for the audio prompt: the audio model's own, or {CLIP_PLACES}.",
                ),
                io.Combo.Input(
                    "vae_name",
                    options=[FROM_MODEL, *files.file_names("vae")],
                    default=FROM_MODEL,
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
    def fingerprint_inputs(cls, image_model_name, audio_model_name, **names) -> Any:
        """Changes when a file under one of the names was replaced on disk."""
        models = [files.model_path(image_model_name, embedded.IMAGE_FOLDER), files.model_path(audio_model_name, embedded.AUDIO_FOLDER)]
        clips = [_path("text_encoders", names.get(key)) for key in ("image_clip_name", "audio_clip_name")]
        return [files.stamp(path) for path in (*models, *clips, _path("vae", names.get("vae_name"))) if path]

    @classmethod
    def execute(
        cls,
        image_model_name,
        audio_model_name,
        weight_dtype="default",
        image_clip_name=FROM_MODEL,
        audio_clip_name=FROM_MODEL,
        vae_name=FROM_MODEL,
    ) -> io.NodeOutput:
        options = WEIGHT_DTYPES[weight_dtype]
        own_image_clip, own_audio_clip, own_vae = (name == FROM_MODEL for name in (image_clip_name, audio_clip_name, vae_name))
        # what can be refused quickly comes first: headers, then the small models, then the large ones
        for socket, name in (("image_model_name", image_model_name), ("audio_model_name", audio_model_name)):
            with files.naming("LoadDualUNets", socket, name):
                _check_header(name)
        image_clip = None if own_image_clip else _load_clip("image_clip_name", image_clip_name)
        audio_clip = None if own_audio_clip else _load_clip("audio_clip_name", audio_clip_name)
        vae = None if own_vae else _load_vae(vae_name)
        with files.naming("LoadDualUNets", "image_model_name", image_model_name):
            image = _load_model(image_model_name, embedded.IMAGE_FOLDER, options, own_image_clip, own_vae)
        with files.naming("LoadDualUNets", "audio_model_name", audio_model_name):
            audio = _load_model(audio_model_name, embedded.AUDIO_FOLDER, options, own_audio_clip, own_vae)

        image_clip, audio_clip = image_clip or image.clip, audio_clip or audio.clip
        image_clip = image_clip or _borrow_clip("image", image_model_name, audio_clip)
        audio_clip = audio_clip or _borrow_clip("audio", audio_model_name, image_clip)
        _require_same_width("image", image.model, image_clip)
        _require_same_width("audio", audio.model, audio_clip)
        return io.NodeOutput(image.model, image_clip, audio.model, audio_clip, vae or _shared_vae(image.vae, audio.vae))


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
        return files.stamp(_vocoder_folder(vocoder_name))

    @classmethod
    def execute(cls, vocoder_name) -> io.NodeOutput:
        with files.naming("LoadVocoder", "vocoder_name", vocoder_name):
            generator = load_vocoder(_vocoder_folder(vocoder_name))
        # not CoreModelPatcher: its dynamic loading only knows ComfyUI's own layers
        patcher = comfy.model_patcher.ModelPatcher(
            generator, load_device=comfy.model_management.vae_device(), offload_device=comfy.model_management.vae_offload_device()
        )
        return io.NodeOutput(Vocoder(patcher, vocoder_name))


# Names and files ---------------------------------------------------------------------------------------------------------------------


def _model_names() -> list[str]:
    return [
        files.EMBEDDED,
        *(f"{key}/{name}" for key in ("checkpoints", "diffusion_models") for name in files.file_names(key)),
        *(f"diffusers/{name}" for name in files.folder_names("diffusers", MODEL_INDEX, UNET_CONFIG)),
    ]


def _vocoder_names() -> list[str]:
    return [
        files.EMBEDDED,
        *(f"{VOCODERS}/{name}" for name in files.folder_names(VOCODERS, CONFIG_FILE)),
        *(f"diffusers/{name}" for name in files.folder_names("diffusers", os.path.join("vocoder", CONFIG_FILE))),
    ]


def _path(key: str, name: str | None) -> Path | None:
    """Path of a file's name under a key; None for the choice "from the model"."""
    return None if name in (None, FROM_MODEL) else Path(folder_paths.get_full_path_or_raise(key, name))


def _vocoder_folder(name: str) -> Path:
    if name == files.EMBEDDED:
        return embedded.VOCODER_FOLDER
    key, _, folder = name.partition("/")
    return files.folder_path(key, folder) / "vocoder" if key == "diffusers" else files.folder_path(key, folder)


# Models ------------------------------------------------------------------------------------------------------------------------------


def _check_header(name: str) -> None:
    """Refuse a file by the names and shapes in its header, before anything is loaded. A .ckpt has none and is judged once it is loaded."""
    key, _, file = name.partition("/")
    if key in ("checkpoints", "diffusion_models") and file.endswith(WITH_HEADER):
        _require_sd1(_detect(Path(folder_paths.get_full_path_or_raise(key, file))))


def _detect(path: Path) -> comfy.supported_models_base.BASE:
    """What ComfyUI takes a safetensors file for."""
    weights = {name: torch.empty(shape, device="meta") for name, shape in shapes_in(path).items()}
    if any("time_embed" in name and name.endswith("cond_proj.weight") for name in weights):
        raise ValueError(
            "It takes the guidance scale as an input (LCM), which ComfyUI does not feed. Copy the model's whole folder, as diffusers saves "
            "it, to models/diffusers, or use Stable Diffusion 1.5 with an LCM LoRA."
        )
    prefix = comfy.model_detection.unet_prefix_from_state_dict(weights)
    prefix = prefix if any(name.startswith(prefix) for name in weights) else ""
    config = comfy.model_detection.model_config_from_unet(weights, prefix)
    config = config or comfy.model_detection.model_config_from_diffusers_unet(weights)
    if config is None:
        raise ValueError(
            f"ComfyUI knows no diffusion model with these weights ({kind_of(weights)}). Choose Stable Diffusion 1.5, Auffusion or a "
            "fine-tune of them; of a smaller relative, copy the whole folder, as diffusers saves it, to models/diffusers."
        )
    return config


def _load_model(name: str, embedded_folder: Path, options: dict[str, Any], want_clip: bool, want_vae: bool) -> Loaded:
    path = files.model_path(name, embedded_folder)
    embeddings = folder_paths.get_folder_paths("embeddings")
    if name == files.EMBEDDED or name.startswith("diffusers/"):
        vae_folder = embedded.VAE_FOLDER if name == files.EMBEDDED else path
        model = load_unet(path, options)
        return Loaded(model, load_text_encoder(path, embeddings) if want_clip else None, load_vae(vae_folder) if want_vae else None)
    try:
        if name.startswith("checkpoints/"):
            model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(
                str(path), output_vae=want_vae, output_clip=want_clip, embedding_directory=embeddings, model_options=options
            )
            loaded = Loaded(model, clip, vae if vae is not None and vae.first_stage_model is not None else None)
        else:
            loaded = Loaded(comfy.sd.load_diffusion_model(str(path), model_options=options), None, None)
    except files.UNREADABLE as error:
        if path.suffix in WITH_HEADER:
            raise  # the file was found whole, so its error is another
        raise unreadable(path, error) from error
    _require_sd1(loaded.model.model.model_config)
    return loaded


def _require_sd1(config: comfy.supported_models_base.BASE) -> None:
    """Refuse what ComfyUI can load but cannot share a canvas: another latent space, or a UNet that needs more than latents and text."""
    kind = type(config).__name__
    if not isinstance(config.latent_format, comfy.latent_formats.SD15):
        raise ValueError(
            f"It is a model of the kind {kind}, whose latents ({type(config.latent_format).__name__}) are not SD 1.x's. Both models must "
            "share one latent space: choose Stable Diffusion 1.5, Auffusion or a fine-tune of them."
        )
    if not config.unet_config.get("context_dim"):
        raise ValueError(
            f"It is a model of the kind {kind}, which is no UNet. Load it with ComfyUI's own loaders and connect it to MultimodalKSampler."
        )
    channels = config.unet_config["in_channels"]
    if channels != LATENT_CHANNELS or config.unet_config.get("adm_in_channels"):
        raise ValueError(
            f"It is an inpainting, editing or image-conditioned model ({kind}, {channels} input channels). Choose the plain text-to-image "
            "model it was made from."
        )


def _load_clip(socket: str, name: str) -> comfy.sd.CLIP:
    path = Path(folder_paths.get_full_path_or_raise("text_encoders", name))
    with files.naming("LoadDualUNets", socket, name):
        try:
            weights = comfy.utils.load_torch_file(str(path), safe_load=True)
        except files.UNREADABLE as error:
            raise unreadable(path, error) from error
        if not any(tensor.endswith(TOKEN_EMBEDDING) for tensor in weights):
            raise ValueError("It is no CLIP text encoder. Choose the one of Stable Diffusion 1.5, often named clip_l.safetensors.")
        options = {"embedding_directory": folder_paths.get_folder_paths("embeddings"), "clip_type": comfy.sd.CLIPType.STABLE_DIFFUSION}
        if TRANSFORMERS_5 in weights:  # load_clip would find none of its names and leave the weights as they happen to lie in memory
            renamed = {native_text_name(tensor): weight for tensor, weight in weights.items()}
            return comfy.sd.load_text_encoder_state_dicts([renamed], **options)
        return comfy.sd.load_clip([str(path)], **options)


def _borrow_clip(side: str, model_name: str, clip: comfy.sd.CLIP | None) -> comfy.sd.CLIP:
    if clip is None:
        raise ValueError(
            f'LoadDualUNets: {side}_model_name is "{model_name}", which has no text encoder, and the other model has none either. '
            f"Choose {side}_clip_name (a file in models/text_encoders)."
        )
    logger.info('LoadDualUNets: "%s" has no text encoder; the %s prompt is read by the other model\'s.', model_name, side)
    return clip.clone()


def _require_same_width(side: str, model: comfy.model_patcher.ModelPatcher, clip: comfy.sd.CLIP) -> None:
    encoder = clip.cond_stage_model
    width = getattr(encoder, encoder.clip).transformer.get_input_embeddings().embedding_dim if hasattr(encoder, "clip") else None
    needed = model.model.model_config.unet_config["context_dim"]
    if width != needed:
        raise ValueError(
            f"LoadDualUNets: the {side} model reads text embeddings {needed} wide, its text encoder writes {width or 'another kind'}. "
            f"Choose another {side}_clip_name."
        )


def _load_vae(name: str) -> comfy.sd.VAE:
    path = Path(folder_paths.get_full_path_or_raise("vae", name))
    with files.naming("LoadDualUNets", "vae_name", name):
        try:
            weights, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
        except files.UNREADABLE as error:
            raise unreadable(path, error) from error
        vae = comfy.sd.VAE(sd=weights, metadata=metadata)
        vae.throw_exception_if_invalid()
        if vae.latent_channels != LATENT_CHANNELS:
            raise ValueError(f"Its latents have {vae.latent_channels} channels, SD 1.x's {LATENT_CHANNELS}. Choose the VAE of SD 1.5.")
    return vae


def _shared_vae(image: comfy.sd.VAE | None, audio: comfy.sd.VAE | None) -> comfy.sd.VAE:
    """The image model's VAE, else the audio model's. Warns where they differ, as a fine-tuned one does; raises where they cannot agree."""
    if image is None or audio is None:
        vae = image or audio
        if vae is None:
            raise ValueError("LoadDualUNets: neither model has a VAE. Choose vae_name (a file in models/vae; SD 1.5's fits both).")
        logger.info("LoadDualUNets: the %s model has no VAE; the other model's is used.", "image" if image is None else "audio")
        return vae
    ours, theirs = (vae.first_stage_model.state_dict() for vae in (image, audio))
    if shapes_of(ours) != shapes_of(theirs):
        raise ValueError(
            "LoadDualUNets: the two models bring VAEs of different shapes, so their latents are not the same space. Choose two models of "
            "one family (Stable Diffusion 1.5 with Auffusion, embedded with embedded), or vae_name if you know that one VAE fits both."
        )
    squares = torch.tensor([[(ours[name] - theirs[name]).float().square().sum(), ours[name].float().square().sum()] for name in ours])
    difference = float((squares[:, 0].sum() / squares[:, 1].sum()).sqrt())
    if difference > SAME_VAE:
        logger.warning(
            "LoadDualUNets: the models' VAEs differ by %.2g %% of their weights: one is fine-tuned, or the latents are not the same space. "
            "The image model's is used; choose vae_name to use another.",
            100 * difference,
        )
    return image


NODES = [LoadDualUNets, LoadVocoder]
