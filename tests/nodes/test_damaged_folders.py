"""Folders with damaged or absurd files: each ends at once in one sentence that names the file, and none hangs or loads."""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
from pathlib import Path

import pytest

pytest.importorskip("comfy.sd", reason="COMFYUI_PATH does not name a ComfyUI folder")

from diffusers_folders import edit_json, merges, vocabulary  # noqa: E402
from model_files import use_models_folder  # noqa: E402

CONFIGS = ["unet/config.json", "vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json"]
CONFIGS += ["tokenizer/tokenizer_config.json"]
NO_OBJECTS = ["[]", "null", "3", '"text"', "", "[" * 100_000, '{"a": 1', "\ud800"]


@pytest.mark.parametrize("content", NO_OBJECTS, ids=["list", "null", "number", "text", "empty", "deep", "cut", "not UTF-8"])
@pytest.mark.parametrize("config", CONFIGS)
def test_json_that_is_no_object_is_named(load, models, config, content):
    (models / "diffusers" / "picture" / config).write_bytes(content.encode(errors="surrogatepass"))

    with pytest.raises(ValueError, match=rf'LoadDualUNets: image_model_name is "diffusers/picture"\. .*{config}.*again from the model'):
        load()


UNET, VAE, TEXT, SCHEDULER = CONFIGS[:4]
NAN, INFINITY = float("nan"), float("inf")
ABSURD = {
    "a thousand million layers": (UNET, {"layers_per_block": 10**9}, "layers_per_block is 1000000000; a whole number from 1 to 16"),
    "no layers": (UNET, {"layers_per_block": 0}, "layers_per_block is 0"),
    "half a layer": (UNET, {"layers_per_block": 1.5}, "layers_per_block is 1.5"),
    "layers true": (UNET, {"layers_per_block": True}, "layers_per_block is True"),
    "layers in words": (UNET, {"layers_per_block": "two"}, "layers_per_block is 'two'"),
    "a thousand levels": (UNET, {"block_out_channels": [32] * 1000}, "a list of 12 such numbers"),
    "levels that do not match": (UNET, {"down_block_types": ["DownBlock2D"]}, "block_out_channels has 2 levels"),
    "widths that are no list": (UNET, {"block_out_channels": 64}, "block_out_channels is 64; a list"),
    "no widths": (UNET, {"block_out_channels": []}, r"block_out_channels is \[\]"),
    "a huge width": (UNET, {"block_out_channels": [32, 2**40]}, "block_out_channels is .*from 1 to 8192"),
    "huge, within what is allowed": (UNET, {"block_out_channels": [8192, 8192], "layers_per_block": 16}, "does not fit the config.json"),
    "no heads": (UNET, {"attention_head_dim": 0}, "attention_head_dim is 0"),
    "block types that are numbers": (UNET, {"down_block_types": [{}, []]}, "down_block_types names {}"),
    "block types that are null": (UNET, {"down_block_types": None}, "lacks down_block_types"),
    "a middle block that is a list": (UNET, {"mid_block_type": []}, "mid_block_type names"),
    "text width by level": (UNET, {"cross_attention_dim": [32, 32]}, "cross_attention_dim is"),
    "sample size of nothing": (UNET, {"sample_size": []}, r"sample_size is \[\]"),
    "VAE layers": (VAE, {"layers_per_block": 10**9}, "layers_per_block is 1000000000"),
    "VAE layers by level": (VAE, {"layers_per_block": [1, 1, 1, 1]}, "must be one number"),
    "text layers": (TEXT, {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
    "a vocabulary of millions": (TEXT, {"vocab_size": 10**9}, "vocab_size is 1000000000"),
    "heads that do not divide": (TEXT, {"num_attention_heads": 5}, "num_attention_heads is 5, which does not divide hidden_size 32"),
    "no text heads": (TEXT, {"num_attention_heads": 0}, "num_attention_heads is 0"),
    "activation that is a list": (TEXT, {"hidden_act": ["gelu"]}, "hidden_act names"),
    "betas that are no number": (SCHEDULER, {"beta_start": NAN}, "beta_start is nan; a number between 0 and 1"),
    "endless betas": (SCHEDULER, {"beta_end": INFINITY}, "beta_end is inf"),
    "betas of 2": (SCHEDULER, {"beta_end": 2.0}, "beta_end is 2.0"),
    "negative betas": (SCHEDULER, {"beta_start": -0.1}, "beta_start is -0.1"),
    "betas in words": (SCHEDULER, {"beta_start": "small"}, "beta_start is 'small'"),
    "a schedule that is a list": (SCHEDULER, {"beta_schedule": ["linear"]}, "beta_schedule names"),
    "a prediction that is an object": (SCHEDULER, {"prediction_type": {}}, "prediction_type names"),
}


@pytest.mark.parametrize(("config", "changes", "message"), ABSURD.values(), ids=ABSURD)
def test_an_absurd_config_is_refused_at_once(load, models, config, changes, message):
    edit_json(models / "diffusers" / "picture" / config, **changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(ValueError, match=rf'image_model_name is "diffusers/picture"\. .*{config}.*{message}|{message}'):
        load()

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 1024, "KiB"


def test_an_infinite_number_that_nothing_reads_is_no_matter(load, models):
    """Diffusers itself writes "lambda_min_clipped": -Infinity."""
    edit_json(models / "diffusers" / "picture" / SCHEDULER, lambda_min_clipped=-INFINITY)

    load()


@pytest.mark.parametrize(("content", "width"), [("[" * 100_000, None), (None, 10**9)], ids=["deep", "wide"])
def test_a_vocoders_absurd_config_is_named_with_a_remedy(loaders, models, content, width):
    folder = shutil.copytree(loaders.embedded.VOCODER_FOLDER, models / "vocoders" / "own")
    if content:
        (folder / "config.json").write_text(content)
    else:
        edit_json(folder / "config.json", upsample_initial_channel=width)

    with pytest.raises(ValueError, match='LoadVocoder: vocoder_name is "vocoders/own". .* Copy it again from its source'):
        loaders.LoadVocoder.execute("vocoders/own")


# Tokenizers ----------------------------------------------------------------------------------------------------------------------------


def tokenizer_of(models) -> Path:
    return models / "diffusers" / "picture" / "tokenizer"


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_merges_that_are_cut_are_named(load, models, share):
    path = tokenizer_of(models) / "merges.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: int(share * len(lines))]))

    with pytest.raises(ValueError, match='image_model_name is "diffusers/picture".*merges.txt is cut off'):
        load()


def test_merges_cut_in_the_middle_of_a_line_are_named(load, models):
    path = tokenizer_of(models) / "merges.txt"
    path.write_text(path.read_text()[: -len(" g</w>\n")])

    with pytest.raises(ValueError, match=r"merges.txt: merge \d+ is not two tokens"):
        load()


def test_the_merges_of_another_vocabulary_are_named(load, models):
    with (tokenizer_of(models) / "merges.txt").open("a") as file:
        file.write("z z</w>\n")

    with pytest.raises(ValueError, match="merges.txt has a merge of or into 'zz</w>', which vocab.json lacks"):
        load()


@pytest.mark.parametrize("change", [{"a": "1"}, {"a": -1}, {"a": 5}, {"a": None}, {"a": True}])
def test_a_vocabulary_without_a_number_for_each_token_is_named(load, models, change):
    edit_json(tokenizer_of(models) / "vocab.json", **change)

    with pytest.raises(ValueError, match="vocab.json is no vocabulary"):
        load()


@pytest.mark.parametrize("rows", [1000, 49_408])
def test_a_vocabulary_much_smaller_than_the_text_encoder_is_named(load, models, rows):
    edit_json(models / "diffusers" / "picture" / TEXT, vocab_size=rows)

    with pytest.raises(ValueError, match=rf"tokenizer has \d+ tokens, the text encoder beside it {rows}. Copy both from the same model"):
        load()


def test_a_whole_tokenizer_json_is_held_to_the_same(load, models):
    folder = tokenizer_of(models)
    whole = {"model": {"type": "BPE", "vocab": vocabulary(), "merges": [list(pair) for pair in merges()][:9]}}
    (folder / "tokenizer.json").write_text(json.dumps(whole))

    with pytest.raises(ValueError, match="tokenizer.json is cut off"):
        load()


@pytest.mark.parametrize("content", ["null", "{}", "[]", "[1, 2]", "no JSON"])
def test_a_damaged_word_list_is_named(load, models, content):
    (tokenizer_of(models) / "words.json").write_text(content)

    with pytest.raises(ValueError, match=r"words\.json"):
        load()


def test_the_embedded_tokenizers_and_comfyuis_own_are_whole(pack):
    import comfy.sd1_clip

    require = importlib.import_module(pack.__name__ + ".bridge.tokenizer_files").require_tokenizer
    embedded = importlib.import_module(pack.__name__ + ".itsound_core.embedded")
    for folder in (embedded.IMAGE_FOLDER / "tokenizer", embedded.AUDIO_FOLDER / "tokenizer"):
        require(folder)
    require(Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer")


# Names and links -----------------------------------------------------------------------------------------------------------------------


def test_folders_linked_into_themselves_and_each_other_are_listed_once(loaders, models):
    diffusers = models / "diffusers"
    for place, target in (
        ("picture/again", "."),
        ("author/back", ".."),
        ("author/sound/over", "../../picture"),
        ("picture/over", "../author"),
    ):
        (diffusers / place).symlink_to(Path(target).resolve() if target == "." else target, target_is_directory=True)
    (diffusers / "picture" / "again").unlink()
    (diffusers / "picture" / "again").symlink_to(diffusers, target_is_directory=True)
    (diffusers / "second name").symlink_to(diffusers / "picture", target_is_directory=True)

    names = loaders.LoadDualUNets.INPUT_TYPES()["required"]["image_model_name"][1]["options"]

    assert {"diffusers/picture", "diffusers/author/sound", "diffusers/second name"} <= set(names)
    assert len(names) < 30 and not any(name.count("again") or name.count("back") for name in names)
    loaders.LoadDualUNets.fingerprint_inputs(image_model_name="diffusers/picture", audio_model_name="diffusers/second name")


def test_a_replaced_file_behind_a_linked_folder_changes_the_fingerprint(loaders, models, tmp_path):
    folder = models / "diffusers" / "picture"
    (folder / "unet").rename(tmp_path / "elsewhere")
    (folder / "unet").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    names = {"image_model_name": "diffusers/picture", "audio_model_name": "embedded"}
    before = loaders.LoadDualUNets.fingerprint_inputs(**names)

    os.utime(tmp_path / "elsewhere" / "diffusion_pytorch_model.safetensors", (1, 1))

    assert before != loaders.LoadDualUNets.fingerprint_inputs(**names)


@pytest.mark.parametrize("name", ["n" * 300, "nul\0", "../../../etc", "/etc", "x/" * 3000], ids=["long", "NUL", "outside", "root", "deep"])
@pytest.mark.parametrize("key", ["checkpoints", "diffusion_models", "diffusers"])
def test_a_name_that_no_file_can_have_is_refused_by_input(load, models, name, key):
    with pytest.raises((ValueError, FileNotFoundError), match=f'LoadDualUNets: image_model_name is "{key}/') as refusal:
        load(image=f"{key}/{name}")
    assert "Errno" not in str(refusal.value) and "embedded null" not in str(refusal.value)


def test_a_models_folder_that_is_not_there_lists_nothing(loaders, tmp_path, monkeypatch):
    use_models_folder(tmp_path / "empty", monkeypatch)
    (tmp_path / "empty" / "diffusers").rmdir()

    assert loaders.LoadDualUNets.INPUT_TYPES()["required"]["image_model_name"][1]["options"] == ["embedded"]
