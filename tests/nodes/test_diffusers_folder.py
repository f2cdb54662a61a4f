"""A diffusers folder in native classes computes what diffusers and transformers compute, and what does not fit is refused by name."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers_folders import SD_SCHEDULE, edit_json, text_encoder, unet, vae, write_folder, write_tokenizer
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

if not os.environ.get("COMFYUI_PATH"):
    pytest.skip("needs ComfyUI", allow_module_level=True)

ATTENTION, PLAIN = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")


@pytest.fixture(scope="session")
def loader(pack):
    """The loaders of a folder's parts."""
    unet, text, vae = (importlib.import_module(f"{pack.__name__}.bridge.{part}_folder") for part in ("unet", "text_encoder", "vae"))
    return SimpleNamespace(load_unet=unet.load_unet, load_text_encoder=text.load_text_encoder, load_vae=vae.load_vae)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diffusers") / "tiny"
    write_folder(folder)
    return folder


@pytest.fixture
def folder(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "tiny")


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


def blocks(*kinds):
    """down_block_types and up_block_types for levels from the finest down, each ATTENTION or PLAIN."""
    return {"down_block_types": [down for down, _ in kinds], "up_block_types": [up for _, up in reversed(kinds)]}


SHAPES = {
    "as SD 1.5": {
        "block_out_channels": [32, 64, 128, 128],
        "layers_per_block": 2,
        "attention_head_dim": 8,
        **blocks(ATTENTION, ATTENTION, ATTENTION, PLAIN),
    },
    "as SD 2.1": {
        "attention_head_dim": [1, 2],
        "use_linear_projection": True,
        "upcast_attention": True,
        **blocks(ATTENTION, ATTENTION),
    },
    "attention in the lowest of three levels": {"block_out_channels": [32, 64, 64], **blocks(PLAIN, PLAIN, ATTENTION)},
    "widths that are no multiple of the first": {"block_out_channels": [64, 96, 160], **blocks(PLAIN, ATTENTION, ATTENTION)},
    "transformers by level": {
        "block_out_channels": [32, 32, 64],
        "transformer_layers_per_block": [1, 2, 3],
        **blocks(ATTENTION, ATTENTION, PLAIN),
    },
    "attention on the way up only": {"down_block_types": [PLAIN[0]] * 2, "up_block_types": [ATTENTION[1]] * 2},
    "middle block without attention": {"mid_block_type": "UNetMidBlock2D"},
    "as BK-SDM small": {
        "block_out_channels": [32, 64, 128, 128],
        "attention_head_dim": 8,
        "mid_block_type": None,
        **blocks(ATTENTION, ATTENTION, ATTENTION, PLAIN),
    },
    "as BK-SDM tiny": {
        "block_out_channels": [32, 64, 128],
        "attention_head_dim": 8,
        "mid_block_type": None,
        **blocks(ATTENTION, ATTENTION, ATTENTION),
    },
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_unet_equals_diffusers(loader, folder, shape):
    shutil.rmtree(folder / "unet")
    reference = unet(**shape)
    reference.save_pretrained(folder / "unet")
    noisy, timesteps, context = torch.randn(2, 4, 16, 24), torch.tensor([981, 21]), torch.randn(2, 77, 32)

    native = loader.load_unet(folder).model.diffusion_model

    expected = reference(noisy, timesteps, context).sample
    assert relative_error(native(noisy, timesteps, context=context), expected) < 1e-5


@pytest.mark.parametrize("schedule", [{}, {"beta_schedule": "linear"}, {"beta_start": 0.0015, "beta_end": 0.0195}])
def test_noise_schedule_is_the_folders(loader, folder, schedule):
    scheduler = DDIMScheduler(**(SD_SCHEDULE | schedule))
    scheduler.save_pretrained(folder / "scheduler")

    sigmas = loader.load_unet(folder).model.model_sampling.sigmas

    torch.testing.assert_close(sigmas, (1 / scheduler.alphas_cumprod - 1).sqrt(), rtol=1e-4, atol=0)


def test_velocity_prediction_is_honoured(loader, folder):
    scheduler = DDIMScheduler(**SD_SCHEDULE, prediction_type="v_prediction", timestep_spacing="leading")
    scheduler.save_pretrained(folder / "scheduler")
    scheduler.set_timesteps(10)
    reference = unet().from_pretrained(folder / "unet")
    noisy, context, timestep = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 32), scheduler.timesteps[3]

    model = loader.load_unet(folder).model
    sigma = model.model_sampling.sigmas[timestep]
    denoised = model.apply_model(noisy * (1 + sigma**2).sqrt(), sigma[None], c_crossattn=context)

    velocity = reference(noisy, timestep, context).sample
    assert relative_error(denoised, scheduler.step(velocity, timestep, noisy).pred_original_sample) < 1e-5


@pytest.mark.parametrize(
    "shape",
    [{}, {"widths": (64, 96, 96, 128), "layers_per_block": 3}, {"widths": (32, 64, 64, 64), "layers_per_block": 2}],
    ids=["narrow", "three layers", "two layers"],
)
def test_vae_equals_diffusers(loader, folder, shape):
    shutil.rmtree(folder / "vae")
    reference = vae(**shape)
    reference.save_pretrained(folder / "vae")
    latent = torch.randn(1, 4, 4, 6)

    native = loader.load_vae(folder)
    picture = native.decode(latent)

    assert relative_error(picture, (reference.decode(latent).sample / 2 + 0.5).clamp(0, 1).movedim(1, -1)) < 1e-5
    posterior = reference.encode(picture.movedim(-1, 1) * 2 - 1).latent_dist
    assert relative_error(native.encode(picture), posterior.mode()) < 1e-5


def test_vae_with_the_attention_names_of_old_diffusers(loader, folder):
    latent = torch.randn(1, 4, 4, 4)
    expected = loader.load_vae(folder).decode(latent)
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(path)
    for new_name, old_name in old.items():
        weights = {name.replace(f"attentions.0.{new_name}", f"attentions.0.{old_name}"): tensor for name, tensor in weights.items()}
    save_file(weights, path)

    assert torch.equal(loader.load_vae(folder).decode(latent), expected)


@pytest.mark.parametrize(
    "shape", [{}, {"hidden_act": "gelu", "num_hidden_layers": 3}, {"hidden_size": 48, "num_attention_heads": 3, "hidden_act": "quick_gelu"}]
)
def test_text_encoder_equals_transformers(loader, folder, shape):
    reference = text_encoder(**shape)
    reference.save_pretrained(folder / "text_encoder")
    prompt = "a drawing of a castle, zebra!"
    ids = CLIPTokenizer.from_pretrained(folder / "tokenizer")(prompt, padding="max_length", max_length=77, return_tensors="pt").input_ids

    clip = loader.load_text_encoder(folder)
    tokens = clip.tokenize(prompt)

    assert [token for token, _ in tokens["l"][0]] == ids[0].tolist()
    assert relative_error(clip.encode_from_tokens(tokens), reference(ids).last_hidden_state) < 1e-5


def test_text_encoder_reads_the_names_of_transformers_4(loader, folder):
    def encode():
        clip = loader.load_text_encoder(folder)
        return clip.encode_from_tokens(clip.tokenize("a bell"))

    expected = encode()
    path = folder / "text_encoder" / "model.safetensors"
    weights = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in load_file(path).items()}
    save_file(weights | {"text_model.embeddings.position_ids": torch.arange(77)[None]}, path)

    assert torch.equal(encode(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_text_encoder_keeps_the_precision_of_its_file(loader, folder, dtype):
    path = folder / "text_encoder" / "model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, path)

    weight = loader.load_text_encoder(folder).cond_stage_model.clip_l.transformer.get_input_embeddings().weight

    assert weight.dtype == dtype


def test_emphasis_scales_around_the_empty_prompt(loader, folder):
    clip = loader.load_text_encoder(folder)
    plain, empty, heavy = (clip.encode_from_tokens(clip.tokenize(text)) for text in ("bell", "", "(bell:1.5)"))

    torch.testing.assert_close(heavy[:, 1], empty[:, 1] + 1.5 * (plain[:, 1] - empty[:, 1]))


@pytest.mark.parametrize("variant", ["fp16.safetensors", "bin", "fp16.bin"])
def test_variants_of_the_weights_file(loader, folder, variant):
    name = f"diffusion_pytorch_model.{variant}"
    original = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(original)
    original.unlink()
    if name.endswith(".bin"):
        torch.save(weights, folder / "unet" / name)
    else:
        save_file({key: tensor.half() for key, tensor in weights.items()}, folder / "unet" / name)

    native = loader.load_unet(folder).model.diffusion_model

    torch.testing.assert_close(native.time_embed[0].weight, weights["time_embedding.linear_1.weight"], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_weights_in_a_chosen_number_format(loader, folder, dtype):
    noisy, sigma, context = torch.randn(1, 4, 8, 8), torch.tensor([1.0]), torch.randn(1, 77, 32)
    expected = loader.load_unet(folder).model.apply_model(noisy, sigma, c_crossattn=context)

    model = loader.load_unet(folder, {"dtype": dtype}).model

    assert model.get_dtype() == dtype
    assert relative_error(model.apply_model(noisy, sigma, c_crossattn=context), expected) < 0.1


def test_lora_keys_reach_every_attention(loader, folder):
    import comfy.lora

    model = loader.load_unet(folder).model
    keys = comfy.lora.model_lora_keys_unet(model, {})

    names = {name.removesuffix(".weight") for name in load_file(folder / "unet" / "diffusion_pytorch_model.safetensors") if "to_q" in name}
    assert names
    assert all(keys[f"lora_unet_{name.replace('.', '_')}"] in model.state_dict() for name in names)


def test_a_deep_copy_has_weights_of_its_own(loader, folder):
    patcher = loader.load_unet(folder)
    if not hasattr(patcher, "cached_patcher_init") or "force_deepcopy" not in patcher.clone.__code__.co_varnames:
        pytest.skip("this ComfyUI cannot copy a model deeply")

    copy = patcher.clone(force_deepcopy=True)

    assert copy.model is not patcher.model
    assert not copy.is_clone(patcher)


UNET, VAE, TEXT, SCHEDULER = "unet/config.json", "vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json"
REFUSED = {
    "SDXL": (UNET, {"addition_embed_type": "text_time"}, "SDXL.*addition_embed_type"),
    "inpainting": (UNET, {"in_channels": 9}, "inpainting.*in_channels is 9"),
    "InstructPix2Pix": (UNET, {"in_channels": 8}, "image-editing"),
    "learned variance": (UNET, {"out_channels": 8}, "out_channels is 8"),
    "video": (UNET, {"_class_name": "UNet3DConditionModel"}, "video"),
    "class labels": (UNET, {"class_embed_type": "timestep"}, "class_embed_type"),
    "16 norm groups": (UNET, {"norm_num_groups": 16}, "norm_num_groups"),
    "width 48": (UNET, {"block_out_channels": [32, 48]}, r"\[32, 48\].*multiple of 32"),
    "another block type": (UNET, {"down_block_types": ["DownBlock2D", "SimpleCrossAttnDownBlock2D"]}, "SimpleCrossAttnDownBlock2D"),
    "heads that do not divide": (UNET, {"attention_head_dim": 7}, "does not divide"),
    "heads without a rule": (UNET, {"attention_head_dim": [8, 4]}, "neither one number of heads nor one width"),
    "layers by level": (UNET, {"layers_per_block": [1, 2]}, r"layers_per_block is \[1, 2\]"),
    "config of another depth": (UNET, {"layers_per_block": 2}, "does not fit the config.json beside it: .*missing"),
    "config of another width": (UNET, {"block_out_channels": [32, 96]}, "does not fit.*of another shape"),
    "config of another text width": (UNET, {"cross_attention_dim": 64}, "does not fit.*of another shape"),
    "SDXL's VAE": (VAE, {"scaling_factor": 0.13025}, "the VAE of SDXL"),
    "16-channel VAE": (VAE, {"latent_channels": 16}, "latent_channels is 16"),
    "three-level VAE": (VAE, {"block_out_channels": [32, 32, 32]}, "3 levels"),
    "VAE config of another depth": (VAE, {"layers_per_block": 2}, "does not fit the config.json beside it"),
    "T5": (TEXT, {"model_type": "t5"}, "model_type is 't5'"),
    "unknown activation": (TEXT, {"hidden_act": "swiglu"}, "swiglu"),
    "text encoder config of another size": (TEXT, {"num_hidden_layers": 2}, "does not fit the config.json beside it"),
    "vocabulary smaller than the tokenizer's": (TEXT, {"vocab_size": 100}, "tokens, the text encoder beside it 100"),
    "x0 prediction": (SCHEDULER, {"prediction_type": "sample"}, "prediction_type names 'sample'"),
    "given betas": (SCHEDULER, {"trained_betas": [0.1, 0.2]}, "trained_betas"),
    "another number of steps": (SCHEDULER, {"num_train_timesteps": 4000}, "num_train_timesteps is 4000"),
    "unknown beta schedule": (SCHEDULER, {"beta_schedule": "sigmoid"}, "sigmoid"),
}


def load_all(loader, folder):
    loader.load_unet(folder)
    loader.load_text_encoder(folder)
    loader.load_vae(folder)


@pytest.mark.parametrize(("config", "changes", "message"), REFUSED.values(), ids=REFUSED)
def test_a_config_that_native_classes_cannot_honour_is_refused(loader, folder, config, changes, message):
    edit_json(folder / config, **changes)

    with pytest.raises(ValueError, match=message) as refusal:
        load_all(loader, folder)
    assert str(folder / config.split("/")[0]) in str(refusal.value) or "tokenizer" in str(refusal.value)


WEIGHTS = ["unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"]


@pytest.mark.parametrize("name", [*WEIGHTS, UNET, VAE, TEXT, SCHEDULER, "tokenizer/vocab.json"])
def test_a_missing_file_is_named(loader, folder, name):
    (folder / name).unlink()

    with pytest.raises(ValueError, match="(is missing|has none of|has neither).*Copy the model's whole folder"):
        load_all(loader, folder)


@pytest.mark.parametrize("size", [0, 5, 1000, -100])
@pytest.mark.parametrize("name", WEIGHTS)
def test_truncated_weights_are_refused(loader, folder, name, size):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:size])

    with pytest.raises(ValueError, match=f"{name} cannot be read; it is truncated"):
        load_all(loader, folder)


def test_a_pickle_that_runs_code_is_refused(loader, folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"payload": os.system}, folder / "unet" / "diffusion_pytorch_model.bin")

    with pytest.raises(ValueError, match="diffusion_pytorch_model.bin cannot be read"):
        loader.load_unet(folder)


def test_a_mislabelled_file_is_named_for_what_it_is(loader, folder):
    shutil.copy(folder / "vae" / "diffusion_pytorch_model.safetensors", folder / "unet" / "diffusion_pytorch_model.safetensors")

    with pytest.raises(ValueError, match="should hold a UNet, but holds a VAE"):
        loader.load_unet(folder)


def test_a_config_that_is_not_json_is_refused(loader, folder):
    (folder / UNET).write_text("<html>404</html>")

    with pytest.raises(ValueError, match="config.json is not valid JSON"):
        loader.load_unet(folder)


def test_a_config_without_its_widths_is_refused(loader, folder):
    config = json.loads((folder / UNET).read_text())
    del config["block_out_channels"]
    (folder / UNET).write_text(json.dumps(config))

    with pytest.raises(ValueError, match="lacks block_out_channels"):
        loader.load_unet(folder)


def test_tokenizer_without_merges_is_refused(loader, folder):
    write_tokenizer(folder / "tokenizer")
    (folder / "tokenizer" / "merges.txt").unlink()

    with pytest.raises(ValueError, match="neither tokenizer.json nor vocab.json with merges.txt"):
        loader.load_text_encoder(folder)
