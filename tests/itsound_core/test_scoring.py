"""Scores against a direct computation, on small random CLIP and CLAP models of transformers' own classes."""

import io
import json
import os
import shutil
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ClapModel, ClapProcessor, CLIPModel, CLIPProcessor

from itsound_core.embedded import CLAP_FOLDER, CLIP_FOLDER
from itsound_core.resampling import resample
from itsound_core.scoring import PictureScorer, Scores, SoundScorer, fixed_windows, square_crops

PROMPTS = ["a drawing of castles", "church bell ringing"]


def randomized(folder, model_class, seed=0):
    """A copy of an embedded scorer's folder with random weights."""
    torch.manual_seed(seed)
    model = model_class(model_class.config_class.from_pretrained(folder)).float()
    model.save_pretrained(folder)
    return model.eval()


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    folder = shutil.copytree(CLIP_FOLDER, tmp_path_factory.mktemp("scorers") / "clip")
    randomized(folder, CLIPModel)
    return folder


@pytest.fixture(scope="module")
def clap_folder(tmp_path_factory):
    folder = shutil.copytree(CLAP_FOLDER, tmp_path_factory.mktemp("scorers") / "clap")
    randomized(folder, ClapModel)
    return folder


def without_a_weight(path):
    weights = load_file(path)
    weights.pop(next(name for name in weights if name.endswith("mlp.fc1.weight")))
    save_file(weights, path, metadata={"format": "pt"})


@torch.no_grad()
def test_a_scorer_without_the_tables_that_transformers_makes_anew_scores_the_same(clap_folder, tmp_path):
    """Not every version of transformers saved them, and published files are of all ages."""
    folder = shutil.copytree(clap_folder, tmp_path / "old")
    weights = load_file(folder / "model.safetensors")
    tables = ("position_ids", "token_type_ids", "relative_position_index", "num_batches_tracked")
    old = {name: weight for name, weight in weights.items() if not name.endswith(tables)}
    assert {ending for ending in tables if any(name.endswith(ending) for name in weights)} == set(tables)
    save_file(old, folder / "model.safetensors", metadata={"format": "pt"})

    scorers = [SoundScorer.load(path) for path in (folder, clap_folder)]
    found, expected = (scorer.model.state_dict() for scorer in scorers)
    assert all(torch.equal(found[name], expected[name]) for name in expected if not name.endswith(tables[-1]))  # which training counts in
    scores = [scorer(tone(), 16000, PROMPTS) for scorer in scorers]
    torch.testing.assert_close(*scores, atol=1e-4, rtol=0)  # the weights are not aligned alike in both files


def tone(seconds=9.92, rate=16000):
    t = torch.arange(round(seconds * rate)) / rate
    return 0.3 * torch.sin(2 * torch.pi * 440 * t) * torch.exp(-3 * (t % 1))


@torch.no_grad()
def test_a_picture_score_is_the_mean_cosine_of_24_square_crops(clip_folder):
    picture = torch.rand(256, 992, generator=torch.Generator().manual_seed(0))
    scores = PictureScorer.load(clip_folder)(picture, PROMPTS)

    model, processor = CLIPModel.from_pretrained(clip_folder).eval(), CLIPProcessor.from_pretrained(clip_folder)
    gray = np.repeat((255 * picture).round().byte().numpy()[..., None], 3, axis=2)
    cosines = []
    for left in range(0, 737, 32):
        inputs = processor(text=PROMPTS, images=gray[:, left : left + 256], padding=True, return_tensors="pt")
        output = model(**inputs)
        cosines.append(torch.cosine_similarity(output.text_embeds, output.image_embeds))
    assert len(cosines) == 24
    torch.testing.assert_close(scores, 100 * torch.stack(cosines).mean(dim=0), atol=1e-3, rtol=0)


@torch.no_grad()
def test_a_sound_score_is_the_cosine_at_48_khz_whatever_the_level_and_never_negative(clap_folder):
    scorer = SoundScorer.load(clap_folder)
    waveform = tone()
    scores = scorer(waveform, 16000, PROMPTS)

    model, processor = ClapModel.from_pretrained(clap_folder).eval(), ClapProcessor.from_pretrained(clap_folder)
    heard = resample(waveform / waveform.abs().max(), 16000, 48000)
    inputs = processor.tokenizer(PROMPTS, padding=True, return_tensors="pt")
    inputs |= processor.feature_extractor(heard.numpy(), sampling_rate=48000, return_tensors="pt")
    output = model(**inputs)
    cosines = torch.cosine_similarity(output.text_embeds, output.audio_embeds)
    torch.testing.assert_close(scores, 100 * cosines.clamp(min=0), atol=1e-3, rtol=0)
    torch.testing.assert_close(scorer(0.01 * waveform, 16000, PROMPTS), scores, atol=1e-2, rtol=0)
    assert scores.min() >= 0


@torch.no_grad()
def test_prompts_embedded_beforehand_score_to_the_bit_as_in_one_forward_of_the_whole_model(clip_folder, clap_folder):
    picture = torch.rand(256, 288, generator=torch.Generator().manual_seed(0))
    clip, clap = PictureScorer.load(clip_folder), SoundScorer.load(clap_folder)
    crops = np.repeat((255 * picture).round().byte().numpy()[..., None], 3, axis=2)
    inputs = clip.processor(text=PROMPTS, images=[crops[:, :256], crops[:, 32:]], padding=True, return_tensors="pt")
    output = clip.model(**inputs)
    assert torch.equal(clip(picture, clip.embed(PROMPTS)), 100 * (output.text_embeds @ output.image_embeds.T).mean(dim=1))

    inputs = clap.processor.tokenizer(PROMPTS, padding=True, return_tensors="pt")
    heard = resample(tone() / tone().abs().max(), 16000, 48000)
    inputs |= clap.processor.feature_extractor(heard.numpy(), sampling_rate=48000, return_tensors="pt")
    output = clap.model(**inputs)
    expected = 100 * (output.text_embeds @ output.audio_embeds.T).mean(dim=1).clamp(min=0)
    assert torch.equal(clap(tone(), 16000, clap.embed(PROMPTS)), expected)


def test_a_sound_longer_than_claps_window_gets_the_same_score_each_time(clap_folder):
    scorer = SoundScorer.load(clap_folder)
    scores = {tuple(scorer(tone(10.24), 16000, PROMPTS).tolist()) for _ in range(3)}
    assert len(scores) == 1


def test_silence_sounds_like_nothing(clap_folder):
    assert SoundScorer.load(clap_folder)(torch.zeros(16000), 16000, PROMPTS).tolist() == [0, 0]


def test_crops_reach_both_edges():
    picture = torch.arange(1000).expand(256, -1)
    crops = square_crops(picture)
    assert all(crop.shape == (256, 256) for crop in crops)
    assert crops[0][0, 0] == 0 and crops[-1][0, -1] == 999
    assert len(square_crops(torch.zeros(256, 992))) == 24 and len(square_crops(torch.zeros(64, 64))) == 1


def test_windows_reach_both_ends_and_are_as_few_as_can_be():
    waveform = torch.arange(25)
    assert [(int(w[0]), int(w[-1])) for w in fixed_windows(waveform, 10)] == [(0, 9), (8, 17), (15, 24)]
    assert len(fixed_windows(waveform, 25)) == len(fixed_windows(waveform, 40)) == 1


def with_code(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"payload": os.system}, folder / "pytorch_model.bin")


def as_pickle(folder, **changes):
    """The folder's weights as a pickle."""
    weights = {name: weight.clone() for name, weight in load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").unlink()
    torch.save(weights | changes, folder / "pytorch_model.bin")


def packed(path):
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
        target.writestr("pytorch_model/data/zeros", bytes(10**7))


def with_fewer_merges(folder, share):
    lines = (folder / "merges.txt").read_text().splitlines(keepends=True)
    (folder / "merges.txt").write_text("".join(lines[: round(share * len(lines))]))


def test_a_scorers_weights_may_be_a_pickle(tmp_path):
    folder = shutil.copytree(CLIP_FOLDER, tmp_path / "clip")
    as_pickle(folder)
    found, expected = (PictureScorer.load(one).model.state_dict() for one in (folder, CLIP_FOLDER))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
@pytest.mark.parametrize(("scorer", "source"), [(PictureScorer, CLIP_FOLDER), (SoundScorer, CLAP_FOLDER)], ids=["picture", "sound"])
def test_a_scorer_whose_merges_are_cut_at_the_end_of_a_line_is_refused(tmp_path, scorer, source, share):
    folder = shutil.copytree(source, tmp_path / "scorer")
    with_fewer_merges(folder, share)
    with pytest.raises(ValueError, match=r"merges.txt is cut off: nothing in it makes \d+ tokens of vocab.json"):
        scorer.load(folder)


def test_a_scorers_pickle_that_unpacks_to_more_than_it_is_is_refused(tmp_path):
    folder = shutil.copytree(CLIP_FOLDER, tmp_path / "clip")
    as_pickle(folder)
    packed(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"it unpacks to .* MB, and torch saves weights unpacked"):
        PictureScorer.load(folder)


def test_a_scorers_weight_in_which_one_number_stands_for_many_is_refused(tmp_path):
    folder = shutil.copytree(CLAP_FOLDER, tmp_path / "clap")
    as_pickle(folder, **{"logit_scale_a": torch.ones(1).expand(2**40)})
    with pytest.raises(ValueError, match=f"its weight logit_scale_a has {2**40} numbers, more than the file holds"):
        SoundScorer.load(folder)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "config.json").unlink(), "cannot be read"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "config.json").write_text(json.dumps({"model_type": "bert"})), "'bert', not 'clip'"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 100), "cannot be loaded as a CLIP"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be loaded as a CLIP"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json is no config"),
        (
            lambda folder: with_code(folder),
            r"cannot be loaded as a CLIP model \(its weights are a pickle .* none of which was run\)\. Copy",
        ),
        (lambda folder: without_a_weight(folder / "model.safetensors"), "lacks 1 of the CLIP model's weights"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "cannot be loaded as a CLIP"),
        (
            lambda folder: (folder / "tokenizer_config.json").write_text("3"),
            r"cannot be loaded as a CLIP model \(a setting in its JSON files is of another kind than is needed\)\. Copy",
        ),
    ],
    ids=[
        "no config",
        "broken config",
        "another model",
        "broken weights",
        "no weights",
        "a list",
        "code",
        "a weight less",
        "no preprocessor",
        "a number for settings",
    ],
)
def test_a_folder_that_is_no_scorer_is_refused_by_name(tmp_path, spoil, told):
    folder = shutil.copytree(CLIP_FOLDER, tmp_path / "clip")
    spoil(folder)
    with pytest.raises(ValueError, match=told):
        PictureScorer.load(folder)


def test_a_sound_scorer_is_no_picture_scorer():
    with pytest.raises(ValueError, match="'clap', not 'clip'"):
        PictureScorer.load(CLAP_FOLDER)


def test_the_table_has_a_line_a_sample_and_the_mean():
    scores = Scores(torch.tensor([30.0, 20.0]), torch.tensor([10.0, 50.0]), ("a", "b"), ("c", "d"))
    lines = scores.table().splitlines()
    assert [line.split() for line in lines[1:4]] == [["0", "30.0", "10.0"], ["1", "20.0", "50.0"], ["mean", "25.0", "30.0"]]


@pytest.mark.parametrize(("key", "value"), [("feature_size", 10**9), ("nb_max_samples", float("nan"))])
def test_a_preprocessor_with_a_size_that_cannot_be_built_is_refused_before_it_is_built(tmp_path, key, value):
    folder = shutil.copytree(CLAP_FOLDER, tmp_path / "clap")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=f"preprocessor_config.json: {key} is .*Copy a CLAP model's whole folder"):
        SoundScorer.load(folder)
