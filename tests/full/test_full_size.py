"""Stable Diffusion v1.5, its relatives, Auffusion and a vocoder at full size, against diffusers and transformers on the same weights.

All weights are float16 files and all arithmetic is float32, so the two sides may differ only by the order in which they add. On two cores
with one thread UNet and text encoder agreed to the bit and the VAE to 2e-6; TOLERANCE leaves room for other kernels and thread counts. A
wrong tensor, scale, token or timestep makes 1e-1 and more.
"""

from __future__ import annotations

import gc
import importlib
import shutil
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("comfy.sd", reason="COMFYUI_PATH does not name a ComfyUI folder")

import folder_paths  # noqa: E402
import full_size  # noqa: E402
from diffusers import LatentConsistencyModelPipeline  # noqa: E402
from model_files import load_pair  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import CLIPTokenizer  # noqa: E402

from itsound_core.vocoder import load_vocoder  # noqa: E402

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]

TOLERANCE = 1e-4
CHECKPOINT, SD15, AUFFUSION = "checkpoints/sd15.safetensors", "diffusers/sd15", "diffusers/auffusion"
WORDS = ("castle", "dog", "bell", "cat", "bird") * 20  # one token each
PIECE = 75  # tokens between start and end
PROMPTS = {"plain": "a painting of a castle, grayscale", "empty": "", "long": " ".join(WORDS)}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield
    gc.collect()


@pytest.fixture(scope="module")
def inputs():
    """A latent of the whole canvas, a timestep of the warm start and one near the end, and a prompt's embedding."""
    generator = torch.Generator().manual_seed(1)
    noisy, context = torch.randn(1, 4, 32, 128, generator=generator), torch.randn(1, 77, 768, generator=generator)
    return SimpleNamespace(noisy=noisy, timesteps=(torch.tensor([981]), torch.tensor([21])), context=context)


@pytest.fixture(scope="module")
def pair(loaders, models):
    """The checkpoint as image model and the folder as audio model."""
    return load_pair(loaders, CHECKPOINT, AUFFUSION, weight_dtype="fp16")


def agree(found, expected, record_property, name):
    error = float((found - expected).norm() / expected.norm())
    record_property(name, error)
    print(f"{name}: {error:.2e}")
    assert error < TOLERANCE


def agree_at_both_timesteps(model, reference, inputs, record_property, **conditions):
    native, reference = model.model.diffusion_model, reference.float()
    for timestep in inputs.timesteps:
        expected = reference(inputs.noisy, timestep, inputs.context, **conditions).sample
        found = native(inputs.noisy, timestep, context=inputs.context)
        agree(found, expected, record_property, f"UNet at timestep {int(timestep)}")


def assert_same_weights(model, other):
    weights, others = model.model.diffusion_model.state_dict(), other.model.diffusion_model.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_the_unet_of_a_checkpoint_predicts_as_diffusers(pair, models, inputs, record_property):
    reference = full_size.from_checkpoint(models / CHECKPOINT, models / SD15, "unet")

    assert sum(weight.numel() for weight in reference.parameters()) == full_size.PARAMETERS["sd15"]
    agree_at_both_timesteps(pair.image_model, reference, inputs, record_property)


def test_the_unet_of_a_folder_is_that_of_the_checkpoint(pair):
    assert_same_weights(pair.audio_model, pair.image_model)
    assert not pair.audio_model.is_clone(pair.image_model)


@pytest.fixture(scope="module")
def text_encoder(models):
    """Hidden states (1, 77, 768) of a text by transformers."""
    tokenizer = CLIPTokenizer.from_pretrained(models / SD15 / "tokenizer")
    encoder = full_size.from_checkpoint(models / CHECKPOINT, models / SD15, "text_encoder")

    def encode(text):
        return encoder(tokenizer(text, padding="max_length", max_length=77, return_tensors="pt").input_ids).last_hidden_state

    return encode


@pytest.mark.parametrize("side", ["image", "audio"], ids=["of a checkpoint", "of a folder"])
def test_prompts_are_encoded_as_by_transformers(pair, text_encoder, side, record_property):
    clip = getattr(pair, f"{side}_clip")

    def encode(text):
        return clip.encode_from_tokens(clip.tokenize(text)).float()

    agree(encode(PROMPTS["plain"]), text_encoder(PROMPTS["plain"]), record_property, "plain prompt")
    agree(encode(""), text_encoder(""), record_property, "empty prompt")
    pieces = torch.cat([text_encoder(" ".join(WORDS[:PIECE])), text_encoder(" ".join(WORDS[PIECE:]))], dim=1)
    agree(encode(PROMPTS["long"]), pieces, record_property, "long prompt")

    empty, emphasised = text_encoder(""), text_encoder("a bell ringing")
    emphasised[:, 2] = empty[:, 2] + 1.5 * (emphasised[:, 2] - empty[:, 2])
    agree(encode("a (bell:1.5) ringing"), emphasised, record_property, "emphasis")


def test_the_vae_encodes_and_decodes_as_diffusers(loaders, pair, models, record_property):
    reference = full_size.from_checkpoint(models / CHECKPOINT, models / SD15, "vae")
    latent = torch.randn(1, 4, 16, 32, generator=torch.Generator().manual_seed(2))
    expected = (reference.decode(latent).sample / 2 + 0.5).clamp(0, 1)
    posterior = reference.encode(expected * 2 - 1).latent_dist.mode()
    of_folder = importlib.import_module(loaders.__package__.removesuffix("nodes") + "bridge.vae_folder").load_vae(models / SD15)

    for name, vae in (("of a checkpoint", pair.vae), ("of a folder", of_folder)):
        agree(vae.decode(latent), expected.movedim(1, -1), record_property, f"decoded by the VAE {name}")
        agree(vae.encode(expected.movedim(1, -1)), posterior, record_property, f"encoded by the VAE {name}")


def test_a_unet_alone_is_that_of_the_checkpoint(loaders, pair, scratch):
    save_file(full_size.part(scratch / CHECKPOINT, full_size.UNET_PREFIX), scratch / "diffusion_models" / "sd15.safetensors")
    (scratch / "diffusion_models" / "auffusion.safetensors").hardlink_to(
        scratch / AUFFUSION / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    )
    # one with the names that are published, one as transformers 5 saves it, without their first part
    text_encoder = {f"text_model.{name}": weight for name, weight in full_size.part(scratch / CHECKPOINT, full_size.TEXT_PREFIX).items()}
    save_file(text_encoder, scratch / "text_encoders" / "clip_l.safetensors")
    (scratch / "text_encoders" / "saved.safetensors").hardlink_to(scratch / SD15 / "text_encoder" / "model.fp16.safetensors")
    (scratch / "vae" / "sd15.safetensors").hardlink_to(scratch / SD15 / "vae" / "diffusion_pytorch_model.fp16.safetensors")
    folder_paths.filename_list_cache.clear()

    alone = load_pair(
        loaders,
        "diffusion_models/sd15.safetensors",
        "diffusion_models/auffusion.safetensors",
        weight_dtype="fp16",
        image_clip_name="clip_l.safetensors",
        audio_clip_name="saved.safetensors",
        vae_name="sd15.safetensors",
    )

    assert_same_weights(alone.image_model, pair.image_model)
    assert_same_weights(alone.audio_model, pair.image_model)
    for clip in (alone.image_clip, alone.audio_clip):
        tokens = clip.tokenize(PROMPTS["plain"])
        torch.testing.assert_close(clip.encode_from_tokens(tokens), pair.image_clip.encode_from_tokens(tokens))
    latent = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(alone.vae.decode(latent), pair.vae.decode(latent))


def test_pickles_hold_the_same_weights(loaders, pair, scratch):
    torch.save({"state_dict": load_file(scratch / CHECKPOINT), "epoch": 0}, scratch / "checkpoints" / "sd15.ckpt")
    pickled = scratch / "diffusers" / "pickled"
    shutil.copytree(scratch / SD15, pickled, ignore=shutil.ignore_patterns("*.safetensors"))
    for file, name in (
        ("unet/diffusion_pytorch_model", "unet/diffusion_pytorch_model.fp16.bin"),
        ("vae/diffusion_pytorch_model", "vae/diffusion_pytorch_model.bin"),
        ("text_encoder/model", "text_encoder/pytorch_model.bin"),
    ):
        torch.save(load_file(scratch / SD15 / f"{file}.fp16.safetensors"), pickled / name)

    loaded = load_pair(loaders, "checkpoints/sd15.ckpt", "diffusers/pickled", weight_dtype="fp16")

    assert_same_weights(loaded.image_model, pair.image_model)
    assert_same_weights(loaded.audio_model, pair.image_model)
    for clip in (loaded.image_clip, loaded.audio_clip):
        tokens = clip.tokenize(PROMPTS["plain"])
        torch.testing.assert_close(clip.encode_from_tokens(tokens), pair.image_clip.encode_from_tokens(tokens))


@pytest.mark.parametrize("name", full_size.RELATIVES)
def test_a_smaller_or_distilled_relative_predicts_as_diffusers(loaders, scratch, inputs, record_property, name):
    reference = full_size.write_relative(scratch / "diffusers" / name, scratch / SD15, name)
    if name in full_size.PARAMETERS:
        assert sum(weight.numel() for weight in reference.parameters()) == full_size.PARAMETERS[name]
    conditions = {}
    if name == "lcm":
        guidance = torch.tensor([8.5 - 1])
        conditions["timestep_cond"] = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, guidance, embedding_dim=256)

    model = load_pair(loaders, f"diffusers/{name}", f"diffusers/{name}", weight_dtype="fp16").image_model

    agree_at_both_timesteps(model, reference, inputs, record_property, **conditions)


def test_a_vocoder_sounds_as_by_transformers(scratch, record_property):
    reference = full_size.write_vocoder(scratch / AUFFUSION / "vocoder")
    log_mel = torch.randn(1, 256, 128, generator=torch.Generator().manual_seed(3))

    sound = load_vocoder(scratch / AUFFUSION / "vocoder")(log_mel)

    assert sound.shape == (1, 128 * 160) and sound.abs().mean() > 0.01
    agree(sound, reference(log_mel.transpose(1, 2)), record_property, "waveform")
