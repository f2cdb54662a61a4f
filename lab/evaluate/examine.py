"""What is found out about a picture that is there: how it sounds, what judges recognise, CLIP and CLAP scores, cycle consistency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from itsound_core import spectrogram
from itsound_core.cycle import cycle_consistency
from itsound_core.griffin_lim import griffin_lim
from itsound_core.scoring import Embeddings, PictureScorer, SoundScorer
from itsound_core.vocoder import load_vocoder, replace_magnitude

from ..train.judge import Judge, load_judge
from .folders import Folders
from .rows import Row, Vocoder
from .samples import Sample

GRIFFIN_LIM_ITERATIONS = 48  # SpectrogramToAudio's default
QUICK_ITERATIONS = 16  # KeeperSearch's, for a sound that is only scored
DARK_COLUMNS = 32
"""Left out at the right edge where a sample is scored, as the paper does (METHOD.md "Decoding"). The judges see all of it."""


class Examiner:
    """All that is asked about pictures. Sounds are made by the row's vocoder; judges and scorers hear the same sound."""

    def __init__(self, folders: Folders, device: str = "cpu") -> None:
        self.picture_scorer = PictureScorer.load(folders.clip).to(device)
        self.sound_scorer = SoundScorer.load(folders.clap).to(device)
        self.image_texts, self.audio_texts = Embeddings(self.picture_scorer), Embeddings(self.sound_scorer)
        self.folders, self.device, self.vocoder = folders, device, None
        self.judges = None
        if folders.judges is not None:
            self.judges = tuple(load_judge(folders.judges / f"{name}.pt").to(device) for name in ("picture", "sound"))

    @torch.no_grad()
    def __call__(self, row: Row, pictures: Tensor, batch: Sequence[Sample]) -> list[dict[str, Any]]:
        """For pictures (B, 256, 1024) in 0..1 and their samples, what records hold of them."""
        waveforms = self.play(pictures, row.vocoder)
        cycle = cycle_consistency(pictures, waveforms)
        found: list[dict[str, Any]] = [
            {"clip": round(clip, 2), "clap": round(clap, 2), "cycle_db": round(error, 2), "picture": None, "sound": None}
            for (clip, clap), error in zip(self.scores(pictures, waveforms, batch), cycle.error_db.tolist(), strict=True)
        ]
        image_classes = [sample.image_class for sample in batch if sample.image_class is not None]
        audio_classes = [sample.audio_class for sample in batch if sample.audio_class is not None]
        if self.judges is not None and len(image_classes) == len(audio_classes) == len(batch):
            looks = verdicts(self.judges[0], pictures, image_classes)
            sounds = verdicts(self.judges[1], as_recorded(waveforms), audio_classes)
            for one, look, sound in zip(found, looks, sounds, strict=True):
                one.update(picture=look, sound=sound)
        return found

    @torch.no_grad()
    def foresee(self, pictures: Tensor, batch: Sequence[Sample]) -> list[tuple[float, float]]:
        """CLIP and CLAP scores of unfinished pictures, as KeeperSearch takes them."""
        waveforms = griffin_lim(spectrogram.picture_to_mel(pictures), iterations=QUICK_ITERATIONS)
        return [(round(clip, 2), round(clap, 2)) for clip, clap in self.scores(pictures, waveforms, batch)]

    def scores(self, pictures: Tensor, waveforms: Tensor, batch: Sequence[Sample]) -> list[tuple[float, float]]:
        """(CLIP, CLAP) of each; raises ValueError where one is not a number."""
        seen = pictures[..., :-DARK_COLUMNS]
        heard = waveforms[:, : -DARK_COLUMNS * spectrogram.AUFFUSION.hop_length]
        rate = spectrogram.AUFFUSION.sample_rate
        found = [
            (
                float(self.picture_scorer(picture, self.image_texts[sample.image_prompt])),
                float(self.sound_scorer(waveform, rate, self.audio_texts[sample.audio_prompt])),
            )
            for picture, waveform, sample in zip(seen, heard, batch, strict=True)
        ]
        if not all(map(math.isfinite, chain(*found))):
            raise ValueError("a score is not a number: a scorer's weights are damaged. Fetch it again, or name another.")
        return found

    def play(self, pictures: Tensor, name: Vocoder) -> Tensor:
        """Waveforms (B, T) of pictures (B, 256, W)."""
        if name == "griffin-lim":
            return griffin_lim(spectrogram.picture_to_mel(pictures), iterations=GRIFFIN_LIM_ITERATIONS)
        if self.vocoder is None:
            self.vocoder = load_vocoder(self.folders.vocoder).to(self.device)
        waveforms = self.vocoder(spectrogram.picture_to_log_mel(pictures))
        return waveforms if name == "hifi-gan" else replace_magnitude(waveforms, spectrogram.picture_to_mel(pictures))


def as_recorded(waveforms: Tensor) -> Tensor:
    """Pictures (B, 256, W) of waveforms (B, T), as loud as a recording: what the sound judge hears."""
    return spectrogram.waveform_to_picture(spectrogram.normalize_peak(waveforms))


@torch.no_grad()
def verdicts(judge: Judge, pictures: Tensor, wanted: list[str]) -> list[dict[str, Any]]:
    """For each picture the class that the judge names, whether it is the wanted one, and the wanted one's probability."""
    probabilities = judge(pictures).softmax(dim=1).cpu()
    named = [judge.classes[i] for i in probabilities.argmax(dim=1).tolist()]
    return [
        {"named": name, "right": name == label, "probability": round(float(p[judge.classes.index(label)]), 4)}
        for name, label, p in zip(named, wanted, probabilities, strict=True)
    ]
