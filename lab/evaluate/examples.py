"""Photos in sounds: examples as a model beside imprints and beside denoising a photo.

    OMP_NUM_THREADS=1 python -m lab.evaluate.examples run development examples,audio_weight=0.7/0.8 --every 2 --output output/examples
    python -m lab.evaluate.examples measure confirm output/examples        # saved canvases again, by today's measures
    python -m lab.evaluate.examples tables lab/results/examples --set confirm
    python -m lab.evaluate.examples sheet output/examples examples,audio_weight=0.7 --set confirm --to output/examples.jpg
    python -m lab.evaluate.examples times

Ways and their settings: example_ways.py. Every picture of a set meets every sound (example_pictures.py), each pair with noise of its own,
the same in every way; none is picked. One JSON line a sample in records.jsonl, its canvas beside it; a killed run goes on where it stopped.
25 DDIM steps; UNets and decoder in bfloat16, two thirds of the time (a UNet's estimate is 0.3 % off). Measures:

- picture: correlation of the sound, encoded again, with the picture repeated along the canvas with a gap or without, at the best shift and
  in the best of three widths, gaps left out; canvas: that of the canvas as it was made;
- pieces: mean correlation of windows of 1.28 s, each with that piece of the picture that it is most like;
- blocks: mean correlation within squares of 32 pixels at the picture's best shift: its lines, not its light and shade;
- clap: the embedded CLAP's score of the sound; right: whether, of the 14 sounds that it knows, it prefers this one;
- cycle_db: re-encoded difference; seconds: to make it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.utils.logging import disable_progress_bar

from itsound_core import spectrogram
from itsound_core.griffin_lim import griffin_lim

from .examine import GRIFFIN_LIM_ITERATIONS
from .example_maker import Maker, load
from .example_pictures import SETS
from .example_tables import Record, parts, sheet, table
from .example_ways import Way, parse
from .records import append

ROUNDS = 40


def read(folder: Path) -> list[Record]:
    """The records of a folder, the last of each sample; a half-written last line is left out."""
    found = {}
    for path, opened in ((folder / "records.jsonl.gz", gzip.open), (folder / "records.jsonl", open)):
        if path.exists():
            with opened(path, "rt", encoding="utf-8") as file:
                for line in file:
                    if line.endswith("}\n"):
                        record = json.loads(line)
                        found[record["set"], record["way"], record["index"]] = record
    return list(found.values())


@torch.no_grad()
def run(name: str, ways: list[Way], folder: Path, every: int = 1) -> None:
    """Make and record what is not recorded yet, of every pair of a set, or of `every` so manieth, over pictures and sounds alike."""
    folder.mkdir(parents=True, exist_ok=True)
    done = {(r["set"], r["way"], r["index"]) for r in read(folder)}
    material = SETS[name]
    maker = Maker(folder / name, material.seed)
    pairs = list(enumerate(product(material.pictures, material.sounds)))
    pairs = [pair for pair in pairs if sum(divmod(pair[0], len(material.sounds))) % every == 0]
    for way in ways:
        for index, (picture, sound) in pairs:
            if (name, way.name, index) in done:
                continue
            began, seed = time.perf_counter(), material.seed + index
            canvas, wave = maker.make(way, picture, sound, seed)
            seconds = round(time.perf_counter() - began, 2)
            found = maker.examine(canvas, wave, picture, sound)
            path = maker.path(way, index)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((255 * canvas.clamp(0, 1)).round().byte().numpy()).save(path)
            record = {"set": name, "way": way.name, "index": index, "picture_name": picture.name, "sound": sound, "seed": seed}
            append(folder, [{**record, **found, "seconds": seconds, "settings": asdict(way)}])
        numbers = {index for index, _ in pairs}
        print(
            table([r for r in read(folder) if r["set"] == name and r["way"] == way.name and r["index"] in numbers]).splitlines()[-1],
            flush=True,
        )


@torch.no_grad()
def measure(name: str, folder: Path) -> None:
    """Examine a set's saved canvases again; a recording's keeps no phase, and stays as it is."""
    material = SETS[name]
    maker = Maker(folder / name, material.seed)
    pictures = {picture.name: picture for picture in material.pictures}
    for record in read(folder):
        way = Way(**{**record["settings"], "sizes": tuple(record["settings"]["sizes"])})
        path = maker.path(way, record["index"])
        if record["set"] == name and way.method != "recording" and path.exists():
            canvas = load(path)
            wave = griffin_lim(spectrogram.picture_to_mel(canvas[None]), iterations=GRIFFIN_LIM_ITERATIONS)[0]
            append(folder, [{**record, **maker.examine(canvas, wave, pictures[record["picture_name"]], record["sound"])}])


@torch.no_grad()
def times() -> None:
    """Processor time of a step, in turn: the guided UNet (two estimates, float32 as it is shipped) and the examples' denoiser."""
    torch.set_num_threads(1)
    maker = Maker(Path(), 0)
    picture = SETS["confirm"].pictures[0]
    side, _ = maker.side("audio")
    unet, text = side.unet.float(), side.embed(["a bell", ""])
    latents, sigma = torch.randn(1, 4, 32, 128, generator=torch.Generator().manual_seed(0)), torch.tensor(3.0)
    steps: dict[str, Callable[[], Any]] = {"audio UNet with guidance": lambda: unet(latents.expand(2, -1, -1, -1), 500, text)}
    for coherence in (0, 41):
        denoiser = maker.denoiser(picture, Way(coherence=coherence))
        steps[f"examples, coherence {coherence}"] = lambda denoiser=denoiser: denoiser(latents, sigma)
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            began = time.process_time()
            step()
            taken[name].append(1000 * (time.process_time() - began))
    for name, values in taken.items():
        low, median, high = np.quantile(values, (0.05, 0.5, 0.95))
        print(f"{name}: {median:.1f} ms ({low:.1f} to {high:.1f})")


def _ways(texts: list[str]) -> Iterator[Way]:
    for text in texts:
        yield from parse(text)


def _tables(args: argparse.Namespace) -> None:
    records = [record for record in read(args.folder) if record["set"] == args.set]
    print(parts(records, args.by) if args.by else table(records))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="command")
    command = commands.add_parser("run", help="make, examine and record samples")
    command.add_argument("set", choices=SETS)
    command.add_argument("ways", nargs="+", metavar="method,key=value/value,...")
    command.add_argument("--every", type=int, default=1, help="2: every second pair")
    command.add_argument("--output", type=Path, required=True)
    command.set_defaults(do=lambda args: run(args.set, list(_ways(args.ways)), args.output, args.every))
    command = commands.add_parser("measure", help="examine saved canvases again")
    command.add_argument("set", choices=SETS)
    command.add_argument("folder", type=Path)
    command.set_defaults(do=lambda args: measure(args.set, args.folder))
    command = commands.add_parser("tables", help="Markdown, with 95 %% intervals")
    command.add_argument("folder", type=Path)
    command.add_argument("--set", choices=SETS, default="confirm")
    command.add_argument("--by", choices=("picture_name", "sound"), help="instead: means by picture or by sound")
    command.set_defaults(do=_tables)
    command = commands.add_parser("sheet", help="a row a way, a column a pair")
    command.add_argument("folder", type=Path)
    command.add_argument("ways", nargs="+")
    command.add_argument("--set", choices=SETS, default="confirm")
    command.add_argument("--pairs", type=int, nargs="+", default=[0, 7, 14, 21, 28, 35], help="numbers")
    command.add_argument("--to", type=Path, required=True)
    command.set_defaults(do=lambda args: sheet(args.folder / args.set, [way.name for way in _ways(args.ways)], args.pairs).save(args.to))
    commands.add_parser("times", help="of a step").set_defaults(do=lambda args: times())
    args = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    args.do(args)


if __name__ == "__main__":
    main()
