"""The search for good seeds: many are drafted, the promising are sampled in full, the best are kept."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.utils
import torch
from comfy_api.latest import io
from torch import Tensor

from ..bridge import inputs
from ..bridge.guider import PIXELS_PER_LATENT, JointGuider
from ..itsound_core.contact_sheet import contact_sheet
from ..itsound_core.drafts import Plan, draft_places, plan
from ..itsound_core.ranking import top_shares
from ..itsound_core.scoring import Scores
from ..itsound_core.spectrogram import AUFFUSION
from .audio import play, sound
from .loaders import Vocoder
from .scoring import Scorer, prompts_for, score

NODE = "KeeperSearch"
LARGEST_BATCH = 16
"""Beyond it a GPU gains next to nothing, and progress and cancelling would come in large steps."""
DRAFT_SAMPLER = "dpmpp_2m"
NOISELESS = {"ddim", "deis", "dpm_2", "dpmpp_2m", "euler", "gradient_estimation", "heun", "heunpp2", "ipndm", "ipndm_v", "lms"}
NOISELESS |= {"uni_pc", "uni_pc_bh2"}
"""Samplers of which a batch is as many single samples: no noise of their own, no steps that depend on the batch."""
NOISY = ("ancestral", "ddpm", "lcm", "sa_solver", "sde", "seeds")
"""In the names of samplers that add so much noise of their own that the first noise says next to nothing of the sample."""
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
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Seed of the first candidate; the next ones have the seeds after it.",
                ),
                io.Int.Input("candidates", default=64, min=1, max=4096, tooltip="How many seeds are drafted."),
                io.Int.Input("keepers", default=4, min=1, max=4096, tooltip="How many are kept."),
                io.Float.Input(
                    "budget",
                    default=22.0,
                    min=0.1,
                    max=4096.0,
                    step=0.5,
                    tooltip="What the search may cost, in full samples. A third of the candidates is a good start; as many as candidates "
                    "samples all of them in full.",
                ),
                io.Int.Input("steps", default=100, min=1, max=10000, tooltip="Denoising steps of a full sample. 100 in the paper."),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    default="ddim",
                    tooltip=f"Sampler of the full samples; drafts are made by {DRAFT_SAMPLER}. Of samplers that add noise of their own "
                    "(ancestral, sde, lcm) drafts tell nothing: these need a budget of as many samples as candidates.",
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
        _check(canvas)
        sigmas = comfy.samplers.KSampler(model, steps, model.load_device, sampler_name, scheduler, 1.0).sigmas
        if budget < candidates and any(name in sampler_name for name in NOISY):
            raise ValueError(
                f"{NODE}: sampler_name is {sampler_name}, which adds noise of its own, so that drafts tell nothing of its samples. Choose "
                "one that does not, such as ddim, euler or dpmpp_2m; or a budget as large as candidates, to sample all in full."
            )
        onsets = _onsets(guider, sigmas)
        try:
            planned = plan(candidates, keepers, len(sigmas) - 1, budget, fewest=1 + len(onsets))
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from None
        draft_sigmas = sigmas[draft_places(planned.steps, planned.draft_steps, onsets)] if planned.draft_steps else None
        mask = latent_image.get("noise_mask")
        search = Search(
            guider, vae, scorer, vocoder, seen, heard, canvas, mask, seed, draft_sigmas, sigmas, sampler_name, batch_size, planned, keepers
        )
        kept = search.run()
        pictures, waveforms = (torch.stack([getattr(one, name) for one in kept]) for name in ("picture", "waveform"))
        return io.NodeOutput(
            {"samples": torch.cat([one.latent for one in kept])},
            pictures[..., None].expand(-1, -1, -1, 3),
            sound(waveforms),
            scores_of(kept, seen, heard),
            ", ".join(str(one.seed) for one in kept),
        )


@dataclass
class Candidate:
    """One seed, and what is known of it: its draft, and once that was sampled, its full sample."""

    seed: int
    latent: Tensor = field(default_factory=lambda: torch.empty(0))
    """(1, C, H, W), as a LATENT's samples."""
    picture: Tensor = field(default_factory=lambda: torch.empty(0))
    waveform: Tensor = field(default_factory=lambda: torch.empty(0))
    picture_score: float = 0.0
    sound_score: float = 0.0


@dataclass
class Search:
    """Drafts of all candidates, then full samples of the best."""

    guider: comfy.samplers.CFGGuider
    vae: comfy.sd.VAE
    scorer: Scorer
    vocoder: Vocoder | None
    image_prompt: str
    audio_prompt: str
    canvas: Tensor
    mask: Tensor | None
    seed: int
    draft_sigmas: Tensor | None
    """None where all are sampled in full at once."""
    sigmas: Tensor
    sampler_name: str
    batch_size: int
    plan: Plan
    keepers: int
    done: int = 0
    """Steps of single samples that were taken."""

    def __post_init__(self) -> None:
        self.progress = comfy.utils.ProgressBar(self.plan.cost)
        self.everyone = [Candidate(self.seed + i) for i in range(self.plan.candidates)]

    def run(self) -> list[Candidate]:
        """The keepers, best first. Cancelled after some are sampled in full, the best of those; before, the interrupt goes on."""
        finalists = self.everyone
        if self.draft_sigmas is not None:
            for batch in self._batches(self.everyone):
                self._sample(batch, DRAFT_SAMPLER, self.draft_sigmas)
                self._judge(batch, QUICK_ITERATIONS)
                self._show(self.everyone)
            finalists = [self.everyone[i] for i in _order(self.everyone)[: self.plan.finalists]]
            self._show(finalists)
        finished = self._finish(finalists)
        kept = [finished[i] for i in _order(finished)[: self.keepers]]
        self._show(kept)
        logger.info("%s: kept %d of %d, for the steps of %.1f samples.", NODE, len(kept), self.plan.candidates, self.done / self.plan.steps)
        return kept

    def _finish(self, finalists: list[Candidate]) -> list[Candidate]:
        finished: list[Candidate] = []
        try:
            # alone, a sampler with noise of its own draws what it would for this seed
            for batch in self._batches(finalists) if self.sampler_name in NOISELESS else [[one] for one in finalists]:
                self._sample(batch, self.sampler_name, self.sigmas)
                self._judge(batch)
                finished += batch
                self._show(finished)
        except comfy.model_management.InterruptProcessingException:
            if not finished:
                raise
            logger.warning("%s: cancelled; %d of %d full samples were finished, the best are kept.", NODE, len(finished), len(finalists))
        return finished

    def _batches(self, candidates: list[Candidate]) -> list[list[Candidate]]:
        size = self.batch_size or self._fitting(len(candidates))
        return [candidates[i : i + size] for i in range(0, len(candidates), size)]

    def _fitting(self, count: int) -> int:
        size, patcher = min(count, LARGEST_BATCH), self.guider.model_patcher
        free = comfy.model_management.get_free_memory(patcher.load_device)
        while size > 1 and patcher.model.memory_required([2 * size, *self.canvas.shape[1:]]) > free:  # 2: both prompts of the guidance
            size //= 2
        return size

    def _sample(self, batch: list[Candidate], sampler_name: str, sigmas: Tensor) -> None:
        def callback(i: int, denoised: Tensor, x: Tensor, total: int) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            self.done += len(batch)
            self.progress.update_absolute(self.done)

        samples = self.guider.sample(
            torch.cat([comfy.sample.prepare_noise(self.canvas, one.seed) for one in batch]),
            self.canvas.expand(len(batch), -1, -1, -1),
            comfy.samplers.sampler_object(sampler_name),
            sigmas,
            denoise_mask=self.mask,
            callback=callback,
            disable_pbar=True,
            seed=batch[0].seed,
        )
        for one, latent in zip(batch, samples.split(1), strict=True):
            one.latent = latent.to(comfy.model_management.intermediate_device())

    def _judge(self, batch: list[Candidate], iterations: int | None = None) -> None:
        pictures = inputs.picture(self.vae.decode(torch.cat([one.latent for one in batch])), NODE, "vae")
        waveforms = play(pictures, self.vocoder) if iterations is None else play(pictures, self.vocoder, iterations)
        prompts = (self.image_prompt,) * len(batch), (self.audio_prompt,) * len(batch)
        scores = score(self.scorer, pictures, waveforms, AUFFUSION.sample_rate, *prompts)
        for i, one in enumerate(batch):
            one.picture, one.waveform = pictures[i].cpu(), waveforms[i]
            one.picture_score, one.sound_score = float(scores.picture[i]), float(scores.sound[i])

    def _show(self, bright: list[Candidate]) -> None:
        """Preview of all that was seen so far, the others dimmed."""
        seen = [one for one in self.everyone if len(one.picture)]
        seeds = {one.seed for one in bright}
        captions = [f"{one.seed}: {one.picture_score:.0f} / {one.sound_score:.0f}" for one in seen]
        sheet = contact_sheet(torch.stack([one.picture for one in seen]), captions, [one.seed in seeds for one in seen])
        self.progress.update_absolute(self.done, preview=("JPEG", sheet.convert("RGB"), max(sheet.size)))


def scores_of(found: list[Candidate], image_prompt: str, audio_prompt: str) -> Scores:
    picture, sounds = (torch.tensor([getattr(one, name) for one in found]) for name in ("picture_score", "sound_score"))
    return Scores(picture, sounds, (image_prompt,) * len(found), (audio_prompt,) * len(found))


def _order(found: list[Candidate]) -> list[int]:
    return top_shares(*(torch.tensor([getattr(one, name) for one in found]) for name in ("picture_score", "sound_score")))


def _onsets(guider: comfy.samplers.CFGGuider, sigmas: Tensor) -> set[int]:
    """Steps after which an expert begins to take part; not those that do from the first step, or never."""
    if not isinstance(guider, JointGuider):
        return set()
    return {sum(not expert.votes(float(sigma)) for sigma in sigmas[:-1]) for expert in guider.experts} - {0, len(sigmas) - 1}


def _check(canvas: Tensor) -> None:
    if len(canvas) != 1:
        raise ValueError(f"{NODE}: latent_image is a batch of {len(canvas)}; give one canvas, and say in candidates how many to try.")
    height = canvas.shape[-2] * PIXELS_PER_LATENT
    if height != AUFFUSION.n_mels:
        raise ValueError(
            f"{NODE}: latent_image decodes to {height} rows; a spectrogram has {AUFFUSION.n_mels}. Use EmptySpectrogramLatent."
        )


NODES = [KeeperSearch]
