"""Scoring in a graph: loading, scores of a batch, and keeping the best."""

from __future__ import annotations

import importlib
import shutil
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("comfy.samplers", reason="COMFYUI_PATH does not name a ComfyUI folder")

import folder_paths  # noqa: E402
from comfy_execution.graph_utils import ExecutionBlocker  # noqa: E402

from itsound_core.embedded import CLAP_FOLDER, CLIP_FOLDER  # noqa: E402
from itsound_core.scoring import PictureScorer, Scores, SoundScorer  # noqa: E402

RATE = 16000


@pytest.fixture(scope="module")
def nodes(pack):
    return importlib.import_module(pack.__name__ + ".nodes.scoring")


@pytest.fixture(scope="module")
def scorer(nodes):
    (loaded,) = nodes.LoadScorers.execute("embedded", "embedded").result
    return loaded


def images(count=2, width=320):
    return torch.rand(count, 256, width, 3, generator=torch.Generator().manual_seed(0))


def audio(count=2, channels=1, seconds=1.0):
    noise = torch.randn(count, channels, round(seconds * RATE), generator=torch.Generator().manual_seed(1))
    return {"waveform": 0.1 * noise, "sample_rate": RATE}


def slice_of(sounds, i):
    return sounds | {"waveform": sounds["waveform"][i : i + 1]}


def scores(nodes, picture, sound):
    count = len(picture)
    scores_class = importlib.import_module(nodes.__name__.rsplit(".", 2)[0] + ".itsound_core.scoring").Scores
    return scores_class(torch.tensor(picture), torch.tensor(sound), ("a",) * count, ("b",) * count)


@torch.inference_mode()
def test_a_batch_gets_the_scores_that_its_items_get_alone(nodes, scorer):
    pictures, sounds = images(3), audio(3, channels=2)
    found, table, plot = nodes.ScoreImageAndSound.execute(scorer, pictures, sounds, "a castle", "church bell").result
    clip, clap = PictureScorer.load(CLIP_FOLDER), SoundScorer.load(CLAP_FOLDER)
    for i in range(3):
        torch.testing.assert_close(found.picture[i], clip(pictures[i].mean(dim=-1), ["a castle"])[0], atol=1e-3, rtol=0)
        torch.testing.assert_close(found.sound[i], clap(sounds["waveform"][i].mean(dim=0), RATE, ["church bell"])[0], atol=1e-3, rtol=0)
    assert table.splitlines()[1].split() == ["0", f"{found.picture[0]:.1f}", f"{found.sound[0]:.1f}"]
    assert plot.shape == (1, 768, 768, 3)


@torch.inference_mode()
def test_each_sample_may_have_its_own_prompts(nodes, scorer):
    pictures, sounds = images(1).expand(2, -1, -1, -1), audio(1)
    found, *_ = nodes.ScoreImageAndSound.execute(scorer, pictures, sounds, "a castle\na dog\n", "church bell", True).result
    assert found.image_prompts == ("a castle", "a dog") and found.audio_prompts == ("church bell",) * 2
    assert found.picture[0] != found.picture[1] and found.sound[0] == found.sound[1]


@torch.inference_mode()
def test_a_line_break_in_a_prompt_is_a_space(nodes, scorer):
    """Someone pressed Enter; with two samples each half used to be the prompt of one of them."""
    given = nodes.ScoreImageAndSound.execute(scorer, images(), audio(), "a castle\non a hill", "church\r\nbell\n").result[0]
    meant = nodes.ScoreImageAndSound.execute(scorer, images(), audio(), "a castle on a hill", "church bell").result[0]
    assert given.image_prompts == ("a castle on a hill",) * 2 and given.audio_prompts == ("church bell",) * 2
    assert torch.equal(given.picture, meant.picture) and torch.equal(given.sound, meant.sound)


@torch.inference_mode()
def test_a_prompt_is_read_once_however_many_samples_it_has(nodes, scorer, monkeypatch):
    read = []
    for model in (scorer.picture.model, scorer.sound.model):
        embed = model.embed
        monkeypatch.setattr(model, "embed", lambda prompts, embed=embed: read.extend(prompts) or embed(prompts))
    found, *_ = nodes.ScoreImageAndSound.execute(scorer, images(4), audio(4), "a castle\na dog\na castle\na castle", "a bell", True).result
    assert read == ["a castle", "a bell", "a dog"]
    alone, *_ = nodes.ScoreImageAndSound.execute(scorer, images(4)[2:3], slice_of(audio(4), 2), "a castle", "a bell").result
    assert torch.equal(found.picture[2:3], alone.picture) and torch.equal(found.sound[2:3], alone.sound)


@torch.inference_mode()
@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r", "\n\n", "\n\u200b\n"])
def test_a_line_ends_where_someone_pressed_enter_and_nowhere_else(nodes, scorer, line_break):
    """Pasted text brings form feeds, line separators and other characters that str.splitlines takes for ends."""
    first = "a\x0bcastle\x0con\u2028a\x85hill\x1cby\u2029night"
    prompts = f"{first}{line_break}a dog", "a bell"
    found, *_ = nodes.ScoreImageAndSound.execute(scorer, images(), audio(), *prompts, prompt_per_line=True).result
    assert found.image_prompts == ("a castle on a hill by night", "a dog")


def test_colours_are_scored_as_the_gray_that_sounds(nodes, scorer):
    gray = images(1).mean(dim=-1, keepdim=True).expand(-1, -1, -1, 3) * 0.5 + 0.25
    tint = torch.tensor([0.1, -0.1, 0.0])
    (plain, *_), (tinted, *_) = (
        nodes.ScoreImageAndSound.execute(scorer, picture, audio(1), "a castle", "a bell").result for picture in (gray, gray + tint)
    )
    torch.testing.assert_close(plain.picture, tinted.picture, atol=0.5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"images": torch.rand(2, 1, 1, 3)}, "1 x 1 pixels; .* Use larger ones"),
        ({"images": torch.rand(2, 256, 128, 3)}, "taller than wide"),
        ({"images": images(3)}, "images is a batch of 3 and audio a batch of 2"),
        ({"images": images() * torch.nan}, "NaN"),
        ({"audio": {"waveform": torch.zeros(2, 1, 0), "sample_rate": RATE}}, "zero length"),
        ({"image_prompt": " \n"}, "image_prompt is empty"),
        *(({"image_prompt": blank}, "image_prompt is empty") for blank in ("\u200b", "\u2060\ufeff", "\u3164", "\u2800", "\u0301", "\0")),
        ({"audio_prompt": "\u200b\n\u200d", "prompt_per_line": True}, "audio_prompt has 0 lines for 2 samples"),
        ({"audio_prompt": "a\nb\nc", "prompt_per_line": True}, "audio_prompt has 3 lines for 2 samples.*turn prompt_per_line off"),
    ],
)
def test_bad_input_is_named_before_anything_is_scored(nodes, monkeypatch, changes, told):
    monkeypatch.setattr(nodes, "score", lambda *_: pytest.fail("scored"))
    scorer = SimpleNamespace(picture=None, sound=None, embeddings=None)
    given = {"scorer": scorer, "images": images(), "audio": audio(), "image_prompt": "a castle", "audio_prompt": "a bell"} | changes
    with pytest.raises(ValueError, match=told):
        nodes.ScoreImageAndSound.execute(**given)


def test_a_scorer_that_gives_nan_is_an_error(nodes, scorer, monkeypatch):
    monkeypatch.setattr(type(scorer.sound.model), "forward", lambda *_: torch.tensor([torch.nan]))
    with pytest.raises(ValueError, match="NaN"):
        nodes.ScoreImageAndSound.execute(scorer, images(), audio(), "a castle", "a bell")


def test_the_best_are_kept_in_order_with_all_that_belongs_to_them(nodes):
    pictures, sounds = images(4), audio(4)
    latents = {"samples": torch.arange(4.0).reshape(4, 1, 1, 1), "batch_index": [7, 8, 9, 10], "noise_mask": torch.ones(1, 8, 8)}
    found = scores(nodes, [1.0, 9.0, 3.0, 5.0], [1.0, 9.0, 6.0, 4.0])
    kept_images, kept_audio, kept_latents, indices = nodes.KeepBest.execute(
        found, 2, "intersection of top shares", pictures, sounds, latents
    ).result
    assert indices == "1, 2"
    assert torch.equal(kept_images, pictures[[1, 2]])
    assert torch.equal(kept_audio["waveform"], sounds["waveform"][[1, 2]]) and kept_audio["sample_rate"] == RATE
    assert kept_latents["samples"].flatten().tolist() == [1, 2] and kept_latents["batch_index"] == [8, 9]
    assert kept_latents["noise_mask"].shape == (1, 8, 8)


def test_the_weighted_rule_follows_its_weight(nodes):
    found = scores(nodes, [1.0, 2.0], [2.0, 1.0])
    assert [nodes.KeepBest.execute(found, 1, "weighted", picture_weight=weight).result[3] for weight in (0.0, 1.0)] == ["0", "1"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"audio": {"waveform": torch.zeros(2, 1, 10)}}, "audio has the sample rate None; it must be a whole number from 1000"),
        ({"audio": "a bell"}, "audio is no AUDIO: it has no waveform"),
        ({"latents": "latents"}, "latents is no LATENT"),
        ({"latents": {}}, "latents is no LATENT"),
    ],
)
def test_what_is_no_sound_and_no_latent_is_refused(nodes, given, told):
    with pytest.raises(ValueError, match=f"KeepBest: {told}"):
        nodes.KeepBest.execute(scores(nodes, [1.0, 2.0], [1.0, 2.0]), 1, "rank product", **given)


def test_an_output_whose_input_is_open_blocks_what_uses_it_with_a_word(nodes):
    result = nodes.KeepBest.execute(scores(nodes, [1.0], [1.0]), 1, "rank product").result
    assert all(isinstance(value, ExecutionBlocker) and "nothing is connected" in value.message for value in result[:3])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"count": 3}, "count is 3, but 2 samples"),
        ({"scores": Scores(torch.zeros(0), torch.zeros(0), (), ())}, "scores are of no sample. Connect"),
        ({"count": 0}, "count is 0; it is a whole number from 1"),
        ({"count": -1}, "count is -1; it is a whole number from 1"),
        ({"images": images(3)}, "images is a batch of 3"),
        ({"audio": audio(1)}, "audio is a batch of 1"),
        ({"latents": {"samples": torch.zeros(5, 4, 2, 2)}}, "latents is a batch of 5"),
    ],
)
def test_more_than_there_are_and_other_batches_are_refused(nodes, given, told):
    with pytest.raises(ValueError, match=told):
        nodes.KeepBest.execute(**({"scores": scores(nodes, [1.0, 2.0], [2.0, 1.0]), "count": 1, "rule": "rank product"} | given))


def test_scorers_of_the_models_folder_are_listed_after_the_embedded_one_and_told_apart(nodes, tmp_path, monkeypatch):
    shutil.copytree(CLIP_FOLDER, tmp_path / "some" / "clip one")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "scorers", ([str(tmp_path)], {".json"}))
    options = nodes.LoadScorers.define_schema().inputs[0].options
    assert options == ["embedded", "scorers/some/clip one"]
    nodes.LoadScorers.execute("scorers/some/clip one", "embedded")
    with pytest.raises(ValueError, match="sound_scorer_name is \"scorers/some/clip one\".*not 'clap'"):
        nodes.LoadScorers.execute("embedded", "scorers/some/clip one")
    before = nodes.LoadScorers.fingerprint_inputs("scorers/some/clip one", "embedded")
    (tmp_path / "some" / "clip one" / "config.json").write_text("{}")
    assert nodes.LoadScorers.fingerprint_inputs("scorers/some/clip one", "embedded") != before
