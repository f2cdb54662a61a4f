"""Folders as they are published: weights in shards and variants, and Auffusion's with its condition adapter."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import pytest
import torch

pytest.importorskip("comfy.sd", reason="COMFYUI_PATH does not name a ComfyUI folder")

from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: E402
from diffusers_folders import text_encoder, write_tokenizer  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import CLIPTextModel, CLIPTokenizer  # noqa: E402

PARTS = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
WAYS = {
    "shards": {"shards": 3},
    "shards of bf16": {"shards": 3, "variant": "bf16"},
    "bf16": {"variant": "bf16"},
    "fp16": {"variant": "fp16"},
    "non_ema": {"variant": "non_ema"},
    "shards in pickles": {"shards": 3, "safe_serialization": False},
}


def save_again(folder: Path, part: str, shards: int = 0, **how) -> None:
    """Save a part of a folder as diffusers or transformers itself does, in about as many shards, in the place of its one file."""
    model = PARTS[part].from_pretrained(folder / part)
    if shards:
        how["max_shard_size"] = 4 * sum(parameter.numel() for parameter in model.parameters()) // shards
    shutil.rmtree(folder / part)
    if part == "text_encoder":  # transformers 5 writes safetensors only
        how.pop("safe_serialization", None)
    model.save_pretrained(folder / part, **how)


@pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)
def test_what_diffusers_saved_in_shards_and_variants_is_the_same_model(load, models, how):
    before = load()
    for part in PARTS:
        save_again(models / "diffusers" / "picture", part, **how)
        names = {path.name for path in (models / "diffusers" / "picture" / part).iterdir()}
        assert any(".index." in name if "shards" in how else how["variant"] in name for name in names), names
        assert not names & {"diffusion_pytorch_model.safetensors", "model.safetensors"}

    after = load()

    for part in ("image_model", "image_clip", "vae"):
        old, new = (getattr(getattr(loaded, part), "patcher", getattr(loaded, part)).model.state_dict() for loaded in (before, after))
        assert old.keys() == new.keys() and all(torch.equal(new[name], old[name]) for name in old), part


def test_of_several_variants_the_full_one_is_read_and_a_whole_file_before_shards(load, models):
    folder = models / "diffusers" / "picture"
    kept = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")["conv_out.weight"]
    other = UNet2DConditionModel.from_pretrained(folder / "unet")
    other.conv_out.weight.data += 1
    other.save_pretrained(folder / "unet", variant="fp16")
    other.save_pretrained(folder / "unet", safe_serialization=False)

    assert torch.equal(load().image_model.model.diffusion_model.out[2].weight, kept)


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_shard_is_named(load, models, part):
    save_again(models / "diffusers" / "picture", part, shards=3)
    index = next((models / "diffusers" / "picture" / part).glob("*.index.json"))
    shard = sorted(set(json.loads(index.read_text())["weight_map"].values()))[1]
    (index.parent / shard).unlink()

    with pytest.raises(ValueError, match=f'image_model_name is "diffusers/picture".*{part} lacks {shard}, shards that {index.name} names'):
        load()


@pytest.mark.parametrize("part", PARTS)
def test_an_index_whose_shards_were_not_copied_hides_no_whole_weights(load, models, part):
    """As of a download of all JSON files and of one variant's weights."""
    before = load()
    folder = models / "diffusers" / "picture" / part
    whole = next(folder.glob("*.safetensors"))
    whole.rename(folder / f"{whole.stem}.fp16.safetensors")
    index = {"weight_map": {"some.weight": f"{whole.stem}-00001-of-00002.safetensors"}}
    (folder / f"{whole.name}.index.json").write_text(json.dumps(index))

    after = load()
    name = {"unet": "image_model", "vae": "vae", "text_encoder": "image_clip"}[part]
    old, new = (getattr(getattr(loaded, name), "patcher", getattr(loaded, name)).model.state_dict() for loaded in (before, after))
    assert all(torch.equal(new[key], old[key]) for key in old)


def test_shards_without_their_index_ask_for_it(load, models):
    save_again(models / "diffusers" / "picture", "unet", shards=3)
    next((models / "diffusers" / "picture" / "unet").glob("*.index.json")).unlink()

    with pytest.raises(ValueError, match=r"weights in shards, but not the file \*.index.json"):
        load()


@pytest.mark.parametrize(
    "content", [[], {}, {"weight_map": []}, {"weight_map": {"a": 3}}, {"weight_map": {"a": "../../secret.safetensors"}}]
)
def test_an_index_that_leads_nowhere_is_named(load, models, content):
    save_again(models / "diffusers" / "picture", "unet", shards=3)
    next((models / "diffusers" / "picture" / "unet").glob("*.index.json")).write_text(json.dumps(content))

    with pytest.raises(ValueError, match=r"\.index\.json"):
        load()


# Auffusion -----------------------------------------------------------------------------------------------------------------------------


class ConditionAdapter(torch.nn.Module):
    """What Auffusion's own pipeline puts after CLIP."""

    def __init__(self, width: int, read_by_unet: int):
        super().__init__()
        self.proj = torch.nn.Linear(width, read_by_unet)
        self.norm = torch.nn.LayerNorm(read_by_unet)


@pytest.fixture
def auffusion(models):
    """models/diffusers/auffusion, files as auffusion/auffusion has them, with what its text encoder and adapter are."""
    folder = models / "diffusers" / "auffusion"
    shutil.move(models / "diffusers" / "author" / "sound", folder)
    for part in ("text_encoder", "tokenizer", "model_index.json"):
        shutil.rmtree(folder / part) if (folder / part).is_dir() else (folder / part).unlink()
    torch.manual_seed(4)
    encoder, adapter = text_encoder(hidden_size=48, num_attention_heads=4), ConditionAdapter(48, 32)
    torch.nn.init.normal_(adapter.norm.bias)
    encoder.save_pretrained(folder / "text_encoder_0")
    write_tokenizer(folder / "text_encoder_0")
    place, sizes = folder / "condition_adapter_0", {"condition_dim": 48, "cross_attention_dim": 32}
    place.mkdir()
    torch.save(adapter.state_dict(), place / "condition_adapter.pt")
    (place / "config.json").write_text(json.dumps({"condition_type": "clip-vit-large-patch14_text"} | sizes))
    names = {"text_encoder_name": "text_encoder_0", "condition_adapter_name": "condition_adapter_0", "condition_max_length": 77}
    (folder / "condition_config.json").write_text(json.dumps([names | sizes]))
    return folder, encoder, adapter


@pytest.mark.parametrize("prompt", ["", "a bell ringing", "a dog, bell ringing of a castle"])
@pytest.mark.parametrize("named", [True, False], ids=["condition_config.json", "without it"])
def test_auffusion_reads_prompts_as_its_own_pipeline_does(load, loaders, auffusion, prompt, named):
    folder, encoder, adapter = auffusion
    if not named:
        (folder / "condition_config.json").unlink()
    assert "diffusers/auffusion" in loaders.LoadDualUNets.INPUT_TYPES()["required"]["audio_model_name"][1]["options"]
    # the pipeline's order: CLIP over the bare prompt, zeros up to 77 tokens, linear layer, norm
    ids = CLIPTokenizer.from_pretrained(folder / "text_encoder_0")(prompt, return_tensors="pt").input_ids
    with torch.no_grad():
        embeddings = encoder(ids).last_hidden_state
        embeddings = torch.nn.functional.pad(embeddings, (0, 0, 0, 77 - embeddings.shape[1]))
        expected = adapter.norm(adapter.proj(embeddings))

    clip = load(audio="diffusers/auffusion").audio_clip
    with torch.inference_mode():
        found = clip.encode_from_tokens(clip.tokenize(prompt))

    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_emphasis_works_through_the_adapter(load, auffusion):
    clip = load(audio="diffusers/auffusion").audio_clip
    with torch.inference_mode():
        plain, empty, heavy = (clip.encode_from_tokens(clip.tokenize(text)) for text in ("bell", "", "(bell:1.5)"))

    torch.testing.assert_close(heavy[:, 1], empty[:, 1] + 1.5 * (plain[:, 1] - empty[:, 1]))


def test_several_text_encoders_at_once_name_the_model_that_needs_none(load, auffusion):
    path = auffusion[0] / "condition_config.json"
    path.write_text(json.dumps(2 * json.loads(path.read_text())))

    with pytest.raises(ValueError, match='audio_model_name is "diffusers/auffusion".*2 entries.*auffusion-full-no-adapter'):
        load(audio="diffusers/auffusion")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda place: (place / "condition_adapter.pt").unlink(), "neither condition_adapter.safetensors nor condition_adapter.pt"),
        (lambda place: (place / "condition_adapter.pt").write_bytes(b"PK"), "condition_adapter.pt cannot be read"),
        (lambda place: torch.save({"proj.weight": torch.zeros(32, 48)}, place / "condition_adapter.pt"), "missing: proj.bias"),
        (lambda place: (place / "config.json").write_text('{"condition_dim": 64, "cross_attention_dim": 32}'), "condition_dim is 64"),
    ],
)
def test_a_damaged_adapter_is_named(load, auffusion, damage, message):
    damage(auffusion[0] / "condition_adapter_0")

    with pytest.raises(ValueError, match=f'audio_model_name is "diffusers/auffusion".*{message}'):
        load(audio="diffusers/auffusion")


def test_the_adapter_is_part_of_a_deep_copy(load, auffusion):
    clip = load(audio="diffusers/auffusion").audio_clip
    module = importlib.import_module(type(clip.cond_stage_model.clip_l.transformer).__module__)
    assert type(clip.cond_stage_model.clip_l.transformer) is module.AdaptedTextModel
    if "force_deepcopy" not in clip.patcher.clone.__code__.co_varnames:
        pytest.skip("this ComfyUI cannot copy a model deeply")
    copied = clip.patcher.clone(force_deepcopy=True).model.state_dict()
    assert torch.equal(copied["clip_l.transformer.condition_adapter.proj.weight"], auffusion[2].proj.weight)
