"""The search for good seeds: many are begun, the promising go on, the best are kept."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import comfy.model_management
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.utils
import torch
from comfy_api.latest import io
from torch import Tensor

from ..itsound_core.contact_sheet import contact_sheet
from ..itsound_core.halving import Plan, plan
from ..itsound_core.ranking import top_shares
from ..itsound_core.scoring import Scores
from ..itsound_core.spectrogram import AUFFUSION
from . import checks
from .audio import play, sound
from .guider import PIXELS_PER_LATENT, JointGuider
from .loaders import Vocoder
from .scoring import Scorer, prompts_for, score

NODE = "KeeperSearch"
LARGEST_BATCH = 16
"""Beyond it a GPU gains next to nothing, and progress and cancelling would come in large steps."""
MEMORYLESS = {"euler", "ddim", "heun", "dpm_2"}
"""Samplers that go on from a noisy latent as if they had never stopped: no history of steps, no noise of their own."""
QUICK_ITERATIONS = 16
"""Of Griffin-Lim, for a sound that is only scored."""

logger = logging.getLogger(__name__)


class KeeperSearch(io.ComfyNode):
    """Draws many samples and keeps a few (paper 4.1), for a part of the price."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=NODE,
            display_name="Keeper Search",
            category="Images that Sound/scoring",
            description="Finds the best of many seeds without sampling them all to the end: after some steps picture and sound are "
            "foreseen and scored, and only the promising seeds go on. The seeds that it names give the same results in Multimodal "
            "KSampler.",
            search_aliases=["best of n", "seed search", "successive halving", "keep best", "images that sound"],
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
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Seed of the first candidate; the next ones have the seeds after it.",
                ),
                io.Int.Input("candidates", default=64, min=1, max=4096, tooltip="How many seeds are begun."),
                io.Int.Input("keepers", default=4, min=1, max=4096, tooltip="How many are kept."),
                io.Float.Input(
                    "budget",
                    default=22.0,
                    min=0.1,
                    max=4096.0,
                    step=0.5,
                    tooltip="What the search may cost, in full samples. A third of the candidates is a good start; as many as candidates "
                    "samples all of them to the end.",
                ),
                io.Int.Input("steps", default=100, min=1, max=10000, tooltip="Denoising steps of a full sample. 100 in the paper."),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    default="ddim",
                    tooltip=f"Sampler. {', '.join(sorted(MEMORYLESS))} go on where they were stopped; with others the keepers are sampled "
                    "once more from the start.",
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
        vocoder: Vocoder | None = None,
        batch_size: int = 0,
    ) -> io.NodeOutput:
        (seen,), (heard,) = prompts_for(image_prompt, 1, NODE, "image_prompt"), prompts_for(audio_prompt, 1, NODE, "audio_prompt")
        model = guider.model_patcher
        canvas = comfy.sample.fix_empty_latent_channels(model, latent_image["samples"], latent_image.get("downscale_ratio_spacial"))
        _check(guider, canvas, latent_image)
        sigmas = comfy.samplers.KSampler(model, steps, model.load_device, sampler_name, scheduler, 1.0).sigmas
        try:
            searched = plan(
                candidates,
                keepers,
                len(sigmas) - 1,
                budget,
                earliest=_first_telling_step(guider, sigmas),
                rerun=sampler_name not in MEMORYLESS,
            )
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from None
        search = Search(guider, vae, scorer, vocoder, seen, heard, canvas, seed, sigmas, sampler_name, batch_size, searched)
        kept = search.run()
        pictures, waveforms = (torch.stack([getattr(one, name) for one in kept]) for name in ("picture", "waveform"))
        return io.NodeOutput(
            {"samples": torch.cat([one.denoised for one in kept])},
            pictures[..., None].expand(-1, -1, -1, 3),
            sound(waveforms),
            scores_of(kept, seen, heard),
            ", ".join(str(one.seed) for one in kept),
        )


@dataclass
class Candidate:
    """One seed, as far as it has come."""

    seed: int
    step: int = 0
    noisy: Tensor | None = None
    """The sampler's own latents (1, C, H, W) after `step` steps."""
    denoised: Tensor = field(default_factory=lambda: torch.empty(0))
    """What they are foreseen to become, as a LATENT's samples; at the last step what they became."""
    picture: Tensor = field(default_factory=lambda: torch.empty(0))
    waveform: Tensor = field(default_factory=lambda: torch.empty(0))
    picture_score: float = 0.0
    sound_score: float = 0.0


class Continuation(comfy.samplers.Sampler):
    """A sampler that goes on from noisy latents in the middle of its schedule, and keeps those it ends with."""

    def __init__(self, sampler: comfy.samplers.Sampler, noisy: Tensor | None) -> None:
        self.sampler, self.noisy = sampler, noisy

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False):
        if self.noisy is not None:
            noise, latent_image = torch.zeros_like(noise), self.noisy.to(noise)
        self.noisy = self.sampler.sample(model_wrap, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar)
        return self.noisy


@dataclass
class Search:
    """Successive halving over seeds."""

    guider: comfy.samplers.CFGGuider
    vae: comfy.sd.VAE
    scorer: Scorer
    vocoder: Vocoder | None
    image_prompt: str
    audio_prompt: str
    canvas: Tensor
    seed: int
    sigmas: Tensor
    sampler_name: str
    batch_size: int
    plan: Plan
    done: int = 0
    """Steps of single samples that were taken."""

    def __post_init__(self) -> None:
        self.progress = comfy.utils.ProgressBar(self.plan.cost)
        self.everyone = [Candidate(self.seed + i) for i in range(self.plan.candidates)]

    def run(self) -> list[Candidate]:
        """The keepers, best first. Cancelled after some are finished, those; before, the interrupt goes on."""
        alive = self.everyone
        for rung in self.plan.rungs:
            for batch in self._batches(alive):
                self._advance(batch, rung.step)
                self._judge(batch, QUICK_ITERATIONS)
                self._show(alive)
            alive = [alive[i] for i in _order(alive)[: rung.keep]]
            self._show(alive)
        kept = self._finish(alive)
        logger.info("%s: kept %d of %d, for the steps of %.1f samples.", NODE, len(kept), self.plan.candidates, self.done / self.plan.steps)
        return kept

    def _finish(self, alive: list[Candidate]) -> list[Candidate]:
        finished: list[Candidate] = []
        try:
            # alone, a sampler with noise of its own draws what it would for this seed
            for batch in [[Candidate(one.seed)] for one in alive] if self.plan.rerun else self._batches(alive):
                self._advance(batch, self.plan.steps)
                self._judge(batch)
                finished += batch
                self._show(finished)
        except comfy.model_management.InterruptProcessingException:
            if not finished:
                raise
            logger.warning("%s: cancelled; %d of %d keepers were finished and are kept.", NODE, len(finished), len(alive))
        return [finished[i] for i in _order(finished)]

    def _batches(self, alive: list[Candidate]) -> list[list[Candidate]]:
        size = self.batch_size or self._fitting(len(alive))
        return [alive[i : i + size] for i in range(0, len(alive), size)]

    def _fitting(self, count: int) -> int:
        size, patcher = min(count, LARGEST_BATCH), self.guider.model_patcher
        free = comfy.model_management.get_free_memory(patcher.load_device)
        while size > 1 and patcher.model.memory_required([2 * size, *self.canvas.shape[1:]]) > free:  # 2: both prompts of the guidance
            size //= 2
        return size

    def _advance(self, batch: list[Candidate], step: int) -> None:
        """Bring candidates that are equally far to `step` steps."""
        first = batch[0].step
        if first == step:
            return
        canvas = self.canvas.expand(len(batch), -1, -1, -1)
        noise = torch.cat([comfy.sample.prepare_noise(self.canvas, one.seed) for one in batch])
        noisy = None if first == 0 else torch.cat([one.noisy for one in batch if one.noisy is not None])
        sampler = Continuation(comfy.samplers.sampler_object(self.sampler_name), noisy)
        foreseen: list[Tensor] = []

        def callback(i: int, denoised: Tensor, x: Tensor, total: int) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            foreseen[:] = [denoised]
            self.done += len(batch)
            self.progress.update_absolute(self.done)

        sigmas = self.sigmas[first : step + 1]
        samples = self.guider.sample(noise, canvas, sampler, sigmas, callback=callback, disable_pbar=True, seed=batch[0].seed)
        if step < self.plan.steps:
            samples = self.guider.model_patcher.model.process_latent_out(foreseen[0].float())
        assert sampler.noisy is not None
        for one, noisy, denoised in zip(batch, sampler.noisy.split(1), samples.split(1), strict=True):
            one.step, one.noisy = step, noisy.cpu()
            one.denoised = denoised.to(comfy.model_management.intermediate_device())

    def _judge(self, batch: list[Candidate], iterations: int | None = None) -> None:
        pictures = checks.picture(self.vae.decode(torch.cat([one.denoised for one in batch])), NODE, "vae")
        waveforms = play(pictures, self.vocoder) if iterations is None else play(pictures, self.vocoder, iterations)
        prompts = (self.image_prompt,) * len(batch), (self.audio_prompt,) * len(batch)
        scores = score(self.scorer, pictures, waveforms, AUFFUSION.sample_rate, *prompts)
        for i, one in enumerate(batch):
            one.picture, one.waveform = pictures[i].cpu(), waveforms[i]
            one.picture_score, one.sound_score = float(scores.picture[i]), float(scores.sound[i])

    def _show(self, alive: list[Candidate]) -> None:
        """Preview of all that was seen so far, those that are out dimmed."""
        seen = [one for one in self.everyone if len(one.picture)]
        seeds = {one.seed for one in alive}
        captions = [f"{one.seed}: {one.picture_score:.0f} / {one.sound_score:.0f}" for one in seen]
        sheet = contact_sheet(torch.stack([one.picture for one in seen]), captions, [one.seed in seeds for one in seen])
        self.progress.update_absolute(self.done, preview=("JPEG", sheet.convert("RGB"), max(sheet.size)))


def scores_of(found: list[Candidate], image_prompt: str, audio_prompt: str) -> Scores:
    picture, sounds = (torch.tensor([getattr(one, name) for one in found]) for name in ("picture_score", "sound_score"))
    return Scores(picture, sounds, (image_prompt,) * len(found), (audio_prompt,) * len(found))


def _order(found: list[Candidate]) -> list[int]:
    return top_shares(*(torch.tensor([getattr(one, name) for one in found]) for name in ("picture_score", "sound_score")))


def _first_telling_step(guider: comfy.samplers.CFGGuider, sigmas: Tensor) -> int:
    """Steps after which every expert has had its say at least once."""
    if not isinstance(guider, JointGuider):
        return 1
    late = [expert.start for expert in guider.experts if expert.weight > 0]
    return 1 + sum(float(sigma) > min(late) for sigma in sigmas[:-1])


def _check(guider: comfy.samplers.CFGGuider, canvas: Tensor, latent_image: dict) -> None:
    if not isinstance(guider.model_patcher.get_model_object("model_sampling"), comfy.model_sampling.EPS):
        raise ValueError(f"{NODE}: the guider's model works by flow matching, which cannot be stopped and resumed here. Use KeepBest.")
    if latent_image.get("noise_mask") is not None:
        raise ValueError(f"{NODE}: latent_image has a mask, which a search cannot follow. Sample a batch with it, and use KeepBest.")
    if len(canvas) != 1:
        raise ValueError(f"{NODE}: latent_image is a batch of {len(canvas)}; give one canvas, and say in candidates how many to try.")
    height = canvas.shape[-2] * PIXELS_PER_LATENT
    if height != AUFFUSION.n_mels:
        raise ValueError(
            f"{NODE}: latent_image decodes to {height} rows; a spectrogram has {AUFFUSION.n_mels}. Use EmptySpectrogramLatent."
        )


NODES = [KeeperSearch]
