"""Tokenizer and text encoder of one side, trained to say what a prompt names, one thing or two; then the embeddings for the UNet.

    python -m lab.train.train_text --side image --data data
    python -m lab.train.train_text --side audio --data data

Writes data/text-<side>/: tokenizer/ and text_encoder/ as diffusers lays them out, tokenizer/words.json (the known words) and embeddings.pt
({label: (prompts, 77, 128) half}, a label being a class or two; the key "" holds the empty prompt). Four minutes on one CPU core. The
encoder is frozen from here on.

A prompt is padded with the end token, as CLIP's is in SD 1.5; attention is causal, so each of the some 70 padding positions can carry the
whole prompt's meaning. That is where the classes are read, and what the UNet's cross-attention mostly sees.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import pre_tokenizers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .prompts import PLUS, SUBJECTS, draw_prompt, words

LENGTH = 77
WIDTH = 128
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_pair_merges(spelled: list[list[str]]) -> list[tuple[str, str]]:
    """Merges, most frequent first and equal ones by the alphabet, that make each of the words one token.

    The library's trainer breaks ties by chance, and trained weights go with one order of the merges.
    """
    merges = []
    while pairs := Counter(pair for word in spelled for pair in pairwise(word)):
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append((left, right))
        spelled = [_merged(word, left, right) for word in spelled]
    return merges


def _merged(word: list[str], left: str, right: str) -> list[str]:
    symbols: list[str] = []
    for symbol in word:
        if symbol == right and symbols and symbols[-1] == left:
            symbols[-1] = left + right
        else:
            symbols.append(symbol)
    return symbols


def write_tokenizer(vocabulary: list[str], folder: Path) -> None:
    """CLIP's byte-level BPE with merges that make every word of `vocabulary` one token; other words fall apart into pieces."""
    merges = byte_pair_merges([[*word[:-1], f"{word[-1]}</w>"] for word in vocabulary])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{character}</w>" for character in alphabet), *("".join(pair) for pair in merges), START, END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(dict.fromkeys(tokens))}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges))
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "do_lower_case": True, "errors": "replace", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "words.json").write_text(json.dumps(vocabulary, indent=0) + "\n")


def build_encoder(vocabulary_size: int) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=vocabulary_size,
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        hidden_act="quick_gelu",
        bos_token_id=vocabulary_size - 2,
        eos_token_id=vocabulary_size - 1,
        pad_token_id=vocabulary_size - 1,
    )
    return CLIPTextModel(config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=SUBJECTS, required=True)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--prompts", type=int, default=150, help="drawn embeddings kept for each class, and a fifth as many for each pair")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    folder = args.data / f"text-{args.side}"
    vocabulary = words(args.side)
    write_tokenizer(vocabulary, folder / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    broken = [word for word in vocabulary if len(tokenizer(word)["input_ids"]) != 3]
    if broken:
        raise RuntimeError(f"these words are not one token each: {broken}")

    def tokens(prompts: list[str]) -> torch.Tensor:
        return tokenizer(prompts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")["input_ids"]

    labels = list(SUBJECTS[args.side])
    encoder = build_encoder(len(tokenizer))
    pairs = [PLUS.join(pair) for pair in combinations(labels, 2)]
    head = nn.Linear(WIDTH, len(labels))
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=args.steps)
    print(f"{sum(p.numel() for p in encoder.parameters()) / 1e6:.2f} M parameters, {len(vocabulary)} words, {len(tokenizer)} tokens")

    def draw_batch(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens, and for each class whether the prompt names it: half the prompts one, a sixteenth none, the others two."""
        kinds = [rng.random() for _ in range(size)]
        drawn = ["" if kind < 1 / 16 else rng.choice(labels if kind < 9 / 16 else pairs) for kind in kinds]
        named = torch.tensor([[float(label in name.split(PLUS)) for label in labels] for name in drawn])
        return tokens([draw_prompt(args.side, name, rng) if name else "" for name in drawn]), named

    def logits(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ended = ids.eq(len(tokenizer) - 1)  # the end token, which is also the padding
        return head(encoder(ids).last_hidden_state[ended]), ended

    for step in range(args.steps):
        ids, targets = draw_batch(args.batch)
        scores, ended = logits(ids)
        wanted = targets.repeat_interleave(ended.sum(dim=1), dim=0)
        loss = F.binary_cross_entropy_with_logits(scores, 0.98 * wanted + 0.01)  # smoothed: embeddings need not grow without end
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(step, round(loss.item(), 4), flush=True)

    encoder.eval()
    with torch.no_grad():
        ids, targets = draw_batch(1000)
        scores, ended = logits(ids)
        right = (scores > 0).eq(targets.repeat_interleave(ended.sum(dim=1), dim=0) > 0.5).all(dim=1)
        counts = targets.sum(dim=1).repeat_interleave(ended.sum(dim=1))
        for count in (0, 1, 2):
            print(f"fresh prompts of {count} things: {right[counts == count].float().mean():.4f} of padding positions name just these")
        encoder.half().save_pretrained(folder / "text_encoder")
        # What the UNet learns from is what the exported half-precision weights give.
        encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
        kept = {"": encoder(tokens([""])).last_hidden_state.half()}
        for label in labels:
            prompts = SUBJECTS[args.side][label] + [draw_prompt(args.side, label, rng) for _ in range(args.prompts)]
            kept[label] = encoder(tokens(prompts)).last_hidden_state.half()
        for pair in pairs:
            kept[pair] = encoder(tokens([draw_prompt(args.side, pair, rng) for _ in range(args.prompts // 5)])).last_hidden_state.half()
    torch.save(kept, folder / "embeddings.pt")


if __name__ == "__main__":
    main()
