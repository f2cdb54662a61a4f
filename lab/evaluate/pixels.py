"""Experts that meet in pixels, each with a latent space and noise of its own, beside experts that share latents.

    OMP_NUM_THREADS=1 python -m lab.evaluate.pixels run development shared meet,every=1/3 --count 14 --output output/pixels
    python -m lab.evaluate.pixels tables output/pixels --set development
    python -m lab.evaluate.pixels sheet output/pixels color --set development --to output/pixels.png

Prompts and seeds are lab.evaluate's lists. A way is method,key=value,... (Way, below). Every way has the same noise where it has as much:
a side's own noise is drawn after the shared one. UNets and VAE in bfloat16 (a UNet's estimate is 0.3 % off). One JSON line a sample in
records.jsonl, what it shows and the canvas that is heard beside it; a killed run goes on where it stopped.

What is judged as picture and as sound is the decoded mean gray of the last step, one and the same for both sides, where their pictures are
of one size. The colour model's picture is its own, whose gray is that mean at a quarter of the size, which is all that the judge sees of
any picture; the sound is then that of the sound model's last latents, decoded.

- before: correlation of what the two sides would have shown had they not met at the last step
- correlation, fine: of the colour picture's gray with the canvas that is heard, at the picture's size and at the canvas's
- chroma: mean length of the colour part, in 0..1
- seconds: of a processor core, to make it; and in the records, played: what is heard of the colour picture's own gray
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from itsound_core import embedded
from itsound_core.colorize import split_gray
from itsound_core.composition import Expert, compose
from itsound_core.sampling import NoisePredictor, ddim, guided

from ..intervals import mean, mean_interval, percent
from .examine import Examiner
from .example_tables import Record, by_way
from .example_ways import changed, named
from .examples import read
from .folders import Folders
from .meeting import LatentSide, PixelSide, meet, resized
from .models import Side, load_vae
from .records import append
from .rows import EMBEDDED
from .samples import LISTS, Sample
from .tables import QUESTIONS

MEANS = {"clip": 1, "clap": 1, "before": 2, "correlation": 2, "fine": 2, "chroma": 2, "seconds": 0}
"""Means that are shown, with their decimals."""
LATENTS = (1, 4, 32, 128)
PIXELS = (1, 3, 64, 256)
SHARED = "shared"


@dataclass(frozen=True)
class Way:
    """A way to sample, as a record holds it.

    method: shared (latents, the joint sampling of the paper), meet (the two embedded UNets in pixels), color (the embedded colour model,
    in pixels, in place of the image UNet; without the sound where audio_weight is 0). every: steps from one meeting to the next;
    hold: 1 keeps between them what the last one corrected.
    """

    method: str = SHARED
    every: int = 1
    hold: int = 0
    audio_weight: float = 0.5
    image_guidance: float = 10.0
    audio_guidance: float = 10.0
    t_image: float = 0.9
    steps: int = 25

    @property
    def name(self) -> str:
        """What differs from the defaults."""
        return named(self)


@dataclass(frozen=True)
class Made:
    """shown: RGB or gray (B, 1 or 3, h, w) in 0..1; heard: the canvas (B, 256, 1024); before: correlation without the last meeting."""

    shown: Tensor
    heard: Tensor
    before: float | None = None


class Maker:
    """The embedded models, and samples of them by any way."""

    def __init__(self) -> None:
        self.folders = Folders()
        self.vae = load_vae(self.folders.vae).to(torch.bfloat16).to(memory_format=torch.channels_last)
        self.scale = self.vae.config["scaling_factor"]

    @cache  # noqa: B019  (it lives as long as the run)
    def side(self, name: str) -> Side:
        return Side.load(self.folders.of(name))

    @cache  # noqa: B019
    def unet(self, name: str) -> UNet2DConditionModel:
        if name != "color":
            return self.side(name).unet.to(torch.bfloat16)
        return UNet2DConditionModel.from_pretrained(
            embedded.COLOR_FOLDER, subfolder="unet", torch_dtype=torch.bfloat16, low_cpu_mem_usage=False
        ).eval()

    def predictor(self, name: str, prompt: str, guidance: float) -> NoisePredictor:
        unet, text = self.unet(name), self.side("image" if name == "color" else name)  # the colour model reads by the image model's encoder

        def model(latents: Tensor, timestep: Tensor, embeddings: Tensor) -> Tensor:
            return unet(latents.bfloat16(), timestep, embeddings, return_dict=False)[0].float()

        return guided(model, text.embed([prompt]).bfloat16(), text.embed([""]).bfloat16(), guidance)

    def decode(self, latents: Tensor) -> Tensor:
        scaled = (latents / self.scale).bfloat16().to(memory_format=torch.channels_last)
        return self.vae.decode(scaled, return_dict=False)[0].float()

    def encode(self, pixels: Tensor) -> Tensor:
        return self.vae.encode(pixels.bfloat16().to(memory_format=torch.channels_last)).latent_dist.mode().float() * self.scale

    def canvas(self, latents: Tensor) -> Tensor:
        """(B, 256, 1024) in 0..1."""
        return (split_gray(self.decode(latents))[0][:, 0] / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def make(self, way: Way, sample: Sample) -> Made:
        generator = torch.Generator().manual_seed(sample.seed)
        noise = torch.randn(LATENTS, generator=generator)
        picture = "color" if way.method == "color" else "image"
        image = Expert(self.predictor(picture, sample.image_prompt, way.image_guidance), 1 - way.audio_weight, 1000 * way.t_image)
        audio = Expert(self.predictor("audio", sample.audio_prompt, way.audio_guidance), way.audio_weight)
        if way.method == SHARED:
            canvas = self.canvas(ddim(partial(compose, [image, audio]), noise, way.steps))
            return Made(canvas[:, None], canvas)
        sound = LatentSide(audio, self.decode, self.encode)
        if way.method == "meet":
            own = torch.randn(LATENTS, generator=generator)
            met = meet([sound, LatentSide(image, self.decode, self.encode)], [noise, own], way.steps, way.every, way.hold == 1)
        else:
            scheduler = DDIMScheduler.from_pretrained(embedded.COLOR_FOLDER, subfolder="scheduler")
            own, color = torch.randn(PIXELS, generator=generator), PixelSide(image, scheduler.alphas_cumprod.double())
            if way.audio_weight == 0:
                [pixels] = meet([color], [own], way.steps).x0
                shown = pixels.clamp(-1, 1) / 2 + 0.5
                return Made(shown, resized(split_gray(shown)[0], sound.size)[:, 0])
            met = meet([sound, color], [noise, own], way.steps, way.every, way.hold == 1)
        before = None
        if met.before[0] is not None and met.before[1] is not None:
            before = correlation(resized(met.before[0], tuple(met.before[1].shape[-2:])), met.before[1])
        if way.method == "meet":
            return Made(met.after[0] / 2 + 0.5, met.after[0][:, 0] / 2 + 0.5, before)
        return Made(met.x0[1] / 2 + 0.5, self.canvas(met.x0[0]), before)


def correlation(one: Tensor, other: Tensor) -> float:
    """Of two pictures' pixels."""
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]).double())[0, 1])


@torch.no_grad()
def examined(examiner: Examiner, made: Made, sample: Sample) -> Record:
    """What judges and scorers say of it, and how well picture and sound are one."""
    row, [heard] = EMBEDDED["joint"], examiner(EMBEDDED["joint"], made.heard, [sample])
    if made.shown.shape[1] == 1:
        return heard | {"before": made.before}
    gray = split_gray(made.shown)[0]
    large = resized(gray, tuple(made.heard.shape[-2:])).clamp(0, 1)
    [shown] = examiner(row, large[:, 0], [sample])
    [color] = made.shown - gray
    return heard | {
        **{key: shown[key] for key in ("clip", "picture")},
        "before": made.before,
        "correlation": correlation(resized(made.heard[:, None], tuple(gray.shape[-2:])), gray),
        "fine": correlation(made.heard, large),
        "chroma": float(color.norm(dim=0).mean()),
        "played": shown["sound"],
    }


def run(prompts: str, ways: list[Way], folder: Path, first: int, count: int, judges: Path) -> None:
    """Make, examine and record what is not recorded yet."""
    folder.mkdir(parents=True, exist_ok=True)
    maker, examiner = Maker(), Examiner(Folders(judges=judges))
    done = {(record["set"], record["way"], record["index"]) for record in read(folder)}
    for way in ways:
        for sample in LISTS[prompts].samples(first, count):
            if (prompts, way.name, sample.index) in done:
                continue
            began = time.process_time()
            made = maker.make(way, sample)
            seconds = round(time.process_time() - began, 2)
            path = folder / prompts / way.name / f"{sample.index:03d}.png"
            save(path, made.shown[0])
            if made.shown.shape[1] > 1:
                save(path.with_suffix(".heard.png"), made.heard)
            record = {"set": prompts, "way": way.name, **asdict(sample), **examined(examiner, made, sample)}
            append(folder, [{**record, "seconds": seconds, "settings": asdict(way)}])
        print(table([r for r in read(folder) if r["set"] == prompts and r["way"] == way.name])[-1], flush=True)


def save(path: Path, picture: Tensor) -> None:
    """(1 or 3, H, W) in 0..1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = (255 * picture.clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(path)


def table(records: list[Record]) -> list[str]:
    """Markdown: a line a way, shares recognised with Wilson's interval, means with Student's; "-" where a way has no such figure."""
    lines = [f"| way | n | {' | '.join([f'{question}, %' for question in QUESTIONS])} | {' | '.join(MEANS)} |"]
    lines.append("|---" * (2 + len(QUESTIONS) + len(MEANS)) + "|")
    for way, group in by_way(records).items():
        cells = [percent(sum(map(asked, group)), len(group)) for asked in QUESTIONS.values()]
        for key, digits in MEANS.items():
            values = [record[key] for record in group if record.get(key) is not None]
            low, high = mean_interval(values)
            cells.append(f"{fmean(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})" if values else "-")
        lines.append(f"| {way} | {len(group)} | {' | '.join(cells)} |")
    return lines


def against(records: list[Record], name: str = SHARED) -> list[str]:
    """Markdown: each way less the way `name`, on the samples that both have: points recognised and scores, with Student's interval."""
    groups = by_way(records)
    there = {record["index"]: record for record in groups.pop(name, [])}
    lines = [f"| way, less {name} | n | {' | '.join([*QUESTIONS, 'clip', 'clap'])} | both: it alone, {name} alone |"]
    lines.append("|---" * (5 + len(QUESTIONS)) + "|")
    for way, group in groups.items():
        pairs = [(record, there[record["index"]]) for record in group if record["index"] in there]
        if pairs:
            won = [QUESTIONS["both"](here) - QUESTIONS["both"](other) for here, other in pairs]
            cells = [mean([100.0 * (asked(here) - asked(other)) for here, other in pairs]) for asked in QUESTIONS.values()]
            cells += [mean([here[key] - other[key] for here, other in pairs]) for key in ("clip", "clap")]
            lines.append(f"| {way} | {len(pairs)} | {' | '.join(cells)} | {won.count(1)}, {won.count(-1)} |")
    return lines


def sheet(folder: Path, way: Way, numbers: list[int], width: int = 512) -> Image.Image:
    """A line a sample: what it shows, and beside it the canvas that is heard where that is another."""
    rows = []
    for number in numbers:
        paths = [path for suffix in (".png", ".heard.png") if (path := folder / way.name / f"{number:03d}{suffix}").exists()]
        pictures = [Image.open(path).convert("RGB").resize((width, width // 4), Image.Resampling.BILINEAR) for path in paths]
        rows.append(np.concatenate([np.asarray(picture) for picture in pictures], axis=1))
    return Image.fromarray(np.concatenate(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="command")
    command = commands.add_parser("run", help="make, examine and record samples")
    command.add_argument("set", choices=LISTS)
    command.add_argument("ways", nargs="+", metavar="method,key=value/value,...")
    command.add_argument("--first", type=int, default=0, help="number of the first sample")
    command.add_argument("--count", type=int, default=14)
    command.add_argument("--judges", type=Path, default=Path("data/judges"))
    command.add_argument("--output", type=Path, required=True)
    command.set_defaults(do=lambda args: run(args.set, _ways(args.ways), args.output, args.first, args.count, args.judges))
    command = commands.add_parser("tables", help="Markdown, with 95 %% intervals")
    command.add_argument("folder", type=Path)
    command.add_argument("--set", choices=LISTS, default="test")
    command.set_defaults(do=_tables)
    command = commands.add_parser("sheet", help="what samples of a way look like")
    command.add_argument("folder", type=Path)
    command.add_argument("way")
    command.add_argument("--set", choices=LISTS, default="test")
    command.add_argument("--numbers", type=int, nargs="+", default=list(range(7)))
    command.add_argument("--to", type=Path, required=True)
    command.set_defaults(do=lambda args: sheet(args.folder / args.set, _ways([args.way])[0], args.numbers).save(args.to))
    args = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    args.do(args)


def _ways(texts: list[str]) -> list[Way]:
    return [way for text in texts for way in changed(Way(), text)]


def _tables(args: argparse.Namespace) -> None:
    records = [record for record in read(args.folder) if record["set"] == args.set]
    print("\n".join([*table(records), "", *against(records)]))


if __name__ == "__main__":
    main()
