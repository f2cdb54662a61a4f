"""Carry the UNets' training data to a machine with a GPU and without a network, in less than 40 MB.

    python -m lab.train.pack --data data --output pack                # here: drawings, quantised sounds, the latent code
    python -m lab.train.pack --unpack pack --data data --processes 14    # there, beside `on_gpu.py`

The pictures travel as the drawings that they are composed of: unpacking composes them with every process's own seed, in shards of
<data>/latents-image/ that a training which runs already takes up (14 processes of an H100's machine made 71 435 canvases in 100 seconds).
The sounds travel as latents in steps of STEP, whose rounding deviates by a fourteenth of what they do. Prompts are embedded there, by the
committed text encoders.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .canvases import flipped
from .drawn import FIRS, SEED, apart, learnt
from .embeddings import MODELS, PROMPTS_OF, embed
from .latent_code import LatentCode
from .typical import apart_drawings, learnt_drawings

STEP = 0.1  # the latents of sounds deviate by 0.4
PART = 700  # sounds a file
SHARD = 400  # canvases a file
SOUNDS = ("train", "pairs", "dev")


def pack_drawings(data: Path, output: Path) -> None:
    """drawings.npz: "learnt/<class>/<name>" and "apart/<class>" -> uint8 [2, 256, 256]."""
    drawings = {f"learnt/{label}/{name}": drawing for label, named in learnt_drawings(data).items() for name, drawing in named.items()}
    drawings |= {f"apart/{label}": drawing for label, drawing in apart_drawings(data).items()}
    np.savez_compressed(output / "drawings.npz", names=np.array(list(drawings)), pixels=np.stack(list(drawings.values())))


def unpacked_drawings(pack: Path) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """What `typical.learnt_drawings` and `typical.apart_drawings` gave."""
    learnt_ones: dict[str, dict[str, np.ndarray]] = {}
    apart_ones = {}
    with np.load(pack / "drawings.npz") as file:
        for path, drawing in zip(file["names"], file["pixels"], strict=True):
            kind, label, *name = str(path).split("/", 2)
            if kind == "apart":
                apart_ones[label] = drawing
            else:
                learnt_ones.setdefault(label, {})[name[0]] = drawing
    return learnt_ones, apart_ones


def pack_sounds(data: Path, output: Path, code: LatentCode) -> None:
    """sounds-<split>-<part>.npz: latents in steps of STEP as int8 (n, 4, 32, 128), and their classes."""
    for split in SOUNDS:
        pictures = np.load(data / "sounds" / f"{split}.npy", mmap_mode="r")
        labels = [entry["class"] for entry in json.loads((data / "sounds" / f"{split}.json").read_text())]
        for part, start in enumerate(range(0, len(labels), PART)):
            latents = torch.cat(
                [code.encode(np.array(pictures[i : min(i + 50, start + PART)])) for i in range(start, min(start + PART, len(labels)), 50)]
            )
            steps = (latents / STEP).round().clamp(-128, 127).to(torch.int8)
            np.savez_compressed(output / f"sounds-{split}-{part}.npz", steps=steps.numpy(), labels=labels[start : start + PART])


def save_shard(latents: Tensor, labels: list[str], file: Path) -> None:
    """{latents: (n, 4, 32, 128) half, labels: keys of the prompts' embeddings}, whole or not at all."""
    torch.save({"latents": latents.half(), "labels": labels}, file.with_suffix(".part"))
    file.with_suffix(".part").replace(file)


def unpack_sounds(pack: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(pack.glob("sounds-*.npz")):
        with np.load(file) as part:
            kind = "apart" if "-dev-" in file.name else "learnt"
            save_shard(
                torch.from_numpy(part["steps"]).float() * STEP, [str(label) for label in part["labels"]], folder / f"{kind}-{file.stem}.pt"
            )


def batched(items: Iterable, size: int) -> Iterator[tuple]:
    """As itertools.batched, which Python 3.11 has not."""
    iterator = iter(items)
    while batch := tuple(itertools.islice(iterator, size)):
        yield batch


def shards(canvases: Iterable[tuple[np.ndarray, dict]], code: LatentCode, size: int) -> Iterator[tuple[Tensor, list[str]]]:
    """Latents (size, 4, 32, 128) of so many canvases at a time, and the keys of their prompts."""
    for batch in batched(canvases, size):
        pictures, entries = zip(*batch, strict=True)
        yield code.encode(np.stack(pictures)), [entry["prompts"] for entry in entries]


def compose(pack: Path, folder: Path, seed: int) -> None:
    """The canvases of one seed, in shards as they come."""
    torch.set_num_threads(1)
    drawings, _ = unpacked_drawings(pack)
    code = LatentCode.load(pack / "latent_code.npz")
    for index, (latents, labels) in enumerate(shards(learnt(drawings, seed=seed), code, SHARD)):
        save_shard(latents, labels, folder / f"learnt-{index:03d}-{seed:03d}.pt")


def unpack_pictures(pack: Path, folder: Path, processes: int) -> None:
    """The canvases that are not learnt, at once; then those that are, by as many seeds as processes, in shards."""
    folder.mkdir(parents=True, exist_ok=True)
    drawings, unlearnt = unpacked_drawings(pack)
    code = LatentCode.load(pack / "latent_code.npz")
    firs = [flipped(drawings["tree"][name], np.random.default_rng(0)) for name in FIRS]
    for latents, labels in shards(apart(unlearnt, firs), code, len(unlearnt)):
        save_shard(latents, labels, folder / "apart.pt")
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(compose, pack, folder, SEED + 100 * index) for index in range(processes)]:
            done.result()


def unpack_texts(data: Path) -> None:
    for side, prompts in PROMPTS_OF.items():
        (data / f"text-{side}").mkdir(parents=True, exist_ok=True)
        torch.save(embed(MODELS / f"embedded-{side}", prompts(random.Random(0))), data / f"text-{side}" / "drawn.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--output", type=Path, help="folder to pack into")
    way.add_argument("--unpack", type=Path, help="folder that was packed")
    parser.add_argument("--sides", nargs="+", choices=("image", "audio"), default=("image", "audio"))
    parser.add_argument("--processes", type=int, default=14)
    args = parser.parse_args()

    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        code = LatentCode.load(args.data / "latent_code.npz")
        code.save(args.output / "latent_code.npz")
        if "image" in args.sides:
            pack_drawings(args.data, args.output)
        if "audio" in args.sides:
            pack_sounds(args.data, args.output, code)
        for file in sorted(args.output.iterdir()):
            print(f"{file.stat().st_size / 1e6:7.2f} MB  {file.name}")
        return
    if "audio" in args.sides:
        unpack_sounds(args.unpack, args.data / "latents-audio")
    if "image" in args.sides:
        unpack_texts(args.data)
        unpack_pictures(args.unpack, args.data / "latents-image", args.processes)


if __name__ == "__main__":
    main()
