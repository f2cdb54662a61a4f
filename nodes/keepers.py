"""The search for good seeds: many are drafted, the promising are sampled in full, the best are kept."""

from __future__ import annotations

import logging

import comfy.sample
import comfy.samplers
import comfy.sd
import torch
from comfy_api.latest import io
from torch import Tensor

from ..bridge import inputs, picture_inputs
from ..bridge.guider import audio_view
from ..bridge.keeper_search import DRAFT_SAMPLER, LARGEST_BATCH, NOISY, Judge, Sampling, Search, onsets
from ..bridge.sampling_inputs import LARGEST_SEED, latent, noise_levels, noise_numbers, same_view
from ..bridge.scoring import Scorer, one_line
from ..bridge.vocoding import LoadedVocoder, refuse_vocoder, sound
from ..itsound_core.drafts import SHORT, draft_levels, plan
from ..itsound_core.latents import PIXELS_PER_LATENT
from ..itsound_core.views import FORMATS, VIEWS, canvas_height, canvas_rows

NODE = "KeeperSearch"
logger = logging.getLogger(__name__)


class KeeperSearch(io.ComfyNode):
    """Draws many samples and keeps a few (paper 4.1), for a part of the price."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=NODE,
            display_name="Keeper Search",
            category="Images that Sound/scoring",
            description="Finds the best of many seeds without sampling them all in full: each is drafted in a few steps, picture and sound "
            "of the drafts are scored, and only the most promising are sampled. The seeds that it names give the same results in "
            "Multimodal KSampler.",
            search_aliases=["best of n", "seed search", "drafts", "keep best", "images that sound"],
            inputs=[
                io.Guider.Input("guider", tooltip="From MultimodalGuider or AddExpert."),
                io.Vae.Input("vae", tooltip="The models' VAE, to see what comes out."),
                io.Custom("SCORER").Input("scorer", tooltip="From LoadScorers."),
                io.String.Input("image_prompt", default="", multiline=True, tooltip="What the picture is scored against."),
                io.String.Input("audio_prompt", default="", multiline=True, tooltip="What the sound is scored against."),
                io.Latent.Input("latent_image", tooltip="One canvas: EmptySpectrogramLatent. Every candidate starts from it."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=LARGEST_SEED,
                    control_after_generate=True,
                    tooltip="Seed of the first candidate; the next ones have the seeds after it, and 0 follows the largest.",
                ),
                io.Int.Input("candidates", default=64, min=1, max=4096, tooltip="How many seeds are tried."),
                io.Int.Input("keepers", default=4, min=1, max=4096, tooltip="How many are kept."),
                io.Float.Input(
                    "budget",
                    default=22.0,
                    min=0.1,
                    max=4096.0,
                    step=0.5,
                    tooltip="What the search may cost, in full samples. A third of the candidates is a good start; as many as candidates "
                    f"samples all of them in full. Samples of fewer than {SHORT} steps are not drafted: as many as the budget allows are "
                    "sampled in full, the other candidates not at all.",
                ),
                io.Int.Input("steps", default=100, min=1, max=10000, tooltip="Denoising steps of a full sample. 100 in the paper."),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    default="ddim",
                    tooltip=f"Sampler of the full samples; drafts are made by {DRAFT_SAMPLER}. Of samplers that add noise of their own "
                    "(ancestral, sde, lcm) drafts tell nothing: these need a budget of as many samples as candidates, or fewer than "
                    f"{SHORT} steps.",
                ),
                io.Combo.Input(
                    "scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="ddim_uniform", tooltip="Spacing of the noise levels."
                ),
                io.Custom("VOCODER").Input(
                    "vocoder", optional=True, tooltip="A HiFi-GAN from LoadVocoder. Left open, Griffin-Lim makes the sounds."
                ),
                io.Int.Input(
                    "batch_size",
                    default=0,
                    min=0,
                    max=LARGEST_BATCH,
                    optional=True,
                    advanced=True,
                    tooltip=f"Samples drawn at once; 0 is as many as fit into memory, at most {LARGEST_BATCH}. At 1 a keeper is the same "
                    "to the bit as Multimodal KSampler's sample of its seed, else the same but for rounding.",
                ),
                picture_inputs.view_choice(
                    "The view that the guider was given. two-row square: the 512 x 512 picture is scored as it is seen, and its "
                    "halves, end to end, are the sound. Riffusion: its 512 rows, without a vocoder.",
                ),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="latent", tooltip="The keepers, best first."),
                io.Image.Output("image", display_name="image", tooltip="Their pictures."),
                io.Audio.Output("audio", display_name="audio", tooltip="Their sounds."),
                io.Custom("SCORES").Output("scores", display_name="scores", tooltip="Their scores."),
                io.String.Output("seeds", display_name="seeds", tooltip="Their seeds, to draw them again."),
            ],
        )

    @classmethod
    def execute(
        cls,
        guider: comfy.samplers.CFGGuider,
        vae: comfy.sd.VAE,
        scorer: Scorer,
        image_prompt: str,
        audio_prompt: str,
        latent_image: dict,
        seed: int,
        candidates: int,
        keepers: int,
        budget: float,
        steps: int,
        sampler_name: str,
        scheduler: str,
        vocoder: LoadedVocoder | None = None,
        batch_size: int = 0,
        view: str = "none",
    ) -> io.NodeOutput:
        inputs.in_range(cls, locals())
        samples, numbers = latent(latent_image, NODE), noise_numbers(latent_image, NODE)
        judge = Judge(
            NODE,
            vae,
            scorer,
            vocoder,
            view,
            one_line(image_prompt, NODE, "image_prompt"),
            one_line(audio_prompt, NODE, "audio_prompt"),
        )
        model = guider.model_patcher
        canvas = comfy.sample.fix_empty_latent_channels(model, samples, latent_image.get("downscale_ratio_spacial"))
        _check(canvas, view)
        same_view(NODE, latent_image, view)
        _check_models(guider, vae, view)
        refuse_vocoder(NODE, vocoder, view)
        sigmas = noise_levels(NODE, model, steps, sampler_name, scheduler)
        entries = onsets(guider, sigmas)
        try:
            planned = plan(candidates, keepers, len(sigmas) - 1, budget, fewest=1 + len(entries))
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from None
        if planned.draft_steps and any(name in sampler_name for name in NOISY):
            raise ValueError(
                f"{NODE}: sampler_name is {sampler_name}, which adds noise of its own, so that drafts tell nothing of its samples. Choose "
                "one that does not, such as ddim, euler or dpmpp_2m; or a budget as large as candidates, to sample all in full."
            )
        if planned.candidates < candidates:
            logger.warning(
                "%s: samples of %d steps are too short to draft, so the first %d of %d candidates are sampled in full, as budget allows.",
                *(NODE, planned.steps, planned.candidates, candidates),
            )
        draft_sigmas = sigmas[draft_levels(planned.steps, planned.draft_steps, entries)] if planned.draft_steps else None
        sampling = Sampling(guider, canvas, latent_image.get("noise_mask"), sampler_name, sigmas, draft_sigmas, batch_size, numbers)
        kept = Search(sampling, judge, planned, seed, keepers).run()
        latents = torch.cat([one.latent for one in kept if one.latent is not None])
        pictures, waveforms = judge.see_and_hear(latents)
        return io.NodeOutput(
            {"samples": latents},
            pictures.cpu()[..., None].expand(-1, -1, -1, 3),
            sound(waveforms, FORMATS[view]),
            judge.scores_of(kept),
            ", ".join(str(one.seed) for one in kept),
        )


def _check(canvas: Tensor, view: str) -> None:
    if canvas.is_nested or canvas.ndim != 4:
        raise ValueError(f"{NODE}: latent_image is no canvas of (batch, channels, height, width). Use EmptySpectrogramLatent.")
    if len(canvas) != 1:
        raise ValueError(f"{NODE}: latent_image is a batch of {len(canvas)}; give one canvas, and say in candidates how many to try.")
    height, width = (PIXELS_PER_LATENT * size for size in canvas.shape[-2:])
    rows, shortest = canvas_height(view), FORMATS[view].shortest
    if height != rows:
        raise ValueError(
            f"{NODE}: latent_image decodes to {height} rows; with view {view} a canvas has {rows}. Use EmptySpectrogramLatent, and the "
            "same view in it, in the guider and here."
        )
    if canvas_rows(VIEWS[view]) * width < shortest:
        raise ValueError(
            f"{NODE}: latent_image decodes to {width} columns; with view {view} a sound has {shortest} or more. Raise the seconds of "
            "EmptySpectrogramLatent."
        )


def _check_models(guider: comfy.samplers.CFGGuider, vae: comfy.sd.VAE, view: str) -> None:
    """The VAE is of the guider's models, and the guider's audio model makes what is heard here."""
    channels = guider.model_patcher.get_model_object("latent_format").latent_channels
    if vae.latent_channels != channels:
        raise ValueError(
            f"{NODE}: vae makes pictures of latents of {vae.latent_channels} channels, the guider's models make {channels}. Connect the "
            "VAE of these models."
        )
    here = audio_view(view)
    for expert in getattr(guider, "experts", ()):
        there = {"view": expert.view, "rows": expert.rows}
        if there not in (here, audio_view("none")):
            [name] = [name for name in VIEWS if audio_view(name) == there]
            raise ValueError(f"{NODE}: view is {view}, but the guider has view {name}: another sound would be heard. Set the same in both.")


NODES = [KeeperSearch]
