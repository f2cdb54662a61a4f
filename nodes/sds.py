"""The SDS baseline: one canvas distilled from an image and an audio model (paper A.1)."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.samplers
import comfy.sd
import torch
from comfy_api.latest import io
from torch import Tensor, nn

from ..bridge import inputs, sds_run
from ..bridge.color_sampling import RGB
from ..bridge.deepfloyd_folder import DeepFloydIF
from ..bridge.guider import ADDITIONAL_MODELS_KEY, PIXELS_PER_LATENT
from ..bridge.progress_text import tell
from ..itsound_core import deepfloyd
from ..itsound_core.canvas import FourierCanvas, LatentCanvas
from ..itsound_core.sds import Critic, Distillation, Sight, latents_by, square_crops, whole
from ..itsound_core.spectrogram import AUFFUSION
from .sampling import latent_columns

NODE = "SDSBaseline"
NETWORK, LATENTS = "network", "latents"
CROP_SIZE = 64
"""Pixels a side of what a pixel-space model sees of a square of the canvas (paper A.1)."""

Predict = Callable[[Tensor, Tensor], Tensor]
"""(noisy x0 + sigma noise (B, C, h, w), sigma (B,)) -> guided x0 estimate."""


class SDSBaseline(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=NODE,
            display_name="SDS Baseline",
            category="Images that Sound/baselines",
            description="The paper's slow baseline: a small network is a canvas, and it is trained until both models find it likely. Hours "
            "at the paper's settings, against seconds for Multimodal KSampler, and not better: to compare, and to see why.",
            search_aliases=["score distillation", "dreamfusion", "sds", "images that sound"],
            inputs=[
                io.Model.Input("audio_model", tooltip="Model that makes spectrograms, for example Auffusion."),
                io.Vae.Input("vae", tooltip="Its VAE; the canvas is seen through the encoder, with gradients."),
                io.Conditioning.Input("audio_positive", tooltip="What the canvas should sound like."),
                io.Conditioning.Input("audio_negative", tooltip="What it should not; usually the empty prompt."),
                io.MultiType.Input(
                    "image_model",
                    [io.Model, io.Custom("DEEPFLOYD_IF")],
                    tooltip="What paints: LoadDeepFloydIF as in the paper, a pixel-space model, or a model that shares the audio model's "
                    "VAE.",
                ),
                io.Conditioning.Input("image_positive", tooltip="What the canvas should look like."),
                io.Conditioning.Input("image_negative", tooltip="What it should not; usually the empty prompt."),
                io.Int.Input("iterations", default=40000, min=1, max=1000000, tooltip="Updates of the canvas. 40 000 in the paper."),
                io.Int.Input(
                    "warm_start",
                    default=5000,
                    min=0,
                    max=1000000,
                    tooltip="The first so many updates follow the sound alone. 5 000 in the paper.",
                ),
                io.Float.Input(
                    "lambda_sds",
                    default=0.4,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    tooltip="Weight of the picture beside the sound. 0.4 in the paper.",
                ),
                io.Float.Input("image_cfg", default=80.0, min=0.0, max=200.0, step=0.5, tooltip="Guidance scale of the picture."),
                io.Float.Input("audio_cfg", default=10.0, min=0.0, max=200.0, step=0.5, tooltip="Guidance scale of the sound."),
                io.Int.Input(
                    "crops",
                    default=8,
                    min=1,
                    max=64,
                    tooltip="Random squares of the canvas that a pixel-space model sees in each update. A latent model sees all of it.",
                ),
                io.Float.Input(
                    "learning_rate", default=1e-4, min=1e-6, max=1.0, step=1e-5, round=1e-7, tooltip="Of AdamW. 1e-4 in the paper."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Seed of the canvas and of all noise.",
                ),
                io.String.Input(
                    "checkpoint_name",
                    default="",
                    tooltip=f"A name under which the run is kept in output/{sds_run.FOLDER}, every five minutes and when it is cancelled; "
                    "the same name with the same settings goes on there. Empty: nothing is kept.",
                ),
                io.Float.Input(
                    "seconds", default=10.24, min=0.64, max=60.0, step=0.64, optional=True, advanced=True, tooltip="Length of the sound."
                ),
                io.Int.Input(
                    "hidden",
                    default=256,
                    min=8,
                    max=1024,
                    step=8,
                    optional=True,
                    advanced=True,
                    tooltip="Width of the canvas's network, and its number of features. 256 in the paper; 64 is bearable on a CPU.",
                ),
                io.Combo.Input(
                    "canvas",
                    options=[NETWORK, LATENTS],
                    default=NETWORK,
                    optional=True,
                    tooltip="What is optimised: a network that paints the picture, as in the paper, or the latents themselves, many times "
                    "cheaper a step, for an image_model that works on latents. Latents want a learning rate of about 0.02.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The canvas, a gray spectrogram.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        audio_model: comfy.model_patcher.ModelPatcher,
        vae: comfy.sd.VAE,
        audio_positive: list,
        audio_negative: list,
        image_model: comfy.model_patcher.ModelPatcher | DeepFloydIF,
        image_positive: list,
        image_negative: list,
        iterations: int,
        warm_start: int,
        lambda_sds: float,
        image_cfg: float,
        audio_cfg: float,
        crops: int,
        learning_rate: float,
        seed: int,
        checkpoint_name: str,
        seconds: float = 10.24,
        hidden: int = 256,
        canvas: str = NETWORK,
    ) -> io.NodeOutput:
        columns = PIXELS_PER_LATENT * latent_columns(seconds)
        settings = {"canvas": canvas, "columns": columns, "hidden": hidden, "warm_start": warm_start, "lambda_sds": lambda_sds}
        settings |= {"image_cfg": image_cfg, "audio_cfg": audio_cfg, "crops": crops, "learning_rate": learning_rate, "seed": seed}
        settings["prompts"] = _digest([audio_positive, audio_negative, image_positive, image_negative])
        _check_numbers(iterations, warm_start, crops)
        _check_models(audio_model, image_model, vae, columns, canvas)
        _check_text("audio_model", audio_model, {"audio_positive": audio_positive, "audio_negative": audio_negative})
        _check_text("image_model", image_model, {"image_positive": image_positive, "image_negative": image_negative})
        checkpoint = sds_run.Checkpoint(NODE, checkpoint_name, settings) if checkpoint_name.strip() else None
        state = checkpoint.load(iterations) if checkpoint else None

        device = audio_model.load_device
        audio_shape = (1, 4, AUFFUSION.n_mels // PIXELS_PER_LATENT, columns // PIXELS_PER_LATENT)
        scale = audio_model.get_model_object("latent_format").scale_factor
        with torch.inference_mode(False):
            if canvas == LATENTS:
                easel = _latent_easel(LatentCanvas(*audio_shape[2:], seed=seed), vae, scale, device)
            else:
                network = FourierCanvas(AUFFUSION.n_mels, columns, frequencies=hidden // 2, hidden=hidden, seed=seed)
                easel = _network_easel(network, vae, scale, device)

        def distill(predict_image: Predict | None, predict_audio: Predict) -> Tensor:
            if isinstance(image_model, DeepFloydIF):
                image = _deepfloyd_critic(image_model, image_positive, image_negative, image_cfg, square_crops(crops, CROP_SIZE))
            else:
                assert predict_image is not None
                sight = square_crops(crops, CROP_SIZE) if _in_pixels(image_model) else easel.latents
                image = _critic(image_model, predict_image, sight)
            critics = [replace(image, weight=lambda_sds, start=warm_start), _critic(audio_model, predict_audio, easel.latents)]
            with torch.inference_mode(False), torch.enable_grad():
                distillation = Distillation(easel.canvas, critics, learning_rate, seed)
                if state is not None:
                    distillation.load_state_dict(state)
                run = sds_run.Run(NODE, distillation, ("picture", "sound"), easel.decode, checkpoint, partial(tell, cls.hidden))
                return run.finish(iterations)

        audio_guider = _guider(audio_model, audio_positive, audio_negative, audio_cfg)
        if isinstance(image_model, DeepFloydIF):
            stage = image_model.stage_1.patcher
            comfy.model_management.load_models_gpu([stage], force_full_load=True)
            audio_guider.model_patcher.set_additional_models(ADDITIONAL_MODELS_KEY, [stage])
            picture = _with_predictor(audio_guider, audio_shape, partial(distill, None))
        else:
            image_guider = _guider(image_model, image_positive, image_negative, image_cfg)
            # Registered here so that one load call budgets both: the second alone could drive the first one out.
            image_guider.model_patcher.set_additional_models(ADDITIONAL_MODELS_KEY, [audio_guider.model_patcher])
            image_shape = (crops, RGB, CROP_SIZE, CROP_SIZE) if _in_pixels(image_model) else audio_shape
            picture = _with_predictor(
                image_guider,
                image_shape,
                lambda predict_image: _with_predictor(audio_guider, audio_shape, partial(distill, predict_image)),
            )
        painted = "latents" if canvas == LATENTS else f"a network {hidden} wide"
        tell(cls.hidden, f"{iterations} iterations of {painted}. The paper's: 40000 of a network 256 wide.")
        return io.NodeOutput(picture.cpu().movedim(1, -1).expand(-1, -1, -1, RGB))  # BCHW -> BHWC


# Canvases ----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Easel:
    """A canvas, what a model that works on latents sees of it, and what turns it into the picture (1, 1, H, W) in 0..1."""

    canvas: nn.Module
    latents: Sight
    decode: Callable[[Tensor], Tensor]


def _network_easel(canvas: FourierCanvas, vae: comfy.sd.VAE, scale: float, device: torch.device) -> _Easel:
    encode = _part(vae, device, "encoder", "quant_conv")
    return _Easel(canvas.to(device), latents_by(encode, scale), lambda picture: picture)


def _latent_easel(canvas: LatentCanvas, vae: comfy.sd.VAE, scale: float, device: torch.device) -> _Easel:
    decode = _part(vae, device, "post_quant_conv", "decoder")
    return _Easel(canvas.to(device), whole, lambda latents: (decode(latents / scale).mean(dim=1, keepdim=True) / 2 + 0.5).clamp(0.0, 1.0))


def _part(vae: comfy.sd.VAE, device: torch.device, *names: str) -> Callable[[Tensor], Tensor]:
    """Parts of the VAE in a row, float32 in and out, as a copy: what a node has loaded is not for gradients.

    They compute in bfloat16 where ComfyUI lets the VAE do so, else in float32: float16's gradients would underflow.
    """
    comfy.model_management.load_models_gpu([vae.patcher])
    stage, dtype = vae.first_stage_model, torch.bfloat16 if vae.vae_dtype == torch.bfloat16 else torch.float32
    parts = nn.Sequential(*(copy.deepcopy(getattr(stage, name)).requires_grad_(False) for name in names)).to(device, dtype)
    return lambda tensor: parts(tensor.to(dtype)).float()


# Models ------------------------------------------------------------------------------------------------------------------------------


class _InPlaceOfASampler(comfy.samplers.Sampler):
    """Uses a guider's prediction where a sampler would, with models loaded and conditions prepared."""

    def __init__(self, use: Callable[[Predict], Tensor]) -> None:
        self.use, self.found = use, torch.empty(0)

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False):
        self.found = self.use(partial(model_wrap, **extra_args))
        return noise


def _with_predictor(guider: comfy.samplers.CFGGuider, shape: tuple[int, ...], use: Callable[[Predict], Tensor]) -> Tensor:
    """What `use` gives with the guider's prediction for inputs of that shape."""
    sampler, nothing = _InPlaceOfASampler(use), torch.zeros(shape)
    model_sampling: Any = guider.model_patcher.get_model_object("model_sampling")
    guider.sample(nothing, nothing, sampler, torch.tensor([float(model_sampling.sigma_max), 0.0]), disable_pbar=True, seed=0)
    return sampler.found


def _guider(model: comfy.model_patcher.ModelPatcher, positive: list, negative: list, cfg: float) -> comfy.samplers.CFGGuider:
    guider = comfy.samplers.CFGGuider(model.clone())  # a clone, because another model may be registered on it
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


def _critic(model: comfy.model_patcher.ModelPatcher, predict: Predict, sight: Sight) -> Critic:
    """A critic of a MODEL's guided x0 estimates."""
    sigmas = model.get_model_object("model_sampling").sigmas.double().cpu()
    alphas = 1.0 / (1.0 + sigmas.square())

    def predict_noise(noisy: Tensor, timestep: int) -> Tensor:
        with torch.inference_mode():
            x = noisy / float(alphas[timestep]) ** 0.5
            sigma = torch.full((len(x),), float(sigmas[timestep]), device=x.device)
            noise = (x - predict(x, sigma)) / sigma[0]
        return noise.clone()  # outside of inference mode, where a gradient may be taken with it

    return Critic(predict_noise, alphas, sight)


def _deepfloyd_critic(floyd: DeepFloydIF, positive: list, negative: list, cfg: float, sight: Sight) -> Critic:
    stage, device = floyd.stage_1, floyd.stage_1.patcher.load_device
    guidance = deepfloyd.Guidance(positive[0][0].to(device), negative[0][0].to(device), cfg)

    def predict_noise(noisy: Tensor, timestep: int) -> Tensor:
        with torch.inference_mode():
            noise = deepfloyd.predict_noise(stage.unet, noisy, timestep, guidance)
        return noise.clone()

    return Critic(predict_noise, stage.scheduler.alphas_cumprod.double(), sight)


def _in_pixels(model: comfy.model_patcher.ModelPatcher) -> bool:
    return model.get_model_object("latent_format").latent_channels == RGB


def _check_numbers(iterations: int, warm_start: int, crops: int) -> None:
    """Those that a link from another node can bring below the widget's least, and those that do not go together."""
    if crops < 1:
        raise ValueError(f"{NODE}: crops is {crops}, so a pixel-space model would see nothing. Set it to 1 or more; the paper's is 8.")
    if warm_start >= iterations:
        raise ValueError(
            f"{NODE}: warm_start is {warm_start} of {iterations} iterations, so the picture would have no say. Set it below; the paper's "
            "is an eighth. For the sound alone, set lambda_sds to 0 and warm_start to 0."
        )


def _check_models(audio_model: comfy.model_patcher.ModelPatcher, image_model: Any, vae: comfy.sd.VAE, columns: int, canvas: str) -> None:
    models = {"audio_model": audio_model}
    if not isinstance(image_model, DeepFloydIF):
        models["image_model"] = image_model
    for socket, model in models.items():
        if not isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.EPS):
            raise ValueError(f"{NODE}: {socket} works by flow matching; score distillation here needs a diffusion model. Choose SD 1.5.")
    latent_format = audio_model.get_model_object("latent_format")
    if _in_pixels(audio_model):
        raise ValueError(f"{NODE}: audio_model works on pixels. Connect a model that makes spectrograms in latents, as Auffusion.")
    if vae.latent_channels != latent_format.latent_channels or not hasattr(vae.first_stage_model, "quant_conv"):
        raise ValueError(f"{NODE}: vae is not the audio model's: connect the VAE that LoadDualUNets gives (of Stable Diffusion 1.5).")
    other = models.get("image_model")
    if other is not None and not _in_pixels(other) and type(other.get_model_object("latent_format")) is not type(latent_format):
        raise ValueError(
            f"{NODE}: image_model works on other latents than vae makes. Use a model of the audio model's latent space, or of pixels."
        )
    if other is not None and not _in_pixels(other):
        return
    if canvas == LATENTS:
        raise ValueError(f"{NODE}: canvas is {LATENTS}, and image_model works on pixels. Set canvas to {NETWORK}, or use SD 1.5.")
    if columns < AUFFUSION.n_mels:
        raise ValueError(
            f"{NODE}: seconds makes a canvas {columns} columns wide, and a pixel-space image_model sees squares of {AUFFUSION.n_mels}. Set "
            f"seconds to {AUFFUSION.seconds(AUFFUSION.n_mels):g} or more."
        )


def _check_text(socket: str, model: comfy.model_patcher.ModelPatcher | DeepFloydIF, conditionings: dict[str, list]) -> None:
    if isinstance(model, DeepFloydIF):
        model.check_text(NODE, socket, conditionings)
    else:
        inputs.text(NODE, socket, conditionings, inputs.text_width(model))


def _digest(conditionings: list[list]) -> str:
    digest = hashlib.sha256()
    for embeddings, *_ in chain.from_iterable(conditionings):
        digest.update(json.dumps(list(embeddings.shape)).encode() + embeddings.float().cpu().numpy().tobytes())
    return digest.hexdigest()


NODES = [SDSBaseline]
