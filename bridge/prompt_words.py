"""The tokenizer of a folder; where the folder lists the words that its text encoder learnt, prompts are kept to those words.

A small text encoder learnt a few hundred words. Any other would reach it as letters it never saw in that order, and spoil the picture; so
only known words and commas reach the encoder, and one log line per prompt names the others with the nearest known words. The list is
`tokenizer/words.json`; folders without it (Stable Diffusion, Auffusion) are tokenized as they are.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from pathlib import Path
from typing import Any

from comfy.sd1_clip import SDTokenizer, escape_important, token_weights, unescape_important

from ..itsound_core.weights import ODD_CONTENT
from .model_configs import COPY_AGAIN, read_json
from .tokenizer_files import require_tokenizer

WORDS_FILE = "words.json"
WORD_OR_COMMA = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|,")
EMBEDDING = re.compile(r"embedding:\S+")
NEAREST = 3

logger = logging.getLogger(__name__)


class FolderTokenizer(SDTokenizer):
    """The CLIP tokenizer of a diffusers folder, padding with that folder's own padding token."""

    def __init__(self, folder: Path, max_length: int, embedding_size: int, embedding_directory: list[str] | None = None) -> None:
        super().__init__(str(folder), max_length=max_length, embedding_size=embedding_size, embedding_directory=embedding_directory)
        self.pad_token = self.tokenizer.pad_token_id


class KnownWordsTokenizer(FolderTokenizer):
    """Tokenizes only the words of `tokenizer/words.json`, and logs one warning per prompt for the others."""

    def __init__(self, folder: Path, max_length: int, embedding_size: int, embedding_directory: list[str] | None = None) -> None:
        super().__init__(folder, max_length, embedding_size, embedding_directory)
        self.tokenizer = KnownWords(self.tokenizer, _read_words(folder / WORDS_FILE))

    def tokenize_with_weights(self, text: str, *args: Any, **kwargs: Any) -> list[list[tuple]]:
        """As SDTokenizer's: rows of (token, weight)."""
        prose = " ".join(segment for segment, _ in token_weights(escape_important(text), 1.0))
        unknown = self.tokenizer.unknown(EMBEDDING.sub("", unescape_important(prose)))
        if unknown:
            nearest = "; ".join(f'"{word}" (nearest known: {", ".join(self.tokenizer.nearest(word))})' for word in unknown)
            logger.warning('Prompt "%s": these words are unknown to the text encoder and left out: %s.', text, nearest)
        return super().tokenize_with_weights(text, *args, **kwargs)


def _read_words(path: Path) -> list[str]:
    words = read_json(path, list)
    if not words or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{path} must be a list of words. {COPY_AGAIN}")
    return words


class KnownWords:
    """A tokenizer that sees the words of its list and commas, nothing else. Case does not matter, and "dog's" is read as "dog"."""

    def __init__(self, tokenizer: Any, words: list[str]) -> None:
        self.tokenizer = tokenizer
        self.words = set(words)

    def __call__(self, text: str) -> Any:
        return self.tokenizer(" ".join(filter(None, map(self._known, WORD_OR_COMMA.findall(text)))))

    def decode(self, *args: Any, **kwargs: Any) -> str:
        return self.tokenizer.decode(*args, **kwargs)

    def unknown(self, text: str) -> list[str]:
        """The unknown words of a text in lower case, each once, in the text's order."""
        return list(dict.fromkeys(word.lower() for word in WORD_OR_COMMA.findall(text) if not self._known(word)))

    def nearest(self, word: str) -> list[str]:
        """The known words that are spelt most like it."""
        return difflib.get_close_matches(word, self.words, NEAREST, cutoff=0.0)

    def _known(self, word: str) -> str | None:
        word = word.lower()
        return next((form for form in (word, re.split("['’]", word)[0]) if form == "," or form in self.words), None)


def load_tokenizer(folder: Path, max_length: int, embedding_size: int, embedding_directory: list[str] | None = None) -> FolderTokenizer:
    """The tokenizer of a folder. Raises ValueError where it has none, or where one of its files is damaged or does not fit another."""
    require_tokenizer(folder)
    tokenizer_class = KnownWordsTokenizer if os.path.isfile(folder / WORDS_FILE) else FolderTokenizer
    try:
        tokenizer = tokenizer_class(folder, max_length, embedding_size, embedding_directory)
    except ValueError:
        raise
    except Exception as error:  # what transformers raises of odd settings differs with its version; nothing in there asks for an interrupt
        said = "a setting is of another kind than is needed" if isinstance(error, ODD_CONTENT) else error
        raise ValueError(
            f"{folder}: its tokenizer cannot be built from tokenizer_config.json and what is beside it: {said}. {COPY_AGAIN}"
        ) from error
    special = {"start": tokenizer.start_token, "end": tokenizer.end_token, "padding": tokenizer.pad_token}
    missing = [name for name, token in special.items() if token not in tokenizer.inv_vocab]
    if missing:
        raise ValueError(f"{folder}: tokenizer_config.json gives no token for {', '.join(missing)}. {COPY_AGAIN}")
    return tokenizer
