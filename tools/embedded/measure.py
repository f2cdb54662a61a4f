"""How often two held-out judges recognise what was asked for: in the picture, in the sound, and in both.

    python tools/embedded/measure.py image audio imprint joint joint-10 --output results/embedded --compile   # some two hours on two cores
    python tools/embedded/measure.py joint --prompts development --count 28 --steps 50 --image-guidance 6 --audio-guidance 4 \
        --output output/development

Every seed counts and none is picked. Sample k of every row has the k-th pair of the prompt list and noise of its own seed: rows differ in
the method alone. Each sample is appended to <output>/records.jsonl as soon as it is judged, with its picture beside it in <output>/<row>/;
a run that was killed goes on where it stopped. `tables.py` makes tables of the records.

The picture judge sees the gray picture. The sound judge hears the sound: Griffin-Lim of the picture, as SpectrogramToAudio does it, made
as loud as a recording and re-encoded. Sampling is itsound_core's DDIM and composition on the shipped weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from judge import Judge, load_judge
from PIL import Image
from prompts import SUBJECTS
from sample import FOLDERS, Side, decode
from torch import Tensor

from itsound_core import spectrogram
from itsound_core.composition import Expert, compose
from itsound_core.griffin_lim import griffin_lim
from itsound_core.imprint import imprint
from itsound_core.sampling import ddim

BATCH = 5
T_IMAGE = 0.9
RHO = 0.5
GRIFFIN_LIM_ITERATIONS = 48  # SpectrogramToAudio's default


@dataclass(frozen=True)
class Row:
    """A way to make samples. Guidance is None on a side that has no part."""

    steps: int
    image_guidance: float | None = None
    audio_guidance: float | None = None


# 10 and 7 were chosen on the development prompts (models/embedded-image/README.md); the paper has 10 and 10.
ROWS = {
    "image": Row(50, image_guidance=10.0),
    "audio": Row(50, audio_guidance=7.0),
    "imprint": Row(50, 10.0, 7.0),
    "joint": Row(100, 10.0, 7.0),
    "joint-10": Row(100, 10.0, 10.0),
}


def changed(row: Row, steps: int | None, image_guidance: float | None, audio_guidance: float | None) -> Row:
    """The row with the settings that are given, where it has them."""
    return Row(
        steps or row.steps,
        row.image_guidance if None in (row.image_guidance, image_guidance) else image_guidance,
        row.audio_guidance if None in (row.audio_guidance, audio_guidance) else audio_guidance,
    )


@dataclass(frozen=True)
class Wording:
    """Prompts of a list: a template for each side, and which wording of a class (prompts.py) stands in it. seed: that of sample 0."""

    image: str
    image_wording: int
    audio: str
    audio_wording: int
    seed: int


PROMPTS = {
    "test": Wording("a painting of {}, grayscale", 1, "{}", 0, seed=0),
    "development": Wording("a drawing of {}", 0, "the sound of {}", 1, seed=1_000_000),
}


@dataclass(frozen=True)
class Sample:
    """What sample `index` is asked to show and to sound like."""

    index: int
    seed: int
    image_class: str
    audio_class: str
    image_prompt: str
    audio_prompt: str


def samples(wording: Wording, count: int) -> list[Sample]:
    """The first `count` of a list in which every class comes equally often, and every pair of classes once before one returns."""
    pictures, sounds = (list(SUBJECTS[side]) for side in ("image", "audio"))
    listed = []
    for index in range(count):
        image_class = pictures[index % len(pictures)]
        audio_class = sounds[(index + index // len(pictures)) % len(sounds)]
        listed.append(
            Sample(
                index,
                wording.seed + index,
                image_class,
                audio_class,
                wording.image.format(SUBJECTS["image"][image_class][wording.image_wording]),
                wording.audio.format(SUBJECTS["audio"][audio_class][wording.audio_wording]),
            )
        )
    return listed


class Bench:
    """The models and judges of one worker process. `data` is the training state to sample instead of the shipped weights, or None."""

    def __init__(self, judges: Path, output: Path, data: Path | None, threads: int, compiled: bool):
        torch.set_num_threads(threads)
        self.sides = {side: Side.load(side, data) for side in FOLDERS}
        if compiled:
            for side in self.sides.values():
                side.unet.compile(dynamic=False)
        self.judges = {name: load_judge(judges / f"{name}.pt") for name in ("picture", "sound")}
        self.output = output

    def run(self, name: str, row: Row, batch: list[Sample]) -> list[dict]:
        """Make, judge and save the pictures of a batch; one record a sample."""
        began = time.perf_counter()
        pictures = self.imprinted(batch) if name == "imprint" else self.sampled(row, batch)
        seen = verdicts(self.judges["picture"], pictures, [sample.image_class for sample in batch])
        sounded = verdicts(self.judges["sound"], heard(pictures), [sample.audio_class for sample in batch])
        seconds = (time.perf_counter() - began) / len(batch)
        records = []
        for sample, picture, look, sound in zip(batch, pictures, seen, sounded, strict=True):
            path = picture_path(self.output, name, sample)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((picture * 255).round().byte().numpy()).save(path)
            records.append({"row": name, **asdict(row), **asdict(sample), "picture": look, "sound": sound, "seconds": round(seconds, 2)})
        return records

    def sampled(self, row: Row, batch: list[Sample]) -> Tensor:
        """Pictures (B, 256, 1024) in 0..1."""
        joint = row.image_guidance is not None and row.audio_guidance is not None
        experts = []
        if row.image_guidance is not None:
            predict = self.sides["image"].predictor([sample.image_prompt for sample in batch], row.image_guidance)
            experts.append(Expert(predict, start=1000 * T_IMAGE if joint else 1000))
        if row.audio_guidance is not None:
            experts.append(Expert(self.sides["audio"].predictor([sample.audio_prompt for sample in batch], row.audio_guidance)))
        noise = torch.cat([torch.randn(1, 4, 32, 128, generator=torch.Generator().manual_seed(sample.seed)) for sample in batch])
        return decode(ddim(partial(compose, experts), noise, steps=row.steps), None)

    def imprinted(self, batch: list[Sample]) -> Tensor:
        """The saved pictures of the row "image" imprinted on those of the row "audio"."""
        loaded = []
        for name in ("image", "audio"):
            paths = [picture_path(self.output, name, sample) for sample in batch]
            missing = [path for path in paths if not path.exists()]
            if missing:
                raise FileNotFoundError(f"imprint is made of the rows image and audio: {missing[0]} is not there. Run these rows first.")
            loaded.append(torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in paths])).float() / 255)
        return imprint(loaded[0][:, None], loaded[1], RHO)


def picture_path(output: Path, row: str, sample: Sample) -> Path:
    return output / row / f"{sample.index:04d}.png"


@torch.no_grad()
def heard(pictures: Tensor) -> Tensor:
    """Pictures (B, 256, W) of how pictures (B, 256, W) sound, as loud as a recording."""
    waveforms = griffin_lim(spectrogram.picture_to_mel(pictures), iterations=GRIFFIN_LIM_ITERATIONS)
    return spectrogram.waveform_to_picture(spectrogram.normalize_peak(waveforms))


@torch.no_grad()
def verdicts(judge: Judge, pictures: Tensor, wanted: list[str]) -> list[dict]:
    """For each picture the class that the judge names, whether it is the wanted one, and the wanted one's probability."""
    probabilities = judge(pictures).softmax(dim=1)
    named = [judge.classes[i] for i in probabilities.argmax(dim=1).tolist()]
    return [
        {"named": name, "right": name == label, "probability": round(float(p[judge.classes.index(label)]), 4)}
        for name, label, p in zip(named, wanted, probabilities, strict=True)
    ]


def digest(paths: list[Path]) -> str:
    """Short sha256 of files' contents."""
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in sorted(paths))).hexdigest()[:16]


def fingerprints(judges: Path, data: Path | None) -> dict[str, str]:
    """What a record depends on beside its settings."""
    weights = [path for folder in FOLDERS.values() for path in folder.rglob("*.safetensors") if "vocoder" not in path.parts]
    if data is not None:
        weights += [data / f"unet-{side}" / "checkpoint.pt" for side in FOLDERS]
    return {"models": digest(weights), "judges": digest([judges / "picture.pt", judges / "sound.pt"])}


def remaining(path: Path, name: str, row: Row, listed: list[Sample], fixed: dict[str, str]) -> list[Sample]:
    """The samples of a row that have no record yet. Raises ValueError if the file holds the row under other settings."""
    done = set()
    for line in path.read_text().splitlines() if path.exists() else ():
        record = json.loads(line)
        if record["row"] != name:
            continue
        different = {key: (record[key], value) for key, value in {**asdict(row), **fixed}.items() if record[key] != value}
        if different:
            raise ValueError(f"{path} holds the row {name} with other settings (there, here): {different}. Give another --output.")
        done.add(record["index"])
    return [sample for sample in listed if sample.index not in done]


_bench: Bench


def start(*args) -> None:
    global _bench
    _bench = Bench(*args)


def work(task: tuple[str, Row, list[Sample]]) -> list[dict]:
    return _bench.run(*task)


def batches(listed: list[Sample]) -> Iterator[list[Sample]]:
    for first in range(0, len(listed), BATCH):
        yield listed[first : first + BATCH]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", choices=ROWS)
    parser.add_argument("--prompts", choices=PROMPTS, default="test")
    parser.add_argument("--count", type=int, default=210, help="samples a row")
    parser.add_argument("--steps", type=int, help="instead of the row's own")
    parser.add_argument("--image-guidance", type=float, help="instead of the row's own")
    parser.add_argument("--audio-guidance", type=float, help="instead of the row's own")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--judges", type=Path, default=Path("data/judges"))
    parser.add_argument("--training", type=Path, metavar="DATA", help="sample the checkpoints of this data folder, not the shipped UNets")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument("--compile", action="store_true", help="torch.compile: some 0.8 of the time; needs a C++ compiler")
    args = parser.parse_args()

    fixed = {"prompts": args.prompts, **fingerprints(args.judges, args.training)}
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / "records.jsonl"
    setup = (args.judges, args.output, args.training, args.threads, args.compile)
    with multiprocessing.get_context("spawn").Pool(args.workers, start, setup) as pool, path.open("a") as file:
        for name in args.rows:
            row = changed(ROWS[name], args.steps, args.image_guidance, args.audio_guidance)
            left = remaining(path, name, row, samples(PROMPTS[args.prompts], args.count), fixed)
            began, done = time.monotonic(), 0
            for records in pool.imap_unordered(work, [(name, row, batch) for batch in batches(left)]):
                file.writelines(json.dumps({**record, **fixed}) + "\n" for record in records)
                file.flush()
                done += len(records)
                each = (time.monotonic() - began) / done
                print(f"{name}: {done} of {len(left)}, {each:.1f} s a sample, {each * (len(left) - done) / 60:.0f} min left", flush=True)


if __name__ == "__main__":
    main()
