"""Empty canvas, joint guider and the one-box sampler."""

from __future__ import annotations

import math

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy_api.latest import io

from ..bridge import inputs, picture_inputs
from ..bridge.guider import JointGuider, ModelExpert, audio_view
from ..bridge.sampling_inputs import LARGEST_SEED, VIEW, latent, noise_levels, noise_numbers, same_view
from ..itsound_core.latents import LATENT_CHANNELS, PIXELS_PER_LATENT
from ..itsound_core.spectrogram import AUFFUSION
from ..itsound_core.views import FORMATS, IDENTITY, VIEWS

CATEGORY = "Images that Sound/sampling"


def latent_columns(seconds: float, even: int = 2) -> int:
    """Columns of a canvas in latents that holds so many seconds in any format, a multiple of `even`: the UNets halve it."""
    return even * math.ceil(AUFFUSION.frames(seconds) / (even * PIXELS_PER_LATENT))


def _cfg_input(name: str, prompt: str) -> io.Float.Input:
    tooltip = f"Guidance scale of the {prompt}: how strictly it is followed. 7.5 to 10 in the paper."
    return io.Float.Input(name, default=10.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip=tooltip)


def _t_input(name: str, default: float, model: str) -> io.Float.Input:
    tooltip = (
        f"Share of the 1000 noise levels at which the {model} takes part, the lowest first: at 0.9 it does not run at the highest tenth, "
        "whatever the scheduler; at 1 it always runs, at 0 never."
    )
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.01, round=0.001, tooltip=tooltip)


def _expert_view_input(model: str) -> io.Combo.Input:
    return picture_inputs.view_choice(
        f"How the {model} sees the canvas. two-row square: a 512 x 512 picture's upper half, then its lower, are the 256 x 1024 "
        "spectrogram; areas, masks and ControlNet hints of this model lie on that one. Riffusion: as it is, 512 rows. Set the same view in "
        "EmptySpectrogramLatent."
    )


def _guider_inputs() -> list[io.Input]:
    return [
        io.Model.Input("image_model", tooltip="Model that makes the picture, for example Stable Diffusion 1.5."),
        io.Conditioning.Input("image_positive", tooltip="What the canvas should look like."),
        io.Conditioning.Input("image_negative", tooltip="What it should not look like; usually the empty prompt."),
        io.Model.Input("audio_model", tooltip="Model that makes spectrograms in the same latent space, for example Auffusion."),
        io.Conditioning.Input("audio_positive", tooltip="What the canvas should sound like."),
        io.Conditioning.Input("audio_negative", tooltip="What it should not sound like; usually the empty prompt."),
        _cfg_input("image_cfg", "image prompt"),
        _cfg_input("audio_cfg", "audio prompt"),
        _t_input("t_image", 0.9, "image model"),
        _t_input("t_audio", 1.0, "audio model"),
        io.Float.Input(
            "audio_weight",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.01,
            round=0.001,
            tooltip="Share of the audio model where both take part: 0 is the picture alone, 1 the sound alone.",
        ),
    ]


def _joint_guider(
    node: str,
    image_model,
    image_positive,
    image_negative,
    audio_model,
    audio_positive,
    audio_negative,
    image_cfg: float,
    audio_cfg: float,
    t_image: float,
    t_audio: float,
    audio_weight: float,
    view: str = "none",
) -> JointGuider:
    image = ModelExpert(node, "image", image_model, image_positive, image_negative, image_cfg, t_image, 1.0 - audio_weight)
    audio = ModelExpert(node, "audio", audio_model, audio_positive, audio_negative, audio_cfg, t_audio, audio_weight, **audio_view(view))
    return JointGuider([image, audio])


class EmptySpectrogramLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmptySpectrogramLatent",
            display_name="Empty Spectrogram Latent",
            category=CATEGORY,
            description="An empty canvas of 256 mel bins for a sound of a given length: 10.24 s are 256 x 1024 pixels.",
            search_aliases=["empty latent audio", "images that sound", "blank spectrogram"],
            inputs=[
                io.Float.Input(
                    "seconds",
                    default=10.24,
                    min=0.16,
                    max=600.0,
                    step=0.16,
                    round=0.01,
                    tooltip="Length of the sound, rounded up to 0.16 s (16 pixels). The models were trained on 10.24 s.",
                ),
                io.Int.Input(
                    "batch_size", default=1, min=1, max=4096, tooltip="How many canvases. Few come out well: make several and choose."
                ),
                picture_inputs.view_choice(
                    "Shape of the canvas. none: as long as the sound. two-row square: the sound's second half below its first, 512 x 512 "
                    "pixels for 10.24 s; for a sampler with the same view. Riffusion: 512 rows, 512 x 512 pixels for 5.12 s."
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="Empty latents, 4 x 32 x 128 for 10.24 s; with another view 64 rows.")
            ],
        )

    @classmethod
    def execute(cls, seconds: float, batch_size: int, view: str = "none") -> io.NodeOutput:
        inputs.in_range(cls, locals())
        columns = latent_columns(seconds, even=2 if VIEWS[view] is IDENTITY else 4)  # a square is half as wide, and even too
        shape = (batch_size, LATENT_CHANNELS, FORMATS[view].n_mels // PIXELS_PER_LATENT, columns)
        samples = VIEWS[view].inverse_view(torch.zeros(shape, device=comfy.model_management.intermediate_device()))
        made_for = {} if view == "none" else {VIEW: view}
        return io.NodeOutput({"samples": samples, "downscale_ratio_spacial": PIXELS_PER_LATENT, **made_for})


class MultimodalGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MultimodalGuider",
            display_name="Multimodal Guider",
            category=CATEGORY,
            description="An image model and an audio model denoise one canvas together: each step follows the weighted mean of their two "
            "guided estimates. For SamplerCustomAdvanced with any sampler, scheduler or mask.",
            search_aliases=["images that sound", "joint guider", "two models", "dual model guider"],
            inputs=[*_guider_inputs(), _expert_view_input("audio model")],
            outputs=[io.Guider.Output(display_name="guider", tooltip="Guider for SamplerCustomAdvanced, or for AddExpert.")],
        )

    @classmethod
    def execute(cls, **guider_inputs) -> io.NodeOutput:
        inputs.in_range(cls, guider_inputs)
        return io.NodeOutput(_joint_guider("MultimodalGuider", **guider_inputs))


class AddExpert(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AddExpert",
            display_name="Add Expert",
            category=CATEGORY,
            description="Lets one more model, or the same model with another prompt, take part in a joint guider. Chain as many as wanted.",
            search_aliases=["images that sound", "product of experts", "third model"],
            inputs=[
                io.Guider.Input("guider", tooltip="From MultimodalGuider or AddExpert; it stays as it is."),
                io.Model.Input("model", tooltip="Model in the same latent space as the guider's models."),
                io.Conditioning.Input("positive", tooltip="What this expert should bring out."),
                io.Conditioning.Input("negative", tooltip="What it should avoid; usually the empty prompt."),
                _cfg_input("cfg", "added prompt"),
                _t_input("t", 1.0, "added model"),
                io.Float.Input(
                    "weight",
                    default=0.5,
                    min=0.0,
                    max=100.0,
                    step=0.01,
                    round=0.001,
                    tooltip="Weight beside the image's and the audio's, which sum to 1; all weights are then scaled to sum to 1.",
                ),
                _expert_view_input("added model"),
            ],
            outputs=[io.Guider.Output(display_name="guider", tooltip="A new guider with this expert added.")],
        )

    @classmethod
    def execute(cls, guider, model, positive, negative, cfg: float, t: float, weight: float, view: str = "none") -> io.NodeOutput:
        inputs.in_range(cls, locals())
        if not isinstance(guider, JointGuider):
            raise ValueError(f"AddExpert: guider is a {type(guider).__name__}. Connect a MultimodalGuider or another AddExpert.")
        name = f"added (number {len(guider.experts) + 1})"
        added = ModelExpert("AddExpert", name, model, positive, negative, cfg, t, weight, **audio_view(view))
        return io.NodeOutput(JointGuider([*guider.experts, added]))


class MultimodalKSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MultimodalKSampler",
            display_name="Multimodal KSampler",
            category=CATEGORY,
            description="Samples a canvas that looks like one prompt and sounds like another: MultimodalGuider and a KSampler in one node.",
            search_aliases=["images that sound", "multimodal denoising", "joint ksampler"],
            inputs=[
                *_guider_inputs(),
                io.Latent.Input(
                    "latent_image", tooltip="Canvas to denoise: EmptySpectrogramLatent, or an encoded picture with denoise below 1."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=LARGEST_SEED,
                    control_after_generate=True,
                    tooltip="Seed of the start noise. How well picture and sound agree depends much on it: try many.",
                ),
                io.Int.Input("steps", default=100, min=1, max=10000, tooltip="Denoising steps. 100 in the paper."),
                io.Combo.Input(
                    "sampler_name", options=comfy.samplers.KSampler.SAMPLERS, default="ddim", tooltip="Sampler. ddim in the paper."
                ),
                io.Combo.Input(
                    "scheduler",
                    options=comfy.samplers.KSampler.SCHEDULERS,
                    default="ddim_uniform",
                    tooltip="Spacing of the noise levels. ddim_uniform in the paper; its number of steps is exact where it divides 1000.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Below 1 the canvas that comes in is kept in part. t_image and t_audio mean the same noise levels as at 1.",
                ),
                _expert_view_input("audio model"),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The denoised canvas: decode it with the models' VAE.")],
        )

    @classmethod
    def execute(
        cls, latent_image: dict, seed: int, steps: int, sampler_name: str, scheduler: str, denoise: float, **guider_inputs
    ) -> io.NodeOutput:
        inputs.in_range(cls, locals() | guider_inputs)
        node = "MultimodalKSampler"
        samples, numbers = latent(latent_image, node), noise_numbers(latent_image, node)
        same_view(node, latent_image, guider_inputs.get("view", "none"))
        guider = _joint_guider(node, **guider_inputs)
        model = guider.model_patcher
        samples = comfy.sample.fix_empty_latent_channels(model, samples, latent_image.get("downscale_ratio_spacial"))
        sigmas = noise_levels(node, model, steps, sampler_name, scheduler, denoise)
        samples = guider.sample(
            comfy.sample.prepare_noise(samples, seed, numbers),
            samples,
            comfy.samplers.sampler_object(sampler_name),
            sigmas,
            denoise_mask=latent_image.get("noise_mask"),
            callback=latent_preview.prepare_callback(model, sigmas.shape[-1] - 1),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed,
        )
        kept = {key: value for key, value in latent_image.items() if not key.startswith("downscale_ratio_")}
        return io.NodeOutput({**kept, "samples": samples.to(comfy.model_management.intermediate_device())})


NODES = [EmptySpectrogramLatent, MultimodalGuider, MultimodalKSampler, AddExpert]
