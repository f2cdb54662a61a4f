"""Write a trained side as a diffusers folder in half precision, and check that both sides stay within 24 MB.

    python -m lab.train.export --side image --data data     # -> models/embedded-image
    python -m lab.train.export --side audio --data data     # -> models/embedded-audio
    python -m lab.train.export --side audio --data data --output output/audio    # to try with `lab.evaluate run --audio`

Takes the averaged weights of data/unet-<side>/checkpoint.pt, and the text encoder and tokenizer of data/text-<side>. The vocoder is
put beside them by `train_vocoder.py --export`, and the VAE of both into the image side's by `train_vae.py --export`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors.torch import load_file, save_file

from .denoiser_training import trained
from .train_unet import SOURCES, unet_of

MODELS = Path(__file__).resolve().parents[2] / "models"
BUDGET = 24_000_000
COMPONENTS = {
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "safety_checker": [None, None],
}


def export(side: str, data: Path, folder: Path) -> None:
    """Write model_index.json, scheduler/, text_encoder/, tokenizer/ and unet/ of one side into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    trained(unet_of(side), data / f"unet-{side}").half().save_pretrained(folder / "unet")
    for name in ("text_encoder", "tokenizer"):
        shutil.copytree(data / f"text-{side}" / name, folder / name, dirs_exist_ok=True)
    # transformers 5 saves without the prefix that SD 1.5's own file has, and that transformers 4 needs; both read it with the prefix.
    text = load_file(data / f"text-{side}" / "text_encoder" / "model.safetensors")
    text = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in text.items()}
    save_file(text, folder / "text_encoder" / "model.safetensors", metadata={"format": "pt"})
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
    scheduler.save_pretrained(folder / "scheduler")
    parts = COMPONENTS if side == "image" else COMPONENTS | {"vae": [None, None]}  # the image side's is both models'
    index = {"_class_name": "StableDiffusionPipeline", **parts, "requires_safety_checker": False}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=SOURCES, required=True)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--output", type=Path, help="folder to write instead of the shipped one")
    args = parser.parse_args()

    export(args.side, args.data, args.output or MODELS / f"embedded-{args.side}")
    sizes = {path: path.stat().st_size for name in SOURCES for path in (MODELS / f"embedded-{name}").rglob("*") if path.is_file()}
    for path, size in sorted(sizes.items(), key=lambda item: -item[1])[:8]:
        print(f"{size / 1e6:6.2f} MB  {path.relative_to(MODELS)}")
    total = sum(sizes.values())
    print(f"{total / 1e6:6.2f} MB in all")
    if total > BUDGET:
        raise SystemExit(f"the embedded models take {total / 1e6:.1f} MB, more than the {BUDGET / 1e6:.0f} MB they may")


if __name__ == "__main__":
    main()
