"""Score distillation of one canvas from an image and an audio model as they come by sockets (paper A.1)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain

import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.sd
import torch
from torch import Tensor

from ..itsound_core.canvas import FourierCanvas, LatentParameters
from ..itsound_core.latents import LATENT_CHANNELS, PIXELS_PER_LATENT
from ..itsound_core.pixels import RGB
from ..itsound_core.sds import Distillation, random_crops
from ..itsound_core.spectrogram import AUFFUSION
from . import conditioning_inputs
from .checkpoint import Checkpoint
from .deepfloyd_folder import DeepFloydIF
from .diffusion_prior import Predict, deepfloyd_prior, guider_of, model_prior, with_predictor
from .guider import ADDITIONAL_MODELS_KEY
from .parameterization import Parameterization, latent_parameterization, network_parameterization
from .sampling_inputs import context_windows
from .sds_run import Run

NETWORK, LATENTS = "network", "latents"
CROP_SIZE = 64
"""Pixels a side of what a pixel-space model gets of a square of the canvas (paper A.1)."""
STATE_COPIES, STATE_EXTRA = 3, 2**20
"""A checkpoint holds every parameter and two moments of it, and under so many bytes of other things."""


@dataclass(frozen=True)
class Settings:
    """Numbers of a run that a checkpoint belongs to, by the names of their inputs, but for `columns`, the canvas's width in pixels."""

    canvas: str
    columns: int
    hidden: int
    warm_start: int
    lambda_sds: float
    image_cfg: float
    audio_cfg: float
    crops: int
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class Request:
    """One run as it was wired; `node` is what errors name."""

    node: str
    audio_model: comfy.model_patcher.ModelPatcher
    vae: comfy.sd.VAE
    image_model: comfy.model_patcher.ModelPatcher | DeepFloydIF
    prompts: dict[str, list]
    """CONDITIONING by the name of its socket: audio_positive, audio_negative, image_positive, image_negative."""
    settings: Settings
    iterations: int
    checkpoint_name: str

    @property
    def image_patcher(self) -> comfy.model_patcher.ModelPatcher:
        return self.image_model.stage_1.patcher if isinstance(self.image_model, DeepFloydIF) else self.image_model

    def pair(self, side: str) -> tuple[list, list]:
        """Positive and negative conditioning of "image" or "audio"."""
        return self.prompts[f"{side}_positive"], self.prompts[f"{side}_negative"]

    def checkpoint(self) -> Checkpoint | None:
        if not self.checkpoint_name.strip():
            return None
        settings = asdict(self.settings) | {"prompts": _digest(list(self.prompts.values()))}
        models = {"audio_model": self.audio_model, "image_model": self.image_patcher, "vae": self.vae.patcher}
        prompts = {socket: _digest([conditioning]) for socket, conditioning in self.prompts.items()}
        return Checkpoint(self.node, self.checkpoint_name, settings, models, prompts)


def distill(request: Request, show_text: Callable[[str], None]) -> Tensor:
    """The gray picture (1, 1, 256, columns) in 0..1 that both models have formed.

    Raises ValueError naming node, input and remedy for what cannot work, before a model is loaded. show_text: shows text on the node.
    """
    check(request)
    settings, checkpoint = request.settings, request.checkpoint()
    state = checkpoint.load(request.iterations) if checkpoint else None
    with torch.inference_mode(False):
        form = _parameterization(request)
    if checkpoint:
        checkpoint.try_to_write(STATE_COPIES * sum(4 * p.numel() for p in form.canvas.parameters()) + STATE_EXTRA)

    crops = random_crops(settings.crops, CROP_SIZE)
    image_renderer = crops if _in_pixels(request.image_model) else form.latents

    def optimise(predict_image: Predict | None, predict_audio: Predict) -> Tensor:
        if isinstance(request.image_model, DeepFloydIF):
            image = deepfloyd_prior(request.image_model, *request.pair("image"), settings.image_cfg, image_renderer)
        else:
            assert predict_image is not None
            image = model_prior(request.image_model, predict_image, image_renderer)
        image = replace(image, weight=settings.lambda_sds, start=settings.warm_start)
        with torch.inference_mode(False), torch.enable_grad():
            priors = [image, model_prior(request.audio_model, predict_audio, form.latents)]
            distillation = Distillation(form.canvas, priors, settings.learning_rate, settings.seed)
            if state is not None:
                distillation.load_state_dict(state)
            run = Run(
                request.node, distillation, {"picture": "image_model", "sound": "audio_model or vae"}, form.decode, checkpoint, show_text
            )
            picture = run.finish(request.iterations)
        painted = "latents" if settings.canvas == LATENTS else f"a network {settings.hidden} wide"
        show_text(f"{request.iterations} iterations of {painted}. The paper's: 40000 of a network 256 wide.{run.warning}")
        return picture

    return _with_predictors(request, optimise)


def _parameterization(request: Request) -> Parameterization:
    settings, vae, device = request.settings, request.vae, request.audio_model.load_device
    scale = request.audio_model.get_model_object("latent_format").scale_factor
    try:
        if settings.canvas == LATENTS:
            return latent_parameterization(LatentParameters(*_latent_shape(request)[2:], seed=settings.seed), vae, scale, device)
        half = settings.hidden // 2
        network = FourierCanvas(AUFFUSION.n_mels, settings.columns, frequencies=half, hidden=settings.hidden, seed=settings.seed)
        return network_parameterization(network, vae, scale, device)
    except ValueError as error:
        raise ValueError(f"{request.node}: vae is not the audio model's: {error}. Connect the VAE that LoadDualUNets gives.") from error


def _with_predictors(request: Request, use: Callable[[Predict | None, Predict], Tensor]) -> Tensor:
    """What `use` gives with both models loaded by one call: the second alone could drive the first one out."""
    settings, shape = request.settings, _latent_shape(request)
    audio_guider = guider_of(request.audio_model, *request.pair("audio"), settings.audio_cfg)
    if isinstance(request.image_model, DeepFloydIF):
        comfy.model_management.load_models_gpu([request.image_patcher], force_full_load=True)
        audio_guider.model_patcher.set_additional_models(ADDITIONAL_MODELS_KEY, [request.image_patcher])
        return with_predictor(audio_guider, shape, partial(use, None))
    image_guider = guider_of(request.image_model, *request.pair("image"), settings.image_cfg)
    image_guider.model_patcher.set_additional_models(ADDITIONAL_MODELS_KEY, [audio_guider.model_patcher])
    return with_predictor(
        image_guider, _image_shape(request), lambda predict_image: with_predictor(audio_guider, shape, partial(use, predict_image))
    )


def _latent_shape(request: Request) -> tuple[int, ...]:
    return 1, LATENT_CHANNELS, AUFFUSION.n_mels // PIXELS_PER_LATENT, request.settings.columns // PIXELS_PER_LATENT


def _image_shape(request: Request) -> tuple[int, ...]:
    return (request.settings.crops, RGB, CROP_SIZE, CROP_SIZE) if _in_pixels(request.image_model) else _latent_shape(request)


def _in_pixels(model: comfy.model_patcher.ModelPatcher | DeepFloydIF) -> bool:
    return isinstance(model, DeepFloydIF) or model.get_model_object("latent_format").latent_channels == RGB


def _digest(conditionings: list[list]) -> str:
    digest = hashlib.sha256()
    for embeddings, *_ in chain.from_iterable(conditionings):
        digest.update(json.dumps(list(embeddings.shape)).encode() + embeddings.float().cpu().numpy().tobytes())
    return digest.hexdigest()


# Checks ------------------------------------------------------------------------------------------------------------------------------


def check(request: Request) -> None:
    """Whether numbers, models, VAE and prompts go together. Raises ValueError naming node, input and remedy."""
    _check_numbers(request.node, request.iterations, request.settings.warm_start)
    _check_models(request)
    context_windows(request.node, "audio_model", request.audio_model.model_options, _latent_shape(request))
    context_windows(request.node, "image_model", request.image_patcher.model_options, _image_shape(request))
    shapes = {"audio": _latent_shape(request), "image": _image_shape(request)}
    for side, model in (("audio", request.audio_model), ("image", request.image_model)):
        texts = dict(zip((f"{side}_positive", f"{side}_negative"), request.pair(side), strict=True))
        _check_text(request.node, f"{side}_model", model, texts)
        conditioning_inputs.regions(request.node, "", texts, *shapes[side][2:])


def _check_numbers(node: str, iterations: int, warm_start: int) -> None:
    if warm_start >= iterations:
        raise ValueError(
            f"{node}: warm_start is {warm_start} of {iterations} iterations, so the image model would never be evaluated. Set it below; "
            "the paper's is an eighth. For the sound alone, set lambda_sds to 0 and warm_start to 0."
        )


def _check_models(request: Request) -> None:
    node, latent_format = request.node, request.audio_model.get_model_object("latent_format")
    other = None if isinstance(request.image_model, DeepFloydIF) else request.image_model
    for socket, model in {"audio_model": request.audio_model, "image_model": other}.items():
        if model is not None and not isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.EPS):
            raise ValueError(f"{node}: {socket} works by flow matching; score distillation here needs a diffusion model. Choose SD 1.5.")
    if _in_pixels(request.audio_model):
        raise ValueError(f"{node}: audio_model works on pixels. Connect a model that makes spectrograms in latents, as Auffusion.")
    if request.vae.latent_channels != latent_format.latent_channels or not hasattr(request.vae.first_stage_model, "quant_conv"):
        raise ValueError(f"{node}: vae is not the audio model's. Connect the VAE that LoadDualUNets gives (of Stable Diffusion 1.5).")
    if other is not None and not _in_pixels(other):
        if type(other.get_model_object("latent_format")) is not type(latent_format):
            raise ValueError(
                f"{node}: image_model works on other latents than vae makes. Use a model of the audio model's latent space, or of pixels."
            )
        return
    if request.settings.canvas == LATENTS:
        raise ValueError(f"{node}: canvas is {LATENTS}, and image_model works on pixels. Set canvas to {NETWORK}, or use SD 1.5.")
    if request.settings.columns < AUFFUSION.n_mels:
        raise ValueError(
            f"{node}: seconds makes a canvas {request.settings.columns} columns wide, and a pixel-space image_model is given squares of "
            f"{AUFFUSION.n_mels}. Set seconds to {AUFFUSION.seconds(AUFFUSION.n_mels):g} or more."
        )


def _check_text(node: str, socket: str, model: comfy.model_patcher.ModelPatcher | DeepFloydIF, conditionings: dict[str, list]) -> None:
    if isinstance(model, DeepFloydIF):
        model.check_text(node, socket, conditionings)
    else:
        conditioning_inputs.text(node, socket, conditionings, conditioning_inputs.text_width(model))
