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
from .prompts import SUBJECTS

ROOT = Path(__file__).resolve().parents[2]
from itsound_core.griffin_lim import griffin_lim  # noqa: E402
from itsound_core.spectrogram import picture_to_mel, waveform_to_picture  # noqa: E402
from lab.intervals import wilson  # noqa: E402

VAE = ROOT / "models" / "embedded-image" / "vae"
CLASSES = {"picture": tuple(SUBJECTS["image"]), "sound": tuple(SUBJECTS["audio"])}
FOLDERS = {"picture": "pictures", "sound": "sounds"}
STEPS = {"picture": 1100, "sound": 450}
BATCH = 48
WINDOW = {"picture": 96, "sound": 128}  # columns of a training window, of the pooled canvas
LEARNING_RATE = 3e-3


# --- What it learns from: windows of the pooled canvas, (B, 1, 64, columns) -----------------------------------------------------------


class Random:
    """Random numbers for a batch, one for each item, shaped to act on (B, 1, H, W)."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, batch: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(batch, 1, 1, 1, generator=self.generator)

    def chance(self, batch: int, share: float) -> Tensor:
        return (self.uniform(batch) < share).float()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def integers(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=self.generator)

    def smooth(self, batch: int, channels: int, height: int, width: int, cell: int = 16) -> Tensor:
        """Low-frequency noise of about unit variance."""
        coarse = self.normal(batch, channels, height // cell + 1, width // cell + 1)
        return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)


class Rows:
    """Windows of rows of drawings as canvases.py composes them, laid out by resampling, so that no two are alike.

    Of two drawings of a class (or one, twice) in turn: turned, sheared, stretched and bent a little, in one of four versions each.
    """

    def __init__(self, folder: Path):
        self.shapes = torch.from_numpy(np.load(folder / "shapes.npy"))
        entries = json.loads((folder / "drawings.json").read_text())
        self.members = [
            torch.tensor([i for i, entry in enumerate(entries) if (entry["class"], entry["split"]) == (label, "train")])
            for label in CLASSES["picture"]
        ]
        outlined = torch.tensor([entry["outlined"] for entry in entries])
        self.odds = torch.where(outlined[:, None], torch.tensor([0.25, 0.25, 0.1, 0.4]), torch.tensor([0.5, 0.2, 0.2, 0.1]))

    def draw(self, batch: int, columns: int, rng: Random) -> tuple[Tensor, Tensor]:
        labels = rng.integers(len(self.members), batch)
        first, other = (torch.stack([self.members[k][rng.integers(len(self.members[k]))] for k in labels.tolist()]) for _ in range(2))
        second = torch.where(rng.uniform(batch).flatten() < 0.3, other, first)
        tiles = []
        for chosen in (first, second):
            version = torch.multinomial(self.odds[chosen], 1, generator=rng.generator)[:, 0]
            tile = self.shapes[chosen, version].float() / 255
            tiles.append(torch.where(rng.chance(batch, 0.5)[:, 0] > 0, tile.flip(-1), tile))
        side = self.shapes.shape[-1]
        pair = torch.stack(tiles, dim=1).flatten(0, 1)[:, None]  # (2 B, 1, side, side), the two of an item together
        extent = (pair > 0.1).float().amax(dim=2).sum(dim=-1).view(batch, 2).amax(dim=1).view(
            -1, 1, 1, 1
        ) / side  # widest ink, share of a tile
        tall = (pair > 0.1).float().amax(dim=3).sum(dim=-1).view(batch, 2).amax(dim=1).view(-1, 1, 1, 1) / side
        # Size of a tile in pixels, so that the ink is as tall as fits, or for small copies half of that.
        height = 64 * rng.uniform(batch, 0.8, 0.98) * torch.where(rng.chance(batch, 0.12) > 0, 0.55, 1.0)
        size = torch.minimum(height / tall, 124 / extent)
        period = (size * extent * rng.uniform(batch, 1.02, 1.5)).clamp(min=48 * height / 64)
        x = (torch.arange(columns) + 0.5).view(1, 1, 1, -1) + rng.uniform(batch, 0, 1) * 2 * period
        turn = (x / period).floor() % 2
        across = ((x % period) - period / 2) / (size / 2) + torch.zeros(1, 1, 64, 1)
        down = ((torch.arange(64) + 0.5 - 32).view(1, 1, -1, 1) + rng.uniform(batch, -2, 2)) / (size / 2) + torch.zeros(1, 1, 1, columns)
        angle, stretch = 0.12 * rng.normal(batch, 1, 1, 1), (0.1 * rng.normal(batch, 1, 1, 1)).exp()
        bend = rng.smooth(batch, 2, 64, columns) * rng.uniform(batch, 0, 0.08)
        u = (angle.cos() * across - angle.sin() * down) * stretch + 0.1 * rng.normal(batch, 1, 1, 1) * down + bend[:, :1]
        v = (angle.sin() * across + angle.cos() * down) / stretch + bend[:, 1:]
        grid = torch.cat([u, v], dim=1).permute(0, 2, 3, 1)
        sampled = F.grid_sample(pair, grid.repeat_interleave(2, dim=0), align_corners=False).view(batch, 2, 64, columns)
        return torch.where(turn > 0, sampled[:, 1:], sampled[:, :1]), labels


def blurred(canvas: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(canvas, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def erased(canvas: Tensor, rng: Random, height: float, width: float) -> Tensor:
    """A rectangle of up to height x width, shares of the canvas, becomes black."""
    batch, _, rows, columns = canvas.shape
    y, x = (torch.arange(rows).view(-1, 1) / rows, torch.arange(columns) / columns)
    top, left = rng.uniform(batch), rng.uniform(batch)
    inside = (y > top) & (y < top + rng.uniform(batch, 0, height)) & (x > left) & (x < left + rng.uniform(batch, 0, width))
    return canvas * (~inside)


def weathered(ink: Tensor, rng: Random) -> Tensor:
    """Drawings on black, 0..1, as a generator might leave them: on gray, striped, blotched, blurred, noisy, some inverted."""
    batch, _, rows, columns = ink.shape
    y, x = torch.linspace(-1, 1, rows).view(-1, 1), torch.linspace(-1, 1, columns)
    ink = ink ** (0.3 * rng.normal(batch, 1, 1, 1)).exp()
    ink = torch.where(rng.chance(batch, 0.3) > 0, blurred(blurred(ink)), ink)
    lines = rng.normal(batch, 1, rows, 1).clamp(min=0) * rng.smooth(batch, 1, rows, columns).sigmoid()
    pulses = rng.normal(batch, 1, 1, columns).clamp(min=0) * rng.smooth(batch, 1, rows, columns).sigmoid()
    stripes = torch.where(rng.chance(batch, 0.5) > 0, lines, pulses).clamp(max=1)
    ink = ink * (1 - stripes * rng.uniform(batch, 0, 0.8) * rng.chance(batch, 0.3))
    ink = ink * (1 - 0.5 * rng.smooth(batch, 1, rows, columns).clamp(0, 1.5) * rng.chance(batch, 0.3))
    ink = torch.where(rng.chance(batch, 0.25) > 0, erased(ink, rng, 0.6, 0.4), ink)
    ground = rng.uniform(batch, 0, 0.3) * (1 + rng.uniform(batch, -1, 1) * y + rng.uniform(batch, -0.5, 0.5) * x).clamp(0, 2)
    ground = ground + 0.12 * rng.smooth(batch, 1, rows, columns).clamp(min=0) * rng.chance(batch, 0.5)
    ground = ground * rng.chance(batch, 0.5) + stripes * rng.uniform(batch, 0, 0.4) * rng.chance(batch, 0.3)
    canvas = ground + ink * (rng.uniform(batch, 0.4, 1) - ground)
    canvas = canvas + rng.normal(*canvas.shape) * rng.uniform(batch, 0, 0.12) * rng.chance(batch, 0.5)
    return torch.where(rng.chance(batch, 0.08) > 0, 1 - canvas, canvas).clamp(0, 1)


class Clips:
    """Windows of spectrogram pictures, anywhere along time."""

    def __init__(self, folder: Path):
        self.pictures = torch.from_numpy(np.load(folder / "sounds_train.npy"))
        self.labels = torch.tensor(
            [CLASSES["sound"].index(entry["class"]) for entry in json.loads((folder / "sounds_train.json").read_text())]
        )

    def draw(self, batch: int, columns: int, rng: Random) -> tuple[Tensor, Tensor]:
        chosen, full = rng.integers(len(self.labels), batch), self.pictures.shape[-1]
        stretched = int(columns * float(rng.uniform(1, 0.8, 1.25)))  # the whole batch at one tempo
        positions = (rng.integers(full, batch, 1) + torch.arange(stretched)) % full
        windows = self.pictures[chosen].float().gather(2, positions[:, None].expand(-1, self.pictures.shape[1], -1)) / 255
        return F.interpolate(windows[:, None], (windows.shape[1], columns), mode="bilinear"), self.labels[chosen]


def distorted(canvas: Tensor, rng: Random) -> Tensor:
    """Spectrogram pictures as a generator or a room might leave them: re-pitched, filtered, smeared, masked, over a noise floor.

    A level of 0.1 of the picture is 14.6 dB.
    """
    batch, _, rows, columns = canvas.shape
    shift = rng.integers(7, batch) - 3
    positions = (torch.arange(rows) + shift[:, None]).clamp(0, rows - 1)
    canvas = canvas.gather(2, positions[:, None, :, None].expand(-1, 1, -1, columns))
    sounding = (canvas > 0.02).float()
    colour = rng.uniform(batch, -0.12, 0.12) * torch.linspace(-1, 1, rows).view(-1, 1) + 0.04 * rng.smooth(batch, 1, rows, 1, cell=12)
    canvas = canvas + sounding * (colour + rng.uniform(batch, -0.14, 0.06))
    decay = rng.uniform(batch, 0.03, 0.15)
    tail = torch.stack([F.pad(canvas, (step, 0))[..., :columns] - decay * step for step in range(5)]).amax(dim=0)
    canvas = torch.where(rng.chance(batch, 0.3) > 0, tail, canvas)
    canvas = torch.where(rng.chance(batch, 0.35) > 0, blurred(canvas), canvas)
    holes = rng.smooth(batch, 1, rows, columns) * 3 + rng.uniform(batch, -1, 3)  # soft, of any shape, as a picture's dark parts are
    canvas = torch.where(rng.chance(batch, 0.4) > 0, canvas * (holes + 1).clamp(0.15, 1), canvas)
    canvas = torch.where(rng.chance(batch, 0.3) > 0, erased(canvas, rng, 2, 0.3), canvas)
    canvas = torch.where(rng.chance(batch, 0.3) > 0, erased(canvas, rng, 0.3, 2), canvas)
    canvas = canvas + rng.normal(*canvas.shape) * rng.uniform(batch, 0, 0.05) * rng.chance(batch, 0.5)
    floor = canvas.amax(dim=(2, 3), keepdim=True) - rng.uniform(batch, 0.2, 0.55) + 0.02 * rng.normal(*canvas.shape)
    return torch.where(rng.chance(batch, 0.35) > 0, torch.maximum(canvas, floor), canvas).clamp(0, 1)


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
