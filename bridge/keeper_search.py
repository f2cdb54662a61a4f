"""The keeper search: every candidate is drafted in few steps, the promising are sampled in full, and the best of these are kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.utils
import torch
import torch.nn.functional as F
from torch import Tensor

from ..itsound_core.contact_sheet import CELL_WIDTH, contact_sheet
from ..itsound_core.drafts import Plan
from ..itsound_core.ranking import top_shares
from ..itsound_core.scoring import Embeddings, Scores
from ..itsound_core.views import FORMATS, VIEWS
from . import picture_inputs
from .guider import JointGuider
from .sampling_inputs import LARGEST_SEED, sampler_seed
from .scoring import Scorer, score
from .vocoding import ITERATIONS, LoadedVocoder, play

LARGEST_BATCH = 16
"""Beyond it a GPU gains next to nothing, and progress and cancelling would come in large steps."""
SHOWN = 64
"""Candidates on the preview's sheet, the best so far: a JPEG file has room for a few hundred, and nobody looks at more."""
DRAFT_SAMPLER = "dpmpp_2m"
NOISELESS = {"ddim", "deis", "dpm_2", "dpmpp_2m", "euler", "gradient_estimation", "heun", "heunpp2", "ipndm", "ipndm_v", "lms"}
NOISELESS |= {"uni_pc", "uni_pc_bh2"}
"""Samplers of which a batch is as many single samples: no noise of their own, no steps that depend on the batch."""
NOISY = ("ancestral", "ddpm", "lcm", "sa_solver", "sde", "seeds")
"""In the names of samplers that add so much noise of their own that the first noise says next to nothing of the sample."""
QUICK_ITERATIONS = 16
"""Of Griffin-Lim, for a sound that is only scored."""

logger = logging.getLogger(__name__)


@dataclass
class Candidate:
    """One seed, the scores of its newest sample (its draft's, and once it is sampled in full, that one's), and what is kept of it."""

    seed: int
    picture_score: float = 0.0
    sound_score: float = 0.0
    thumbnail: Tensor | None = None
    """(h, CELL_WIDTH) uint8, of what was scored; None before that."""
    latent: Tensor | None = None
    """(1, C, H, W) of the full sample, as a LATENT's samples; None before there is one."""


@dataclass(frozen=True)
class Judge:
    """What sees, hears and scores a batch of latents."""

    node: str
    vae: comfy.sd.VAE
    scorer: Scorer
    vocoder: LoadedVocoder | None
    view: str
    """Name of the view that the canvas has."""
    image_prompt: str
    audio_prompt: str

    def see_and_hear(self, latents: Tensor, iterations: int = ITERATIONS) -> tuple[Tensor, Tensor]:
        """Gray pictures (B, H, W) in 0..1 as they are looked at, and waveforms (B, T), of latents (B, C, h, w).

        iterations: of Griffin-Lim.
        """
        pictures = picture_inputs.gray(picture_inputs.pixels(self.vae.decode(latents), self.node, "vae")[..., :3])
        spectrograms = VIEWS[self.view].view(picture_inputs.picture(pictures[..., None], self.node, "vae", self.view))
        return pictures, play(spectrograms, self.vocoder, iterations, fmt=FORMATS[self.view])

    def examine(self, latents: Tensor, iterations: int = ITERATIONS) -> tuple[Tensor, Scores]:
        """Pictures (B, H, W) and scores of latents (B, C, h, w)."""
        pictures, waveforms = self.see_and_hear(latents, iterations)
        prompts = (self.image_prompt,) * len(latents), (self.audio_prompt,) * len(latents)
        rate = FORMATS[self.view].sample_rate
        return pictures, score(self.scorer, pictures, waveforms, rate, *prompts, node=self.node, embeddings=self._embeddings)

    @cached_property
    def _embeddings(self) -> tuple[Embeddings, Embeddings]:
        return self.scorer.embeddings()

    def scores_of(self, candidates: Sequence[Candidate]) -> Scores:
        """SCORES of candidates, in their order."""
        seen, heard = (torch.tensor([getattr(one, name) for one in candidates]) for name in ("picture_score", "sound_score"))
        return Scores(seen, heard, (self.image_prompt,) * len(candidates), (self.audio_prompt,) * len(candidates))


@dataclass(frozen=True)
class Sampling:
    """How candidates are sampled: `draft_sigmas` is None where all are sampled in full at once; batch_size 0 is what memory allows."""

    guider: comfy.samplers.CFGGuider
    canvas: Tensor
    mask: Tensor | None
    sampler_name: str
    sigmas: Tensor
    draft_sigmas: Tensor | None
    batch_size: int
    batch_index: Sequence[int] | None = None
    """Of a canvas that was taken out of a batch: which of the batch's noises is its own."""

    def batches(self, candidates: Sequence[Candidate]) -> list[Sequence[Candidate]]:
        size = self.batch_size or self._fitting(len(candidates))
        return [candidates[i : i + size] for i in range(0, len(candidates), size)]

    def _fitting(self, count: int) -> int:
        """Samples that fit into memory at once, in what is free when everything but the guider's own models is unloaded."""
        size, patcher = min(count, LARGEST_BATCH), self.guider.model_patcher
        device, own = patcher.load_device, {id(patcher.model)}
        loaded = [one for one in comfy.model_management.current_loaded_models if one.device == device and one.model is not None]
        freed = sum(one.model_loaded_memory() for one in loaded if id(one.model.model) not in own)
        free = comfy.model_management.get_free_memory(device) + freed
        while size > 1 and patcher.model.memory_required([2 * size, *self.canvas.shape[1:]]) > free:  # 2: both prompts of the guidance
            size //= 2
        return size

    def sample(self, batch: Sequence[Candidate], sampler_name: str, sigmas: Tensor, on_step: Callable[[], None]) -> Tensor:
        """Latents (B, C, H, W) of the candidates' seeds. on_step is called after each step; an interrupt goes on to the caller."""

        def callback(i: int, denoised: Tensor, x: Tensor, total: int) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            on_step()

        samples = self.guider.sample(
            torch.cat([comfy.sample.prepare_noise(self.canvas, one.seed, self.batch_index) for one in batch]),
            self.canvas.expand(len(batch), -1, -1, -1),
            comfy.samplers.sampler_object(sampler_name),
            sigmas,
            denoise_mask=self.mask,
            callback=callback,
            disable_pbar=True,
            seed=sampler_seed(batch[0].seed),
        )
        return samples.to(comfy.model_management.intermediate_device())


class Search:
    """Drafts of all candidates, then full samples of the best. Of a candidate only a thumbnail and the full sample's latent are held."""

    def __init__(self, sampling: Sampling, judge: Judge, plan: Plan, seed: int, keepers: int) -> None:
        self.sampling, self.judge, self.plan, self.keepers = sampling, judge, plan, keepers
        self.candidates = [Candidate((seed + i) % (LARGEST_SEED + 1)) for i in range(plan.candidates)]
        self.progress = comfy.utils.ProgressBar(plan.cost)
        self.steps_taken = 0

    def run(self) -> list[Candidate]:
        """The keepers, best first, with their latents. Cancelled, the interrupt goes on to the caller: a part of a search is no result."""
        finalists = self.candidates
        if self.sampling.draft_sigmas is not None:
            for batch in self.sampling.batches(self.candidates):
                self._examine(batch, self._sample(batch, DRAFT_SAMPLER, self.sampling.draft_sigmas), QUICK_ITERATIONS)
                self._show(self.candidates)
            finalists = best(self.candidates, self.plan.finalists)
            self._show(finalists)
        # alone, a sampler with noise of its own draws what it would for this seed
        alone = self.sampling.sampler_name not in NOISELESS
        for batch in [[one] for one in finalists] if alone else self.sampling.batches(finalists):
            latents = self._sample(batch, self.sampling.sampler_name, self.sampling.sigmas)
            for one, latent in zip(batch, latents.split(1), strict=True):
                one.latent = latent
            self._examine(batch, latents)
            self._show([one for one in finalists if one.latent is not None])
        kept = best(finalists, self.keepers)
        self._show(kept)
        samples = self.steps_taken / self.plan.steps
        logger.info("%s: kept %d of %d, for the steps of %.1f samples.", self.judge.node, len(kept), self.plan.candidates, samples)
        return kept

    def _sample(self, batch: Sequence[Candidate], sampler_name: str, sigmas: Tensor) -> Tensor:
        def on_step() -> None:
            self.steps_taken += len(batch)
            self.progress.update_absolute(self.steps_taken)

        return self.sampling.sample(batch, sampler_name, sigmas, on_step)

    def _examine(self, batch: Sequence[Candidate], latents: Tensor, iterations: int = ITERATIONS) -> None:
        pictures, scores = self.judge.examine(latents, iterations)
        height, width = pictures.shape[1:]
        small = F.interpolate(pictures[:, None].cpu(), (max(1, CELL_WIDTH * height // width), CELL_WIDTH), mode="area")[:, 0]
        for one, picture, seen, heard in zip(batch, small, scores.picture.tolist(), scores.sound.tolist(), strict=True):
            one.picture_score, one.sound_score, one.thumbnail = seen, heard, (255 * picture).round().to(torch.uint8)

    def _show(self, bright: Sequence[Candidate]) -> None:
        """Preview of the best so far, `bright` before others, in the order of their seeds; the others are dimmed."""
        among = {id(one) for one in bright}
        seen = [one for one in self.candidates if one.thumbnail is not None]
        in_front, behind = ([one for one in seen if (id(one) in among) == inside] for inside in (True, False))
        shown = {id(one) for one in [*best(in_front, SHOWN), *best(behind, SHOWN)][:SHOWN]}
        seen = [one for one in seen if id(one) in shown]
        captions = [f"{one.seed}: {one.picture_score:.0f} / {one.sound_score:.0f}" for one in seen]
        thumbnails = torch.stack([one.thumbnail for one in seen if one.thumbnail is not None]) / 255.0
        sheet = contact_sheet(thumbnails, captions, [id(one) in among for one in seen])
        self.progress.update_absolute(self.steps_taken, preview=("JPEG", sheet.convert("RGB"), max(sheet.size)))


def best(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """At most `count` of the candidates, best first by both scores (`ranking.top_shares`)."""
    scores = torch.tensor([(one.picture_score, one.sound_score) for one in candidates]).reshape(-1, 2)
    return [candidates[i] for i in top_shares(*scores.unbind(dim=1))[:count]]


def onsets(guider: comfy.samplers.CFGGuider, sigmas: Tensor) -> set[int]:
    """Steps after which an expert begins to take part; not those that do from the first step, or never."""
    if not isinstance(guider, JointGuider):
        return set()
    return {sum(not expert.votes(float(sigma)) for sigma in sigmas[:-1]) for expert in guider.experts} - {0, len(sigmas) - 1}
