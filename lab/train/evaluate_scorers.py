"""How well the embedded scorers tell classes apart, zero-shot, with the scores of METHOD.md's "Evaluation".

    python -m lab.train.evaluate_scorers --side image --data data
    python -m lab.train.evaluate_scorers --side audio --data data
    python -m lab.train.evaluate_scorers --side image --data data --split heldout     # once, when all is settled

Scores are itsound_core.scoring's, of what is left of a canvas without its last 32 columns. One prompt a class; top-1 is how often
the right one scores highest, the margin is the right prompt's score less the best wrong one's. An item of no class is given by the best of
all its scores. Mean and standard deviation over items.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from itsound_core.scoring import PictureScorer, SoundScorer
from itsound_core.spectrogram import AUFFUSION

from .prompts import SUBJECTS
from .train_scorers import COLUMNS, FOLDERS, classes_of, played

PROMPTS = {
    "image": [f"a painting of {wordings[0]}, grayscale" for wordings in SUBJECTS["image"].values()],
    "audio": [wordings[0] for wordings in SUBJECTS["audio"].values()],
}


def picture_scores(scorer: PictureScorer, pictures: np.ndarray, prompts: list[str]) -> Tensor:
    """(N, prompts) of uint8 pictures (N, 256, 1024), in -100..100."""
    texts = scorer.embed(prompts)
    return torch.stack([scorer(torch.from_numpy(picture[:, :COLUMNS] / 255.0), texts) for picture in pictures])


def sound_scores(scorer: SoundScorer, waveforms: Tensor, prompts: list[str]) -> Tensor:
    """(N, prompts) of waveforms (N, T) at 16 kHz, in 0..100."""
    rate, texts = AUFFUSION.sample_rate, scorer.embed(prompts)
    return torch.stack([scorer(waveform[: COLUMNS * AUFFUSION.hop_length], rate, texts) for waveform in waveforms])


def spread(values: Tensor) -> str:
    return f"{values.mean():5.1f} +- {values.std():4.1f}"


def report(name: str, scores: Tensor, classes: list[str], side: str) -> None:
    """Print one line of figures for items of known class, and the classes that are not always recognised."""
    labels = list(SUBJECTS[side])
    meant = torch.tensor([labels.index(label) for label in classes])
    right = scores.gather(1, meant[:, None])[:, 0]
    wrong = scores.scatter(1, meant[:, None], -torch.inf).amax(dim=1)
    hits = right > wrong
    top = f"top-1 {hits.float().mean():.3f} of {len(hits)}"
    print(f"{name}: {top}, right {spread(right)}, best wrong {spread(wrong)}, margin {spread(right - wrong)}")
    print(
        "   ", ", ".join(f"{label} {hits[meant == i].float().mean():.2f}" for i, label in enumerate(labels) if not hits[meant == i].all())
    )


def report_of_no_class(name: str, scores: Tensor) -> None:
    print(f"{name}: best of all prompts {spread(scores.amax(dim=1))} ({len(scores)} items)")


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 256, 1024), np.uint8)


def evaluate_pictures(data: Path, split: str, count: int) -> None:
    scorer = PictureScorer.load(FOLDERS["image"])
    pictures, spectrograms = (np.load(data / name / f"{split}.npy", mmap_mode="r") for name in ("pictures", "sounds"))
    scores = picture_scores(scorer, pictures, PROMPTS["image"])
    report(f"canvases, {split}", scores, classes_of(data / "pictures" / f"{split}.json"), "image")
    report_of_no_class("spectrograms", picture_scores(scorer, spectrograms[:count], PROMPTS["image"]))
    report_of_no_class("noise", picture_scores(scorer, noise(10), PROMPTS["image"]))


def evaluate_sounds(data: Path, split: str, count: int) -> None:
    scorer = SoundScorer.load(FOLDERS["audio"])
    waves = np.load(data / "sounds" / f"{split}_waves.npy", mmap_mode="r")
    classes = classes_of(data / "sounds" / f"{split}.json")
    pictures, spectrograms = (np.load(data / name / f"{split}.npy", mmap_mode="r") for name in ("pictures", "sounds"))

    def scores(waveforms: np.ndarray | Tensor) -> Tensor:
        return sound_scores(scorer, torch.as_tensor(waveforms), PROMPTS["audio"])

    clips = waves[:].astype(np.float32) / 32767
    of_clips = scores(clips)
    report(f"clips, {split}", of_clips, classes, "audio")
    report(f"the first {count}", of_clips[:count], classes[:count], "audio")
    report("the same by Griffin-Lim", scores(played(spectrograms[:count])), classes[:count], "audio")
    report_of_no_class("canvases by Griffin-Lim", scores(played(pictures[:count])))
    report_of_no_class("white noise", scores(np.random.default_rng(0).normal(0, 0.1, (10, clips.shape[1])).astype(np.float32)))
    report_of_no_class("silence", scores(np.zeros_like(clips[:2])))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=SUBJECTS, required=True)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--split", choices=("dev", "heldout"), default="dev")
    parser.add_argument("--count", type=int, default=70, help="items of no class, and clips through Griffin-Lim")
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"image": evaluate_pictures, "audio": evaluate_sounds}[options.side](options.data, options.split, options.count)
