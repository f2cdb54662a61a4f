"""The embedded picture-text and sound-text scorers: transformers' own classes load them, and they know what they were taught."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

pytest.importorskip("diffusers", reason="only needed to rebuild the embedded models")
from itsound_core.scoring import PictureScorer, SoundScorer  # noqa: E402
from lab.train import evaluate_scorers, train_scorers  # noqa: E402

CLIP, CLAP = train_scorers.FOLDERS.values()


@pytest.fixture(scope="module")
def clip() -> PictureScorer:
    return PictureScorer.load(CLIP)


@pytest.fixture(scope="module")
def clap() -> SoundScorer:
    return SoundScorer.load(CLAP)


def row_of(draw_one) -> np.ndarray:
    """A canvas with four copies of a white drawing on black; `draw_one` draws in the unit square."""
    canvas = Image.new("L", (1024, 256))
    for copy in range(4):
        draw_one(ImageDraw.Draw(canvas), lambda *points, left=256 * copy: [(left + 256 * x, 256 * y) for x, y in points])
    return np.asarray(canvas)


def bell(draw, at) -> None:
    draw.pieslice(at((0.25, 0.12), (0.75, 0.72)), 180, 360, fill=255)
    draw.polygon(at((0.25, 0.42), (0.75, 0.42), (0.78, 0.62), (0.88, 0.74), (0.12, 0.74), (0.22, 0.62)), fill=255)
    draw.ellipse(at((0.43, 0.78), (0.57, 0.92)), fill=255)


def castle(draw, at) -> None:
    draw.rectangle(at((0.1, 0.4), (0.9, 0.92)), fill=255)
    for left in (0.1, 0.32, 0.54, 0.76):
        draw.rectangle(at((left, 0.28), (left + 0.14, 0.4)), fill=255)
    for left in (0.06, 0.72):
        draw.rectangle(at((left, 0.1), (left + 0.22, 0.92)), fill=255)
    draw.pieslice(at((0.4, 0.6), (0.6, 1.0)), 180, 360, fill=0)
    draw.rectangle(at((0.4, 0.8), (0.6, 0.92)), fill=0)


def fir(draw, at) -> None:
    for top, half in ((0.06, 0.2), (0.24, 0.28), (0.44, 0.36)):
        draw.polygon(at((0.5, top), (0.5 - half, top + 0.34), (0.5 + half, top + 0.34)), fill=255)
    draw.rectangle(at((0.44, 0.78), (0.56, 0.94)), fill=255)


def airplane(draw, at) -> None:
    draw.ellipse(at((0.43, 0.06), (0.57, 0.94)), fill=255)
    draw.polygon(at((0.5, 0.34), (0.95, 0.6), (0.95, 0.68), (0.5, 0.56), (0.05, 0.68), (0.05, 0.6)), fill=255)
    draw.polygon(at((0.5, 0.76), (0.68, 0.9), (0.5, 0.88), (0.32, 0.9)), fill=255)


DRAWINGS = {"bell": bell, "castle": castle, "tree": fir, "airplane": airplane}


def sounds() -> dict[str, np.ndarray]:
    """Ten seconds each, at 16 kHz, of sounds that a line or two can make."""
    rng, time = np.random.default_rng(0), np.arange(163840) / 16000
    beat = time % 0.5
    drums = rng.normal(size=time.size) * np.exp(-beat * 25) + np.sin(2 * np.pi * 60 * beat) * np.exp(-beat * 12)
    partials = [np.sin(2 * np.pi * 880 * ratio * beat) * np.exp(-beat * rate) for ratio, rate in ((1, 12), (3.93, 25))]
    xylophone = np.sum(partials, axis=0)
    return {"drums": drums, "applause": rng.normal(size=time.size), "xylophone": xylophone}


def test_both_scorers_together_take_six_megabytes():
    assert sum(path.stat().st_size for folder in (CLIP, CLAP) for path in folder.rglob("*.safetensors")) < 6e6


@pytest.mark.parametrize("side", train_scorers.FOLDERS)
def test_every_known_word_is_one_token_and_others_fall_apart(side, clip, clap):
    tokenizer = (clip if side == "image" else clap).processor.tokenizer
    for word in json.loads((train_scorers.FOLDERS[side] / "words.json").read_text()):
        assert len(tokenizer(word)["input_ids"]) == len(tokenizer(word.capitalize())["input_ids"]) == 3, word
    assert len(tokenizer("zebra")["input_ids"]) > 3


def test_a_drawn_canvas_scores_highest_with_its_own_prompt(clip):
    canvases = np.stack([row_of(draw_one) for draw_one in DRAWINGS.values()])
    scores = evaluate_scorers.picture_scores(clip, canvases, [f"a painting of a {name}, grayscale" for name in DRAWINGS])
    assert torch.equal(scores.argmax(dim=1), torch.arange(len(DRAWINGS))), scores


def test_a_synthesised_sound_scores_highest_with_its_own_prompt(clap):
    waves = torch.tensor(np.stack(list(sounds().values())), dtype=torch.float32)
    scores = evaluate_scorers.sound_scores(clap, waves, [f"the sound of {name}" for name in sounds()])
    assert torch.equal(scores.argmax(dim=1), torch.arange(len(sounds()))), scores


def test_noise_and_silence_score_low_with_every_picture_prompt(clip):
    empty = np.stack([np.zeros((256, 1024), np.uint8), evaluate_scorers.noise(1)[0]])
    assert evaluate_scorers.picture_scores(clip, empty, evaluate_scorers.PROMPTS["image"]).max() < 30


@pytest.mark.parametrize("prompt", ["", "a castle and a tree", "two zebras by Hokusai", "Bells, " * 60, "ベル"])
def test_any_prompt_has_a_finite_score(prompt, clip, clap):
    of_picture = evaluate_scorers.picture_scores(clip, row_of(bell)[None], [prompt])
    of_sound = evaluate_scorers.sound_scores(clap, torch.rand(1, 163840), [prompt])
    assert -100.1 < of_picture < 100.1 and 0 <= of_sound < 100.1


def test_nothing_is_random_in_the_score_of_a_sound(clap):
    waves = torch.from_numpy(sounds()["drums"].astype(np.float32))[None]
    first, second = (evaluate_scorers.sound_scores(clap, waves, ["drums"]) for _ in range(2))
    assert torch.equal(first, second)


def test_all_items_of_a_class_are_right_answers_to_its_prompts():
    match = torch.tensor([[True, False], [True, False], [False, True]])
    good = torch.where(match, 20.0, -20.0)
    floor = train_scorers.contrastive_loss(good, good.mT, match)
    torch.testing.assert_close(floor, torch.tensor(2.0).log() / 2)  # one of two items of the first class, picked blindly
    assert train_scorers.contrastive_loss(-good, -good.mT, match) > floor + 10
