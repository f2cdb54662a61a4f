"""The joint guider: a product of experts that every ComfyUI sampler can drive (METHOD 3.2 in x0 space).

The way of a latent, `core` being ComfyUI's CFGGuider and `other` every expert beside the first:

    JointGuider.sample                  checks, then core: the first expert's hooks and options
      JointGuider.outer_sample          for each other, core's `sample` around what follows: its hooks, options and wrappers
        core.outer_sample               one load of all models
          JointGuider.inner_sample      each other's conditions are processed, then core processes the first's and samples:
            sampler -> JointGuider.outer_predict_noise, at every evaluation
              compose -> core.outer_predict_noise, of each expert that votes at this sigma
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, combinations
from typing import Any

import comfy.model_patcher
import comfy.model_sampling
import comfy.sampler_helpers
import comfy.samplers
import torch
from torch import Tensor

from ..itsound_core.composition import Expert, compose
from ..itsound_core.latents import PIXELS_PER_LATENT
from ..itsound_core.spectrogram import AUFFUSION
from ..itsound_core.views import FORMATS, IDENTITY, VIEWS, View
from . import conditioning_inputs, inputs
from .sampling_inputs import MORE_STEPS, context_windows, sampler_seed

ADDITIONAL_MODELS_KEY = "images_that_sound"
POST_CFG = "sampler_post_cfg_function"
CALC_COND_BATCH = "sampler_calc_cond_batch_function"
POOLED = "pooled_output"
"""The one option of a condition that belongs to its text alone."""
SIGMA_TOLERANCE = 1.05
"""By how much a schedule may start above a model's largest sigma: schedules of one family differ by a percent or two."""
ROUNDING = 1.00001
"""Samplers and schedules that go through logarithms miss a timestep's sigma by some 1e-6; the next one's is 0.3 % or more away."""
FOREIGN_TEXT = (
    "{node}: the {model} model reads text embeddings {width} wide, but its {socket} conditioning, {found} wide, comes from a text encoder "
    "of another family. Encode the prompt with the CLIP of the {model} model."
)


@dataclass(frozen=True)
class ModelExpert:
    """One expert as it was wired: a MODEL, its CONDITIONING, its guidance scale, its share t of the process, its weight and its view.

    `name` ("image", "audio", ...) and `node` are what errors call it. What comes with its conditioning (areas, masks, ControlNet hints)
    lies on the canvas as the expert sees it.
    """

    node: str
    name: str
    model: comfy.model_patcher.ModelPatcher
    positive: list
    negative: list
    cfg: float
    t: float
    weight: float
    view: View = IDENTITY
    rows: int = 0
    """Latent rows that it must see; 0: with a view Auffusion's, as it is (IDENTITY) any."""

    @property
    def noise_levels(self) -> Any:
        """ComfyUI's model_sampling: how the model mixes noise into latents, and the sigmas it was trained on."""
        return self.model.get_model_object("model_sampling")

    @cached_property
    def start(self) -> float:
        """The largest sigma at which this expert votes: that of timestep t x 1000, whatever the schedule of the run."""
        levels = self.noise_levels
        # Where timesteps are numbered, percent_to_sigma(p) is the sigma of timestep (1 - p) x 999.
        numbered = isinstance(levels, comfy.model_sampling.ModelSamplingDiscrete)
        percent = 1.0 - self.t * (1000 / 999 if numbered else 1.0)
        return ROUNDING * float(levels.percent_to_sigma(percent))

    @property
    def conditionings(self) -> dict[str, list]:
        return {"positive": self.positive, "negative": self.negative}

    def votes(self, sigma: float) -> bool:
        return self.weight > 0 and sigma <= self.start


class Onward(comfy.samplers.Sampler):
    """Stands where a sampler would in the run of an expert beside the first: what is sampled there is the joint run."""

    def __init__(self, joint_run: Callable[[], Tensor]):
        self.joint_run = joint_run


class ExpertGuider(comfy.samplers.CFGGuider):
    """The guider of an expert beside the first: its own conditions, hooks, options and wrappers, all for the canvas as it sees it.

    `sample` prepares those as for a run of its own, but where that would load and sample, the joint run goes on.
    """

    def __init__(self, expert: ModelExpert):
        super().__init__(expert.model)
        self.view = expert.view.view
        self.set_conds(expert.positive, expert.negative)
        self.set_cfg(expert.cfg)

    def outer_sample(self, noise, latent_image, sampler: Onward, *args, **kwargs):
        return sampler.joint_run()

    def models_to_load(self) -> list:
        """The expert's model and those that its conditions and hooks bring (ControlNets, GLIGEN)."""
        from_conds, _ = comfy.sampler_helpers.get_additional_models(self.conds, self.model_patcher.model_dtype())
        return [self.model_patcher, *from_conds, *comfy.sampler_helpers.get_additional_models_from_model_options(self.model_options)]

    def begin(self, noise: Tensor, latent_image: Tensor, device: torch.device, sigmas: Tensor, denoise_mask: Tensor | None, seed) -> None:
        """What CFGGuider does between loading and the first step, for this expert's model and conditions."""
        noise, latent_image = self.view(noise), self.view(latent_image)
        denoise_mask = None if denoise_mask is None else self.view(denoise_mask)
        self.inner_model = self.model_patcher.model
        comfy.samplers.cast_to_load_options(self.model_options, device=device, dtype=self.model_patcher.model_dtype())
        self.model_patcher.pre_run()
        if torch.count_nonzero(latent_image) > 0:
            latent_image = self.inner_model.process_latent_in(latent_image)
        self.conds = comfy.samplers.process_conds(
            self.inner_model, noise, self.conds, device, latent_image, denoise_mask, seed, latent_shapes=[noise.shape]
        )
        self.model_options["transformer_options"]["sample_sigmas"] = sigmas

    def end(self) -> None:
        self.model_patcher.cleanup()
        comfy.sampler_helpers.cleanup_models(self.conds, [])


def audio_view(view: str) -> dict[str, Any]:
    """What an expert is told of the view of that name: as which canvas it sees the latents, and how high it must be."""
    fmt = FORMATS[view]
    return {"view": VIEWS[view], "rows": 0 if fmt is AUFFUSION else fmt.n_mels // PIXELS_PER_LATENT}


class JointGuider(comfy.samplers.CFGGuider):
    """Is the first (image) expert's CFGGuider and has the others'.

    Each expert runs with its own conditions, ControlNets, hooks, patches and wrappers, all on the same latents and sigma; the first sees
    the canvas as it is, the others through their views. What wraps the one shared run comes from the first expert only: SAMPLER_SAMPLE
    and PREPARE_SAMPLING wrappers and the denoise mask function. OUTER_SAMPLE wrappers of the others run, but cannot change the shared
    noise and latents.

    Raises ValueError when the experts cannot share latents or cannot be live together.
    """

    def __init__(self, experts: Sequence[ModelExpert]):
        first, *others = experts
        super().__init__(first.model.clone())  # a clone, because the other models are registered on it
        self.set_conds(first.positive, first.negative)
        self.set_cfg(first.cfg)
        self.experts = tuple(experts)
        self.others = [ExpertGuider(expert) for expert in others]
        self.shared_negatives: list[SharedNegative] = []
        _check_experts(self.experts, [self, *self.others])

    def sample(self, noise, latent_image, sampler, sigmas, denoise_mask=None, *args, **kwargs):
        _check_canvas(self.experts, noise, latent_image, sigmas, denoise_mask)
        _check_noise_levels(self.experts, sigmas)
        if kwargs.get("seed") is not None:
            kwargs["seed"] = sampler_seed(kwargs["seed"])
        samples = super().sample(noise, latent_image, sampler, sigmas, denoise_mask, *args, **kwargs)
        if not inputs.finite(samples):
            names = " or ".join(f"the {expert.name} model" for expert in self.experts)
            raise ValueError(
                f"{self.experts[0].node}: sampling ended in latents that are NaN or infinite: {names} overflowed, or its file is damaged. "
                "Load the models with weight_dtype fp32 or bf16, lower the cfg, or choose another sampler."
            )
        return samples

    def outer_sample(self, noise, latent_image, sampler, sigmas, *args, **kwargs):
        sample_first = super().outer_sample

        def run() -> Tensor:
            # Registered here and not before: one load call then budgets all models, and hooks may have exchanged a patcher.
            models = [model for expert in self.others for model in expert.models_to_load()]
            self.model_patcher.set_additional_models(ADDITIONAL_MODELS_KEY, models)
            try:
                return sample_first(noise, latent_image, sampler, sigmas, *args, **kwargs)
            finally:
                self.model_patcher.remove_additional_models(ADDITIONAL_MODELS_KEY)

        for expert in self.others:
            run = partial(expert.sample, expert.view(noise), expert.view(latent_image), Onward(run), sigmas)
        return run()

    def inner_sample(self, noise, latent_image, device, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, *args, **kwargs):
        guiders = self, *self.others
        if len(noise) > 1:
            for guider in guiders:
                _window_items_singly(guider.model_options)
        self.shared_negatives = _share_negatives(self.experts, guiders)
        try:
            for expert in self.others:
                expert.begin(noise, latent_image, device, sigmas, denoise_mask, seed)
            return super().inner_sample(
                noise, latent_image, device, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, *args, **kwargs
            )
        finally:
            for expert in self.others:
                expert.end()

    def outer_predict_noise(self, x, timestep, model_options={}, seed=None):  # noqa: B006  (CFGGuider's signature)
        own = len(self.model_options.get(POST_CFG, []))
        samplers_functions = model_options.get(POST_CFG, [])[own:]
        for shared in self.shared_negatives:
            shared.forget()  # a sampler may have changed the latents in place
        if not samplers_functions:
            return compose(self._product(_denoise, model_options, seed), x, timestep)

        # Samplers like euler_cfg_pp read the unguided estimate through a function of their own: it must see the joint estimates.
        first_options = {**model_options, POST_CFG: model_options[POST_CFG][:own]}
        denoised, cond_denoised, uncond_denoised = compose(self._product(_guidance_terms, first_options, seed), x, timestep)
        for function in samplers_functions:
            args = {"denoised": denoised, "cond_denoised": cond_denoised, "uncond_denoised": uncond_denoised, "cond_scale": self.cfg}
            denoised = function({**args, "input": x, "sigma": timestep, "model": self.inner_model, "model_options": model_options})
        return denoised

    def _product(self, estimate: Callable[..., Tensor], first_options: dict, seed: int | None) -> list[Expert]:
        """The experts for `compose`; the sampler may have changed the first one's model options, and only these."""
        sides = [(self, first_options), *((other, other.model_options) for other in self.others)]
        return [
            Expert(partial(estimate, guider, options, seed), expert.weight, expert.start, expert.view)
            for expert, (guider, options) in zip(self.experts, sides, strict=True)
        ]


def _denoise(guider: comfy.samplers.CFGGuider, model_options: dict, seed: int | None, x: Tensor, sigma: Tensor) -> Tensor:
    """One expert's guided x0 estimate at (B, C, H, W), with its PREDICT_NOISE wrappers."""
    guider.inner_model.current_patcher = guider.model_patcher  # experts may be clones of one model
    return comfy.samplers.CFGGuider.outer_predict_noise(guider, x, sigma, model_options, seed)


def _guidance_terms(guider: comfy.samplers.CFGGuider, model_options: dict, seed: int | None, x: Tensor, sigma: Tensor) -> Tensor:
    """(3, B, C, H, W): denoised with guidance, with the positive prompt alone, with the negative prompt alone."""
    terms = {}

    def note(args: dict) -> Tensor:
        terms.update(args)
        return args["denoised"]

    options = comfy.model_patcher.set_model_options_post_cfg_function({**model_options}, note, disable_cfg1_optimization=True)
    denoised = _denoise(guider, options, seed, x, sigma)
    # A PREDICT_NOISE wrapper (LazyCache) may have answered in place of the model, without terms.
    return torch.stack([denoised, terms.get("cond_denoised", denoised), terms.get("uncond_denoised", denoised)])


class SharedNegative:
    """The estimate of a negative prompt that experts on one model have in common: evaluated once a step, by the first that votes."""

    def __init__(self) -> None:
        self.seen: Tensor | None = None
        self.estimate: Tensor | None = None

    def forget(self) -> None:
        self.seen = self.estimate = None

    def __call__(self, args: dict) -> list[Tensor]:
        """The estimates of positive and negative in args, as comfy.samplers.calc_cond_batch gives them."""
        (positive, negative), x = args["conds"], args["input"]
        known = negative is not None and x is self.seen
        wanted = [positive, None if known else negative]
        estimates = comfy.samplers.calc_cond_batch(args["model"], wanted, x, args["sigma"], args["model_options"])
        if known:
            return [estimates[0], self.estimate]
        if negative is not None:
            self.seen, self.estimate = x, estimates[1]
        return estimates


def _share_negatives(experts: Sequence[ModelExpert], guiders: Sequence[comfy.samplers.CFGGuider]) -> list[SharedNegative]:
    """Lets experts that are one MODEL with one negative evaluate it once; not those whose conditions have areas, masks or ControlNets,
    which ComfyUI hands on from the positive to the negative. For a run that has begun: goes into each guider's options of that run.
    """
    alike: dict[tuple[int, ...], list[dict]] = {}
    for expert, guider in zip(experts, guiders, strict=True):
        plain = all(options.keys() <= {POOLED} for _, options in (*expert.positive, *expert.negative))
        if plain and CALC_COND_BATCH not in guider.model_options:
            negative = chain.from_iterable((id(text), id(options.get(POOLED))) for text, options in expert.negative)
            alike.setdefault((id(expert.model), id(expert.view), *negative), []).append(guider.model_options)
    groups = [(SharedNegative(), runs) for runs in alike.values() if len(runs) > 1]
    for shared, runs in groups:
        for options in runs:
            options[CALC_COND_BATCH] = shared
    return [shared for shared, _ in groups]


def _window_items_singly(model_options: dict) -> None:
    """Where these options of a run have context windows, hand them one item of the batch at a time.

    ComfyUI's handler takes each window's part of the sigmas too, (B,), as if they lay along the canvas: only with one item it does not.
    """
    if "context_handler" in model_options:
        model_options.setdefault(CALC_COND_BATCH, _estimates_singly)


def _estimates_singly(args: dict) -> list[Tensor]:
    """The estimate (B, C, H, W) of each list of conditions in args, as comfy.samplers.calc_cond_batch gives it for the whole batch."""
    model, conds, x, sigma, options = (args[name] for name in ("model", "conds", "input", "sigma", "model_options"))
    if not options["context_handler"].should_use_context(model, conds, x, sigma, options):
        return comfy.samplers.calc_cond_batch(model, conds, x, sigma, options)
    items = [
        comfy.samplers.calc_cond_batch(model, [_of_item(own, i) for own in conds], x[i : i + 1], sigma[i : i + 1], options)
        for i in range(len(x))
    ]
    return [torch.cat(estimates) for estimates in zip(*items, strict=True)]


def _of_item(conds: list[dict] | None, i: int) -> list[dict] | None:
    """Processed conditions with the prompt of item i alone; prompts fewer than items repeat."""

    def own(value: Any) -> Any:
        batch: Any = getattr(value, "cond", None)
        return value._copy_with(batch[i % len(batch)][None]) if isinstance(batch, Tensor) and batch.ndim > 0 else value

    return conds and [{**cond, "model_conds": {name: own(value) for name, value in cond["model_conds"].items()}} for cond in conds]


def _check_experts(experts: Sequence[ModelExpert], guiders: Sequence[comfy.samplers.CFGGuider]) -> None:
    first = experts[0]
    for expert in experts:
        if expert.weight < 0:
            raise ValueError(f"{expert.node}: the {expert.name} expert's weight is {expert.weight:g}. Weights are 0 or more.")
        latent_format, shared_format = (e.model.get_model_object("latent_format") for e in (expert, first))
        channels = expert.model.model.model_config.unet_config.get("in_channels", latent_format.latent_channels)
        if expert.model.model.concat_keys or channels > latent_format.latent_channels:
            raise ValueError(
                f"{expert.node}: the {expert.name} model is an inpainting or editing model: it takes {channels} channels where latents "
                f"have {latent_format.latent_channels}. Use the ordinary version of that model; masks work with it too."
            )
        if _describe(latent_format) != _describe(shared_format):
            raise ValueError(
                f"{expert.node}: the {expert.name} model works on {_describe(latent_format)} latents, the {first.name} model on "
                f"{_describe(shared_format)} latents. Choose models that share one latent space, as Stable Diffusion 1.5 and "
                "Auffusion do."
            )
        if _is_flow(expert) != _is_flow(first):
            flow, other = (expert, first) if _is_flow(expert) else (first, expert)
            raise ValueError(
                f"{expert.node}: the {flow.name} model works by flow matching (as trained, or by a ModelSampling node), the {other.name} "
                "model by diffusion: they mix noise into latents in different ways. Choose two models of one kind."
            )
        width = conditioning_inputs.text_width(expert.model)
        conditioning_inputs.text(expert.node, expert.name, expert.conditionings, width, FOREIGN_TEXT, f"the {expert.name} model's ")
    for (a, guider_a), (b, guider_b) in combinations(zip(experts, guiders, strict=True), 2):
        hooked = any(map(comfy.sampler_helpers.cond_has_hooks, (a.positive, a.negative, b.positive, b.negative)))
        patchers = guider_a.model_patcher, guider_b.model_patcher  # hooks may have exchanged the expert's own
        if patchers[0].is_clone(patchers[1]) and (hooked or not _same_patches(*patchers)):
            raise ValueError(
                f"{b.node}: the {a.name} and the {b.name} model are two versions of one loaded model with different patches (LoRA, hooks), "
                "and only one version can be live. Load two copies: with LoadDualUNets, or by another weight_dtype in one of two loaders "
                "(a second identical loader gives the same copy again)."
            )


def _describe(latent_format) -> str:
    name = type(latent_format).__name__
    return f"{name} ({latent_format.latent_channels} channels, scale {getattr(latent_format, 'scale_factor', 1.0):g})"


def _same_patches(one: comfy.model_patcher.ModelPatcher, other: comfy.model_patcher.ModelPatcher) -> bool:
    """Whether two clones put the same weights and modules into their one model.

    ModelPatcher.clone_has_same_weights is no help: it also compares wrappers, which belong to the guider, and fails where one has none.
    """
    same_weights = one.patches_uuid == other.patches_uuid or not (one.patches or other.patches)
    same_modules = one.object_patches == other.object_patches and one.weight_wrapper_patches == other.weight_wrapper_patches
    return same_weights and same_modules and one.injections == other.injections


def _check_canvas(experts: Sequence[ModelExpert], noise: Tensor, latents: Tensor, sigmas: Tensor, denoise_mask: Tensor | None) -> None:
    """What a run starts from can be sampled, and each expert's view, areas and masks fit it."""
    node, channels = experts[0].node, experts[0].model.get_model_object("latent_format").latent_channels
    nested = latents.is_nested  # pictures and sounds of one model in one latent; of no fixed shape
    shape = "nested (of a video and its sound)" if nested else "x".join(map(str, latents.shape))
    if nested or latents.ndim != 4 or latents.shape[1] != channels or 0 in latents.shape:
        raise ValueError(
            f"{node}: the latents are {shape}; these models need [batch]x{channels}x[height / 8]x[width / 8]. Latents of another "
            "model (SD3, Flux: 16 channels) cannot be used: encode the picture with this model's VAE, or use EmptySpectrogramLatent."
        )
    masks = {} if denoise_mask is None else {"noise mask": denoise_mask}
    if not inputs.finite(sigmas):
        raise ValueError(
            f"{node}: the sigmas hold NaN or infinite values: their scheduler failed, as kl_optimal does at 1 step. {MORE_STEPS}"
        )
    for name, values in {"latents": latents, "noise": noise, **masks}.items():
        if not inputs.finite(values):
            raise ValueError(
                f"{node}: the {name} hold NaN or infinite values. Something before it overflowed: load its model or VAE in float32, or "
                "start anew from EmptySpectrogramLatent."
            )
    if denoise_mask is not None and denoise_mask.numel() == 0:
        raise ValueError(f"{node}: the noise mask is empty ({tuple(denoise_mask.shape)}). Draw it anew, or take it off the latents.")
    for expert in experts:
        try:
            seen = expert.view.view(latents[:1]).shape
        except ValueError:
            raise ValueError(
                f"{expert.node}: the latents are {shape}; height and width must be even for the view of the {expert.name} model, which "
                f"halves them. Resize the picture to multiples of 16 pixels before encoding it, or start from EmptySpectrogramLatent."
            ) from None
        rows = expert.rows or AUFFUSION.n_mels // PIXELS_PER_LATENT
        if (expert.rows or expert.view is not IDENTITY) and seen[2] != rows:
            raise ValueError(
                f"{expert.node}: the latents are {shape}; through its view the {expert.name} model would see {seen[2]} x {seen[3]}, and a "
                f"spectrogram is {rows} high. Set the same view in EmptySpectrogramLatent, encode a picture "
                f"{latents.shape[2] // seen[2] * rows * PIXELS_PER_LATENT} pixels high, or set view to none."
            )
        context_windows(expert.node, f"the {expert.name} model", expert.model.model_options, seen)
        conditioning_inputs.regions(expert.node, f"the {expert.name} model's ", expert.conditionings, *seen[2:])


def _is_flow(expert: ModelExpert) -> bool:
    return isinstance(expert.noise_levels, comfy.model_sampling.CONST)


def _check_noise_levels(experts: Sequence[ModelExpert], sigmas: Tensor) -> None:
    """Someone votes where sampling starts, and nobody does beyond the noise it was trained on while another was trained on more."""
    if sigmas.numel() == 0:
        return
    first = float(sigmas.max())
    voters = [expert for expert in experts if expert.votes(first)]
    if not voters:
        shares = ", ".join(f"{expert.name} t {expert.t:g} weight {expert.weight:g}" for expert in experts)
        raise ValueError(
            f"{experts[-1].node}: no expert takes part at sigma {first:.4g}, where sampling starts ({shares}). "
            "Set t_image or t_audio, of an expert with weight, to 1."
        )
    beyond = [expert for expert in voters if first > SIGMA_TOLERANCE * expert.noise_levels.sigma_max]
    if beyond and len(beyond) < len(voters):
        name, largest = beyond[0].name, float(beyond[0].noise_levels.sigma_max)
        raise ValueError(
            f"{beyond[0].node}: sampling starts at sigma {first:.4g}, where the {name} model, trained up to {largest:.4g}, knows nothing. "
            f"Let it take part later (its t at 0.99 or less), or schedule the sigmas for the {name} model."
        )
