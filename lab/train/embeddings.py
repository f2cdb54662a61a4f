"""Embeddings of the prompts by which what is learnt is called, by a text encoder that is there already.

    python -m lab.train.embeddings --data data [--side audio] [--encoder models/embedded-audio]

Writes data/text-<side>/drawn.pt, {key: (prompts, 77, 128) half}: a key is `prompts.called`'s for a class, or two joined by +, and a manner
for a picture, the class or two for a sound; "" holds the empty prompt.

The encoder stays as it is, so every model that was trained with it goes on to fit. A minute on one core.
"""

from __future__ import annotations

import argparse
import random
from itertools import combinations
from pathlib import Path

import torch
from transformers import CLIPTextModel, CLIPTokenizer

from .prompts import PLUS, SUBJECTS, called, draw_prompt

MODELS = Path(__file__).resolve().parents[2] / "models"
MANNERS = ("row", "scene", "engraving")
PROMPTS, PAIR_PROMPTS = 120, 24  # of a class in one manner, of a row of two classes


def drawn_prompts(rng: random.Random) -> dict[str, list[str]]:
    """Prompts by key: the first of a class and manner is its plainest, the wordings of the class follow where the manner needs no word."""
    labels = SUBJECTS["image"]
    kept = {"": [""]}
    for label in labels:
        for manner in MANNERS:
            plain = labels[label] if manner != "engraving" else [f"{wording}, lithograph style" for wording in labels[label]]
            kept[called(label, manner)] = plain + [draw_prompt("image", label, rng, manner=manner) for _ in range(PROMPTS)]
    for pair in map(PLUS.join, combinations(labels, 2)):
        kept[called(pair, "row")] = [draw_prompt("image", pair, rng, manner="row") for _ in range(PAIR_PROMPTS)]
    return kept


def sound_prompts(rng: random.Random) -> dict[str, list[str]]:
    """Prompts by class, or two joined by +: the plainest first."""
    labels = SUBJECTS["audio"]
    kept = {"": [""]} | {label: labels[label] + [draw_prompt("audio", label, rng) for _ in range(PROMPTS)] for label in labels}
    for pair in map(PLUS.join, combinations(labels, 2)):
        kept[pair] = [draw_prompt("audio", pair, rng) for _ in range(PAIR_PROMPTS)]
    return kept


PROMPTS_OF = {"image": drawn_prompts, "audio": sound_prompts}


@torch.no_grad()
def embed(folder: Path, prompts: dict[str, list[str]]) -> dict[str, torch.Tensor]:
    """Last hidden states (prompts, 77, width) in half precision, by the tokenizer and text encoder in a diffusers folder."""
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
    embeddings = {}
    for key, wordings in prompts.items():
        ids = tokenizer(wordings, padding="max_length", truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt")
        embeddings[key] = encoder(ids["input_ids"]).last_hidden_state.half()
    return embeddings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--side", choices=PROMPTS_OF, default="image")
    parser.add_argument("--encoder", type=Path, help="diffusers folder; the shipped model's, where none is named")
    args = parser.parse_args()

    torch.set_num_threads(1)
    embeddings = embed(args.encoder or MODELS / f"embedded-{args.side}", PROMPTS_OF[args.side](random.Random(0)))
    folder = args.data / f"text-{args.side}"
    folder.mkdir(exist_ok=True)
    torch.save(embeddings, folder / "drawn.pt")
    print(f"{sum(map(len, embeddings.values()))} prompts of {len(embeddings)} kinds")


if __name__ == "__main__":
    main()
