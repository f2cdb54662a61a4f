"""The two held-out judges: what does a canvas look like, and what does a clip sound like?

    python -m lab.train.judge_data [--data data]
    python -m lab.train.judges train --side picture [--data data]
    python -m lab.train.judges train --side sound [--data data]
    python -m lab.train.judges evaluate [--data data]
    python -m lab.train.judges round-trip [--data data] [--count 140] [--columns 1024]

Small convolutional classifiers of canvases 256 x W: the picture judge of the canvas as it looks, the sound judge of the *picture of the
waveform*. They learn only from sources that the generators never see, and are frozen before any sample is judged: `train` leaves a judge
that is there alone, and judges.json, which `evaluate` writes, holds the sha256 of sources, data and weights beside the accuracies. Those
on real data are the ceiling of any result; `round-trip` adds what VAE and vocoder take off it. Writes `<data>/judges/{picture,sound}.pt`;
the weights are not shipped, for part of the data is copyleft.

Nothing was chosen by samples of a generator, only by the judges' own held-out sources and the generators' development splits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections import Counter
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from .fetch import JUDGES_APT, JUDGES_NPM
from .judge import Judge, load_judge
from .judge_windows import CLASSES, Clips, Random, Rows, distorted, weathered

ROOT = Path(__file__).resolve().parents[2]
from itsound_core.griffin_lim import griffin_lim  # noqa: E402
from itsound_core.spectrogram import picture_to_mel, waveform_to_picture  # noqa: E402
from lab.intervals import wilson  # noqa: E402

VAE = ROOT / "models" / "embedded-image" / "vae"
FOLDERS = {"picture": "pictures", "sound": "sounds"}
STEPS = {"picture": 1100, "sound": 450}
BATCH = 48
WINDOW = {"picture": 96, "sound": 128}  # columns of a training window, of the pooled canvas
LEARNING_RATE = 3e-3


def train(data: Path, side: str, steps: int, seed: int) -> None:
    """Train a judge, unless it is there: AdamW on a one-cycle schedule, label smoothing, an average of the weights over the steps."""
    folder = data / "judges"
    target = folder / f"{side}.pt"
    if target.exists():
        return
    torch.manual_seed(seed)
    rng = Random(seed)
    source, augment = (Rows(folder), weathered) if side == "picture" else (Clips(folder), distorted)
    judge = Judge(CLASSES[side]).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    average = deepcopy(judge)
    optimizer = torch.optim.AdamW(judge.parameters(), LEARNING_RATE, weight_decay=0.03)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.2)
    print(f"{side}: {sum(p.numel() for p in judge.parameters()) / 1e6:.2f} M parameters", flush=True)
    began, right, losses = time.monotonic(), [], []
    for step in range(1, steps + 1):
        judge.train()
        canvas, labels = source.draw(BATCH, WINDOW[side], rng)
        logits = judge.logits(augment(canvas, rng))
        loss = F.cross_entropy(logits, labels, label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        decay = min(0.99, (1 + step) / (10 + step))
        for mean, value in zip(average.state_dict().values(), judge.state_dict().values(), strict=True):
            mean.lerp_(value, 1 - decay) if mean.is_floating_point() else mean.copy_(value)
        right.append((logits.argmax(dim=1) == labels).float().mean().item())
        losses.append(loss.item())
        if step % 50 == 0:
            print(f"{step} {time.monotonic() - began:.0f} s, loss {np.mean(losses):.3f}, {np.mean(right):.3f} right", flush=True)
            right, losses = [], []
            torch.save({"classes": CLASSES[side], "weights": average.state_dict()}, target.with_suffix(".part"))
    target.with_suffix(".part").rename(target)


# --- What it is worth ----------------------------------------------------------------------------------------------------------------


def report(guesses: Tensor, labels: list[str], classes: tuple[str, ...]) -> dict:
    """Accuracy with its interval, right of all for each class, and the five worst confusions (is, taken for, times)."""
    names = [classes[k] for k in guesses.tolist()]
    pairs = Counter(zip(labels, names, strict=True))
    right = sum(count for (label, name), count in pairs.items() if label == name)
    worst = [(*pair, count) for pair, count in pairs.most_common() if pair[0] != pair[1]][:5]
    low, high = wilson(right, len(labels))
    return {
        "n": len(labels),
        "accuracy": round(right / len(labels), 3),
        "interval": [round(low, 3), round(high, 3)],
        "classes": {label: f"{pairs[label, label]}/{labels.count(label)}" for label in classes if label in labels},
        "confusions": [f"{label} -> {name}: {count}" for label, name, count in worst],
    }


@torch.inference_mode()
def through_vae(pictures: Tensor) -> Tensor:
    """(B, 256, W) encoded and decoded by the embedded VAE."""
    vae = AutoencoderKL.from_pretrained(VAE, torch_dtype=torch.float32).eval()
    decoded = [vae((2 * picture - 1).expand(1, 3, -1, -1), return_dict=False)[0] for picture in pictures]
    return (torch.cat(decoded).mean(dim=1) / 2 + 0.5).clamp(0, 1)


@torch.inference_mode()
def through_waveform(pictures: Tensor) -> Tensor:
    """(B, 256, W) as Griffin-Lim makes them sound, and as that waveform looks."""
    return torch.cat([waveform_to_picture(griffin_lim(picture_to_mel(picture[None]))) for picture in pictures])


def spread(count: int, labels: list[str]) -> list[int]:
    """Indices of about `count` items, equally many of each class, the first of each."""
    seen: Counter[str] = Counter()
    each = max(1, count // len(set(labels)))
    chosen = []
    for index, label in enumerate(labels):
        seen[label] += 1
        if seen[label] <= each:
            chosen.append(index)
    return chosen


def canvases(folder: Path, split: str, chosen: list[int]) -> Tensor:
    """(len(chosen), 256, 1024) in 0..1 of a split of the generators' data."""
    return torch.from_numpy(np.load(folder / f"{split}.npy", mmap_mode="r")[chosen]).float() / 255


def labels_of(manifest: Path) -> list[str]:
    return [entry["class"] for entry in json.loads(manifest.read_text())]


def evaluate(data: Path, side: str) -> dict[str, dict]:
    """Accuracy on the judge's own held-out sources and on the generators' real data: at most 560 canvases of a split, of one thing."""
    judge = load_judge(data / "judges" / f"{side}.pt")
    folder = data / FOLDERS[side]
    own = torch.from_numpy(np.load(data / "judges" / f"{folder.name}_own.npy"))[:, None] / 255
    results = {"own": report(judge.logits(own).argmax(dim=1), labels_of(data / "judges" / f"{folder.name}_own.json"), judge.classes)}
    for split in {"picture": ("dev", "typical"), "sound": ("dev", "heldout")}[side]:
        labels = [label for label in labels_of(folder / f"{split}.json") if label in judge.classes][:560]
        batches = torch.arange(len(labels)).split(20)
        guesses = torch.cat([judge(canvases(folder, split, batch.tolist())).argmax(dim=1) for batch in batches])
        results[split] = report(guesses, labels, judge.classes)
    return results


def round_trip(data: Path, side: str, count: int, columns: int) -> dict[str, dict]:
    """What VAE and vocoder cost: accuracy on about `count` canvases of the development split, as they are and as they come back."""
    judge = load_judge(data / "judges" / f"{side}.pt")
    folder = data / FOLDERS[side]
    labels = labels_of(folder / "dev.json")
    chosen = spread(count, labels)
    real = canvases(folder, "dev", chosen)[..., :columns]
    decoded = through_vae(real)
    paths = {"as it is": real, "through the VAE": decoded}
    if side == "sound":
        paths = {"as it is": real, "through Griffin-Lim": through_waveform(real), "through VAE and Griffin-Lim": through_waveform(decoded)}
    labels = [labels[i] for i in chosen]
    return {name: report(judge(pictures).argmax(dim=1), labels, judge.classes) for name, pictures in paths.items()}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def provenance(data: Path) -> dict:
    """What the judges were built from."""
    folder = data / "judges"
    packages = json.loads((data / "fetch" / "record.json").read_text())
    used = {name: packages[name] for name in ("@iconify/json", *JUDGES_NPM, *JUDGES_APT)}
    arrays = ("drawings", "shapes", "pictures_own", "sounds_train", "sounds_own")
    return {
        "commands": [line.strip() for line in (__doc__ or "").splitlines() if line.startswith("    python")],
        "packages": {name: {"version": entry["version"], "sha256": entry["sha256"]} for name, entry in used.items()},
        "data": {f"{name}.npy": digest(folder / f"{name}.npy") for name in arrays},
        "weights": {f"{side}.pt": digest(folder / f"{side}.pt") for side in CLASSES},
        "training": {side: {"steps": STEPS[side], "batch": BATCH, "learning rate": LEARNING_RATE} for side in CLASSES},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("train", "evaluate", "round-trip"))
    parser.add_argument("--side", choices=CLASSES, help="only this one")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--count", type=int, default=140, help="items of a round trip")
    parser.add_argument("--columns", type=int, default=1024, help="columns of a round trip's canvases")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    target = Path(__file__).with_suffix(".json")
    for side in [options.side] if options.side else CLASSES:
        if options.action == "train":
            train(options.data, side, STEPS[side], options.seed)
            continue
        known = json.loads(target.read_text()) if target.exists() else {}
        if options.action == "evaluate":
            results = evaluate(options.data, side)
            known |= provenance(options.data)
            known.setdefault("accuracy", {})[side] = results
        else:
            results = round_trip(options.data, side, options.count, options.columns)
            settings = {"columns": options.columns, "vae": digest(VAE / "diffusion_pytorch_model.safetensors")}
            known.setdefault("round trip", {})[side] = settings | results
        target.write_text(json.dumps(known, indent=1) + "\n")
        for name, result in results.items():
            low, high = result["interval"]
            print(f"{side:8} {name:28} {result['accuracy']:.3f} [{low:.3f}, {high:.3f}], n {result['n']}", flush=True)


if __name__ == "__main__":
    main()
