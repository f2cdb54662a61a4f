"""Sheets of samples from the embedded models, to look at and to choose defaults by.

    python -m lab.train.sample image --output output/pictures.png                      # one row a class, the image model alone
    python -m lab.train.sample audio --output output/sounds.png --wav                  # likewise the audio model
    python -m lab.train.sample joint --output output/joint.png --wav                   # both at once, on the preset pairs
    python -m lab.train.sample joint --image "a drawing of bells" --audio "dog barking" --samples 4

Reads models/embedded-*; with --training, the newest checkpoints in data/ instead, decoded by the linear code. Sampling is itsound_core's
DDIM and composition on diffusers' UNets: what the ComfyUI nodes are tested against.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import soundfile
import torch
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from .denoiser_training import trained
from .latent_code import LatentCode
from .prompts import SUBJECTS
from .train_unet import unet_of

ROOT = Path(__file__).resolve().parents[2]
from itsound_core import presets, spectrogram  # noqa: E402
from itsound_core.composition import Expert, compose  # noqa: E402
from itsound_core.embedded import IMAGE_FOLDER, MODELS, VOCODER_FOLDER  # noqa: E402
from itsound_core.sampling import ddim  # noqa: E402
from itsound_core.vocoder import load_vocoder  # noqa: E402
from lab.evaluate.models import Side, decode, load_vae  # noqa: E402


def load_side(side: str, data: Path | None) -> Side:
    """From models/, or from the training state in `data`."""
    if data is None:
        return Side.load(MODELS / f"embedded-{side}")
    untrained, text = unet_of(side), data / f"text-{side}"
    text_encoder = CLIPTextModel.from_pretrained(text / "text_encoder", dtype=torch.float32).eval()
    return Side(trained(untrained, data / f"unet-{side}").eval(), CLIPTokenizer.from_pretrained(text / "tokenizer"), text_encoder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("image", "audio", "joint"))
    parser.add_argument("--image", nargs="*", help="picture prompts")
    parser.add_argument("--audio", nargs="*", help="sound prompts")
    parser.add_argument("--samples", type=int, default=2, help="samples of each prompt or pair")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--image-guidance", type=float, default=10.0)
    parser.add_argument("--audio-guidance", type=float, default=10.0)
    parser.add_argument("--audio-weight", type=float, default=0.5)
    parser.add_argument("--t-image", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("output/samples.png"))
    parser.add_argument("--wav", action="store_true", help="also the sounds, by the vocoder")
    parser.add_argument("--training", action="store_true", help="sample the checkpoints in --data")
    parser.add_argument("--data", type=Path, default=Path("data"))
    args = parser.parse_args()

    data = args.data if args.training else None
    if args.mode == "joint":
        pictures = args.image or [twin.embedded.image for twin in presets.EMBEDDED_TWINS]
        sounds = args.audio or [twin.embedded.audio for twin in presets.EMBEDDED_TWINS]
        prompts = list(zip(pictures, sounds, strict=True))
    elif args.mode == "image":
        prompts = [(prompt, "") for prompt in args.image or [f"a drawing of {wordings[1]}" for wordings in SUBJECTS["image"].values()]]
    else:
        prompts = [("", prompt) for prompt in args.audio or [wordings[0] for wordings in SUBJECTS["audio"].values()]]
    prompts = [pair for pair in prompts for _ in range(args.samples)]

    experts = []
    if args.mode != "audio":
        predict = load_side("image", data).predictor([picture for picture, _ in prompts], args.image_guidance)
        start = args.t_image * 1000 if args.mode == "joint" else 1000
        experts.append(Expert(predict, weight=1.0 - args.audio_weight if args.mode == "joint" else 1.0, start=start))
    if args.mode != "image":
        predict = load_side("audio", data).predictor([sound for _, sound in prompts], args.audio_guidance)
        experts.append(Expert(predict, weight=args.audio_weight if args.mode == "joint" else 1.0))

    noise = torch.randn(len(prompts), 4, 32, 128, generator=torch.Generator().manual_seed(args.seed))
    latents = ddim(partial(compose, experts), noise, steps=args.steps)
    if args.training:
        gray = LatentCode.load(args.data / "latent_code.npz").decode(latents)
    else:
        gray = decode(load_vae(IMAGE_FOLDER / "vae"), latents)

    args.output.parent.mkdir(parents=True, exist_ok=True)
    rows = (gray * 255).round().byte().reshape(-1, args.samples, 256, 1024).transpose(1, 2).reshape(-1, args.samples * 1024)
    Image.fromarray(rows.numpy()).save(args.output)
    for index, (picture, sound) in enumerate(prompts[:: args.samples]):
        print(f"row {index}: {' | '.join(filter(None, (picture, sound)))}")
    if args.wav:
        with torch.no_grad():
            waves = load_vocoder(VOCODER_FOLDER)(spectrogram.picture_to_log_mel(gray))
        for index, wave in enumerate(waves):
            soundfile.write(args.output.with_name(f"{args.output.stem}_{index:02d}.wav"), wave.numpy(), spectrogram.AUFFUSION.sample_rate)


if __name__ == "__main__":
    main()
