"""Prompts for a small text encoder: unknown words are left out and named once, everything else about a prompt works as usual."""

from __future__ import annotations

import importlib
import logging
import os

import pytest
from diffusers_folders import WORDS, vocabulary, write_tokenizer

if not os.environ.get("COMFYUI_PATH"):
    pytest.skip("needs ComfyUI", allow_module_level=True)

VOCABULARY = vocabulary()


@pytest.fixture(scope="module")
def tokenize(pack, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, words_file=True)
    module = importlib.import_module(pack.__name__ + ".bridge.prompt_words")
    return module.load_tokenizer(folder, max_length=77, embedding_size=32).tokenize_with_weights


@pytest.fixture
def warnings(caplog):
    def messages():
        return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]

    return messages


def content(rows):
    """(word, weight) of the tokens between the start and the padding."""
    names = {index: token.removesuffix("</w>") for token, index in VOCABULARY.items()}
    end = VOCABULARY["<|endoftext|>"]
    return [(names[token], weight) for row in rows for token, weight in row[1:] if token != end]


@pytest.mark.parametrize(
    "prompt",
    [
        "a drawing of a castle",
        "A Drawing, of a CASTLE.",
        "dog's bell!",
        "a (bell:1.2) ringing, ((dog))",
        "castle-bell; (a \\(dog\\))",
        "",
    ],
)
def test_known_words_raise_no_warning(tokenize, warnings, prompt):
    tokenize(prompt)

    assert warnings() == []


def test_unknown_words_are_named_once_with_the_nearest_known(tokenize, warnings):
    tokenize("a drawing of a castel, (Zebra:1.3) zebra")

    (message,) = warnings()
    assert '"castel" (nearest known: castle, ' in message
    assert message.count('"zebra"') == 1


def test_unknown_words_do_not_reach_the_encoder(tokenize):
    assert tokenize("a drawing of a (purple:1.4) castle") == tokenize("a drawing of a castle")


def test_nothing_but_unknown_words_is_the_empty_prompt(tokenize):
    assert tokenize("purple zebra!") == tokenize("")


def test_weights_stay_with_their_words(tokenize):
    assert content(tokenize("a (bell:1.2) ringing, ((dog))")) == [
        ("a", 1.0),
        ("bell", 1.2),
        ("ringing", 1.0),
        (",", 1.0),
        ("dog", pytest.approx(1.21)),
    ]


def test_case_possessives_and_punctuation_do_not_change_the_tokens(tokenize):
    assert tokenize("A DOG's bell!") == tokenize("a dog bell")


def test_every_known_word_is_one_token(tokenize):
    assert [word for word, _ in content(tokenize(" ".join(WORDS)))] == list(WORDS)


def test_prompts_are_padded_with_the_end_token(tokenize):
    (row,) = tokenize("bell")

    assert [token for token, _ in row] == [VOCABULARY[token] for token in ("<|startoftext|>", "bell</w>", *["<|endoftext|>"] * 75)]


def test_long_prompts_continue_in_further_rows(tokenize):
    rows = tokenize(", ".join(["bell"] * 100))

    assert [len(row) for row in rows] == [77] * len(rows)
    assert content(rows).count(("bell", 1.0)) == 100


def test_a_folder_without_a_word_list_is_tokenized_as_it_is(pack, tmp_path, warnings):
    write_tokenizer(tmp_path)
    module = importlib.import_module(pack.__name__ + ".bridge.prompt_words")

    rows = module.load_tokenizer(tmp_path, max_length=77, embedding_size=32).tokenize_with_weights("a dog z!")

    assert [word for word, _ in content(rows)] == ["a", "dog", "z", "!"]
    assert warnings() == []
