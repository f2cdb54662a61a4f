"""Write vocoder.safetensors beside a vocoder.pt: the same generator, weight norm folded, and no pickle to read any more.

    python tools/convert_vocoder.py ComfyUI/models/vocoders/auffusion

The folder has config.json and vocoder.pt, as Auffusion's `vocoder` has. LoadVocoder takes the new file from then on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import safetensors.torch

sys.path.append(str(Path(__file__).resolve().parent.parent))
from itsound_core.vocoder import WEIGHT_FILES, load_vocoder

SAFE = WEIGHT_FILES[0]


def convert(folder: Path) -> Path:
    """Path of the safetensors file written from the folder's vocoder.pt. Raises ValueError where there is one, or as load_vocoder does."""
    target = folder / SAFE
    if target.exists():
        raise ValueError(f"{target} is there already. Remove it to write it anew.")
    vocoder = load_vocoder(folder)
    unfinished = target.with_suffix(".partial")
    safetensors.torch.save_file(vocoder.state_dict(), unfinished)
    unfinished.replace(target)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with config.json and vocoder.pt")
    try:
        print(f"Wrote {convert(parser.parse_args().folder)}")
    except ValueError as error:
        sys.exit(f"convert_vocoder: {error}")


if __name__ == "__main__":
    main()
