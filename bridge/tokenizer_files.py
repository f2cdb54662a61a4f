"""The files of a byte-pair tokenizer, held against each other.

A cut list of merges loads without a word and spells every prompt in letters, so what no merge makes is looked for before it is used.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .model_configs import COPY_AGAIN, read_json

VOCABULARY, MERGES, WHOLE = "vocab.json", "merges.txt", "tokenizer.json"
BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
"""What transformers reads too, where it is there."""
END_OF_WORD = "</w>"
VERSION = "#version"


def require_tokenizer(folder: Path) -> None:
    """vocab.json with merges.txt, or tokenizer.json, or all three: each whole, every merge in the vocabulary, and no token without a merge.

    Letters and tokens in angle brackets need none. Raises ValueError naming the file, also for one of BESIDE that is no JSON object.
    """
    pair, whole = [os.path.isfile(folder / name) for name in (VOCABULARY, MERGES)], os.path.isfile(folder / WHOLE)
    if not whole and not all(pair):
        raise ValueError(f"{folder} has neither {WHOLE} nor {VOCABULARY} with {MERGES}. Copy the model's whole folder.")
    for name in BESIDE:
        if os.path.isfile(folder / name):
            read_json(folder / name)
    if all(pair):
        _require_agreement(folder / VOCABULARY, read_json(folder / VOCABULARY), folder / MERGES, _merges(folder / MERGES))
    if whole:
        model = read_json(folder / WHOLE).get("model")
        vocabulary, merges = (model.get("vocab"), model.get("merges")) if isinstance(model, dict) else (None, None)
        if not isinstance(vocabulary, dict) or not isinstance(merges, list):
            raise ValueError(f"{folder / WHOLE} has no byte-pair vocabulary and merges, as CLIP's has. {COPY_AGAIN}")
        pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else merge for merge in merges]
        _require_agreement(folder / WHOLE, vocabulary, folder / WHOLE, pairs)


def _merges(path: Path) -> list[list[str]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except ValueError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}). {COPY_AGAIN}") from error
    return [line.split() for line in lines if line.strip() and not line.startswith(VERSION)]


def _require_agreement(vocabulary_path: Path, vocabulary: dict[str, Any], merges_path: Path, merges: Sequence[Any]) -> None:
    numbers = vocabulary.values()
    if not vocabulary or any(type(number) is not int or number < 0 for number in numbers) or len(set(numbers)) < len(vocabulary):
        raise ValueError(f"{vocabulary_path} is no vocabulary: each token needs a number of its own, from 0. {COPY_AGAIN}")
    for number, merge in enumerate(merges, start=1):
        if not isinstance(merge, (list, tuple)) or len(merge) != 2 or not all(isinstance(part, str) for part in merge):
            raise ValueError(f"{merges_path}: merge {number} is not two tokens; the file is damaged. {COPY_AGAIN}")
    unknown = [token for left, right in merges for token in (left, right, left + right) if token not in vocabulary]
    if unknown:
        raise ValueError(
            f"{merges_path} has a merge of or into {unknown[0]!r}, which {vocabulary_path.name} lacks. Copy both from the same model."
        )
    made = {left + right for left, right in merges}
    orphans = [token for token in vocabulary if token not in made and not _is_whole(token)]
    if orphans:
        raise ValueError(
            f"{merges_path} is cut off, or of another model: it makes {len(made)} tokens, and {len(orphans)} more of "
            f"{vocabulary_path.name} ({orphans[0]!r}, ...) can never be reached. {COPY_AGAIN}"
        )


def _is_whole(token: str) -> bool:
    """Whether a token is there from the start: a letter, a letter that ends a word, or a token in angle brackets."""
    return len(token.removesuffix(END_OF_WORD)) <= 1 or (token.startswith("<") and token.endswith(">"))
