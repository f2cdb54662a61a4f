"""Loaded diffusion models as priors of a score distillation: a MODEL of ComfyUI's, and DeepFloyd IF's stage I."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import comfy.model_patcher
import comfy.samplers
import torch
from torch import Tensor

from ..itsound_core import deepfloyd
from ..itsound_core.sds import DiffusionPrior, Renderer
from .deepfloyd_folder import DeepFloydIF

Predict = Callable[[Tensor, Tensor], Tensor]
"""(noisy x0 + sigma noise (B, C, h, w), sigma (B,)) -> guided x0 estimate."""


def model_prior(model: comfy.model_patcher.ModelPatcher, predict: Predict, render: Renderer) -> DiffusionPrior:
    """The prior of a MODEL's guided x0 estimates."""
    sigmas = model.get_model_object("model_sampling").sigmas.cpu().double()  # in this order: Apple's GPUs have no float64
    alphas = 1.0 / (1.0 + sigmas.square())

    def predict_noise(noisy: Tensor, timestep: int) -> Tensor:
        with torch.inference_mode():
            x = noisy / float(alphas[timestep]) ** 0.5
            sigma = torch.full((len(x),), float(sigmas[timestep]), device=x.device)
            noise = (x - predict(x, sigma)) / float(sigmas[timestep])
        return noise.clone()  # outside of inference mode, where a gradient may be taken with it

    return DiffusionPrior(predict_noise, alphas, render)


def deepfloyd_prior(floyd: DeepFloydIF, positive: list, negative: list, cfg: float, render: Renderer) -> DiffusionPrior:
    """The prior of stage I, which is loaded already."""
    stage, device = floyd.stage_1, floyd.stage_1.patcher.load_device
    guidance = deepfloyd.Guidance(positive[0][0].to(device), negative[0][0].to(device), cfg)

    def predict_noise(noisy: Tensor, timestep: int) -> Tensor:
        with torch.inference_mode():
            noise = deepfloyd.predict_noise(stage.unet, noisy, timestep, guidance)
        return noise.clone()

    # Colouring leaves the scheduler's table on its device: diffusers' add_noise moves it there.
    return DiffusionPrior(predict_noise, stage.scheduler.alphas_cumprod.cpu().double(), render)


def guider_of(model: comfy.model_patcher.ModelPatcher, positive: list, negative: list, cfg: float) -> comfy.samplers.CFGGuider:
    guider = comfy.samplers.CFGGuider(model.clone())  # a clone, because another model may be registered on it
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


def with_predictor(guider: comfy.samplers.CFGGuider, shape: tuple[int, ...], use: Callable[[Predict], Tensor]) -> Tensor:
    """What `use` gives with the guider's prediction for inputs of that shape, with models loaded and conditions prepared."""
    sampler, nothing = _Predictor(use), torch.zeros(shape)
    model_sampling: Any = guider.model_patcher.get_model_object("model_sampling")
    guider.sample(nothing, nothing, sampler, torch.tensor([float(model_sampling.sigma_max), 0.0]), disable_pbar=True, seed=0)
    assert sampler.result is not None
    return sampler.result


class _Predictor(comfy.samplers.Sampler):
    """Uses a guider's prediction where a sampler would."""

    def __init__(self, use: Callable[[Predict], Tensor]) -> None:
        self.use = use
        self.result: Tensor | None = None

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False):
        self.result = self.use(partial(model_wrap, **extra_args))
        return noise
