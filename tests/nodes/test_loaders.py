"""The loaders: which names they offer, what they load for them, what they borrow and what they refuse."""

from __future__ import annotations

import importlib
import json
import logging
import os
import shutil

import pytest
import torch
from diffusers_folders import edit_json, write_folder
from safetensors.torch import load_file, save_file

if not os.environ.get("COMFYUI_PATH"):
    pytest.skip("needs ComfyUI", allow_module_level=True)

import comfy.model_management
import folder_paths
from model_files import one_level_unet

WEIGHT_DTYPES = [
    ("default", torch.float32),
    ("fp32", torch.float32),
    ("fp16", torch.float16),
    ("bf16", torch.bfloat16),
    ("fp8_e4m3fn", torch.float8_e4m3fn),
    ("fp8_e4m3fn_fast", torch.float8_e4m3fn),
    ("fp8_e5m2", torch.float8_e5m2),
]
SMALL = {"hidden_size": 768, "num_attention_heads": 12}
VOCODER = {
    "resblock": "2",
    "upsample_rates": [10, 16],
    "upsample_kernel_sizes": [20, 32],
    "upsample_initial_channel": 8,
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3]],
    "num_mels": 256,
}


def write_vocoder(loaders, folder, **config):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(VOCODER | config))
    vocoder = importlib.import_module(loaders.__package__.removesuffix("nodes") + "itsound_core.vocoder")
    generator = vocoder.HiFiGAN(vocoder.HiFiGANConfig.from_dict(VOCODER))
    save_file(generator.state_dict(), folder / "vocoder.safetensors")
    return generator


def options(node, name):
    inputs = node.INPUT_TYPES()
    return (inputs["required"] | inputs.get("optional", {}))[name][1]["options"]


def test_names_are_embedded_first_then_by_kind_with_slashes(loaders, models):
    (models / "checkpoints" / "sub").mkdir()
    for file in ("checkpoints/sub/a.safetensors", "diffusion_models/b.safetensors", "text_encoders/c.safetensors", "vae/d.safetensors"):
        (models / file).touch()

    expected = [
        "embedded",
        "checkpoints/sub/a.safetensors",
        "diffusion_models/b.safetensors",
        "diffusers/author/sound",
        "diffusers/picture",
    ]
    assert options(loaders.LoadDualUNets, "image_model_name") == expected
    assert options(loaders.LoadDualUNets, "audio_model_name") == expected
    assert options(loaders.LoadDualUNets, "audio_clip_name") == ["from the model", "c.safetensors"]
    assert options(loaders.LoadDualUNets, "vae_name") == ["from the model", "d.safetensors"]


def test_a_folder_copied_in_while_the_server_runs_is_offered(loaders, models):
    assert "diffusers/new" not in options(loaders.LoadDualUNets, "image_model_name")

    shutil.copytree(models / "diffusers" / "picture", models / "diffusers" / "new")

    assert "diffusers/new" in options(loaders.LoadDualUNets, "image_model_name")


def test_the_embedded_models_load_and_know_every_preset_word(load, loaders, caplog):
    presets = importlib.import_module(loaders.__package__.removesuffix("nodes") + "itsound_core.presets")

    loaded = load(image="embedded", audio="embedded")
    (vocoder,) = loaders.LoadVocoder.execute(vocoder_name="embedded").args
    for clip, prompts in ((loaded.image_clip, presets.EMBEDDED_IMAGE_PROMPTS), (loaded.audio_clip, presets.EMBEDDED_AUDIO_PROMPTS)):
        for prompt in prompts:
            clip.tokenize(prompt)

    with torch.inference_mode():
        assert loaded.vae.decode(torch.zeros(1, 4, 32, 128)).shape == (1, 256, 1024, 3)
        assert vocoder.patcher.model(torch.zeros(1, 256, 4)).shape == (1, 640)
    assert "unknown" not in caplog.text


def test_two_diffusers_folders(load, models):
    loaded = load()

    for side, folder in (("image", "picture"), ("audio", "author/sound")):
        weights = load_file(models / "diffusers" / folder / "unet" / "diffusion_pytorch_model.safetensors")
        model = getattr(loaded, f"{side}_model").model
        assert torch.equal(model.diffusion_model.out[2].weight, weights["conv_out.weight"])
    assert loaded.image_clip.cond_stage_model is not loaded.audio_clip.cond_stage_model
    weights = load_file(models / "diffusers" / "picture" / "vae" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(loaded.vae.first_stage_model.decoder.conv_out.weight, weights["decoder.conv_out.weight"])


def test_one_model_on_both_sides_is_two_copies_that_load_together(load, models):
    loaded = load(audio="diffusers/picture")

    comfy.model_management.load_models_gpu([loaded.image_model, loaded.audio_model])

    assert not loaded.image_model.is_clone(loaded.audio_model)
    assert {id(loaded.image_model), id(loaded.audio_model)} <= {id(entry.model) for entry in comfy.model_management.current_loaded_models}


@pytest.mark.parametrize(("choice", "dtype"), WEIGHT_DTYPES)
def test_weight_dtype_is_both_models(load, models, choice, dtype):
    write_folder(models / "diffusers" / "wide", cross_attention_dim=768, text=SMALL)
    weights = {f"model.diffusion_model.{name}": tensor for name, tensor in one_level_unet().items()}
    save_file(weights, models / "checkpoints" / "bare.safetensors")
    save_file(one_level_unet(), models / "diffusion_models" / "unet.safetensors")

    loaded = load(image="checkpoints/bare.safetensors", audio="diffusers/wide", weight_dtype=choice)
    alone = load(image="diffusers/wide", audio="diffusion_models/unet.safetensors", weight_dtype=choice).audio_model

    latent, sigma, context = torch.randn(1, 4, 8, 8), torch.tensor([1.0]), torch.randn(1, 77, 768)
    for model in (loaded.image_model, loaded.audio_model, alone):
        assert model.model.get_dtype() == dtype
        with torch.inference_mode():
            assert model.model.apply_model(latent, sigma, c_crossattn=context).isfinite().all()


def test_a_replaced_folder_changes_the_fingerprint(loaders, models):
    names = {"image_model_name": "diffusers/picture", "audio_model_name": "diffusers/author/sound"}
    before = loaders.LoadDualUNets.fingerprint_inputs(**names)
    assert before == loaders.LoadDualUNets.fingerprint_inputs(**names)
    assert str(models) not in str(before), "saved files carry the fingerprint"

    os.utime(models / "diffusers" / "author" / "sound" / "unet" / "diffusion_pytorch_model.safetensors", (1, 1))

    assert before != loaders.LoadDualUNets.fingerprint_inputs(**names)


@pytest.mark.parametrize(
    ("key", "choice"),
    [
        ("checkpoints", "image_model_name"),
        ("diffusion_models", "audio_model_name"),
        ("text_encoders", "image_clip_name"),
        ("text_encoders", "audio_clip_name"),
        ("vae", "vae_name"),
    ],
)
def test_a_replaced_file_changes_the_fingerprint(loaders, models, key, choice):
    file = models / key / "file.safetensors"
    file.write_bytes(b"before")
    names = {"image_model_name": "diffusers/picture", "audio_model_name": "diffusers/author/sound"}
    names[choice] = f"{key}/file.safetensors" if choice.endswith("model_name") else "file.safetensors"
    before = loaders.LoadDualUNets.fingerprint_inputs(**names)

    file.write_bytes(b"another")

    assert before != loaders.LoadDualUNets.fingerprint_inputs(**names)


def test_a_file_replaced_between_two_runs_is_loaded_anew(load, models):
    before = load()
    path = models / "diffusers" / "picture" / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    save_file(weights | {"conv_out.bias": weights["conv_out.bias"] + 1}, path)

    after = load()

    shift = after.image_model.model.diffusion_model.out[2].bias - before.image_model.model.diffusion_model.out[2].bias
    torch.testing.assert_close(shift, torch.ones(4))


def test_a_chosen_vae_file(load, models):
    from_folder = load().vae
    save_file({name: tensor.clone() for name, tensor in core_vae().items()}, models / "vae" / "small.safetensors")

    chosen = load(vae_name="small.safetensors").vae

    assert type(chosen.first_stage_model) is not type(from_folder.first_stage_model)


def core_vae():
    """State dict of TAESD, the smallest VAE that ComfyUI detects, as VAELoader names it."""
    from comfy.taesd.taesd import TAESD

    return TAESD(latent_channels=4).state_dict()


def test_a_vae_of_another_latent_space_is_refused(load, models):
    from comfy.taesd.taesd import TAESD

    save_file(
        {name: tensor.clone() for name, tensor in TAESD(latent_channels=16).state_dict().items()}, models / "vae" / "flux.safetensors"
    )

    with pytest.raises(ValueError, match='LoadDualUNets: vae_name is "flux.safetensors". Its latents have 16 channels'):
        load(vae_name="flux.safetensors")


def test_a_unet_only_file_borrows_text_encoder_and_vae(load, models, caplog):
    save_file(one_level_unet(), models / "diffusion_models" / "unet.safetensors")
    write_folder(models / "diffusers" / "wide", cross_attention_dim=768, text=SMALL)

    with caplog.at_level(logging.INFO):
        loaded = load(image="diffusion_models/unet.safetensors", audio="diffusers/wide")

    assert loaded.image_clip is not loaded.audio_clip
    assert loaded.image_clip.cond_stage_model is loaded.audio_clip.cond_stage_model
    assert loaded.vae is not None
    assert '"diffusion_models/unet.safetensors" has no text encoder; the image prompt is read by the other model\'s' in caplog.text
    assert "the image model has no VAE" in caplog.text


def test_the_embedded_audio_model_brings_the_vae_that_lies_in_the_image_models_folder(load, loaders, models, monkeypatch):
    save_file(one_level_unet(), models / "diffusion_models" / "unet.safetensors")
    write_folder(models / "diffusers" / "wide", cross_attention_dim=768, text=SMALL)
    bridge = loaders.__package__.removesuffix("nodes") + "bridge."
    pair, text = importlib.import_module(bridge + "model_pair"), importlib.import_module(bridge + "text_encoder_folder")
    (models / "text_encoders").mkdir(exist_ok=True)
    (models / "text_encoders" / "clip_l.safetensors").touch()
    monkeypatch.setattr(pair, "_load_clip", lambda *_: text.load_text_encoder(models / "diffusers" / "wide"))  # a real one is large
    folder = importlib.import_module(loaders.__package__.removesuffix("nodes") + "itsound_core.embedded").IMAGE_FOLDER
    shipped = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")["decoder.conv_out.weight"]

    vae = load(image="diffusion_models/unet.safetensors", audio="embedded", image_clip_name="clip_l.safetensors").vae

    assert torch.equal(vae.first_stage_model.decoder.conv_out.weight.cpu(), shipped.to(vae.vae_dtype))


def test_a_checkpoint_without_text_encoder_and_vae_borrows_them(load, models):
    weights = {f"model.diffusion_model.{name}": tensor for name, tensor in one_level_unet().items()}
    save_file(weights, models / "checkpoints" / "bare.safetensors")
    write_folder(models / "diffusers" / "wide", cross_attention_dim=768, text=SMALL)

    loaded = load(image="diffusers/wide", audio="checkpoints/bare.safetensors")

    assert loaded.audio_clip.cond_stage_model is loaded.image_clip.cond_stage_model


def test_two_unet_only_files_need_a_text_encoder(load, models):
    save_file(one_level_unet(), models / "diffusion_models" / "unet.safetensors")

    with pytest.raises(
        ValueError, match=r"image_model_name.*has no text encoder.*Choose image_clip_name \(a file in models/text_encoders\)"
    ):
        load(image="diffusion_models/unet.safetensors", audio="diffusion_models/unet.safetensors")


def test_a_text_encoder_of_another_width_is_refused(load, models):
    save_file(one_level_unet(), models / "diffusion_models" / "unet.safetensors")

    with pytest.raises(
        ValueError, match="audio model reads text embeddings 768 wide, its text encoder writes 32. Choose another audio_clip_name"
    ):
        load(audio="diffusion_models/unet.safetensors")


def test_a_folder_that_does_not_fit_is_refused_with_node_and_input(load, models):
    edit_json(models / "diffusers" / "author" / "sound" / "unet" / "config.json", in_channels=9)

    with pytest.raises(ValueError, match='LoadDualUNets: audio_model_name is "diffusers/author/sound". .*inpainting'):
        load()


def test_vocoder_names(loaders, models):
    write_vocoder(loaders, models / "vocoders" / "mine")
    write_vocoder(loaders, models / "diffusers" / "author" / "sound" / "vocoder")

    assert options(loaders.LoadVocoder, "vocoder_name") == ["embedded", "vocoders/mine", "diffusers/author/sound"]


@pytest.mark.parametrize(
    ("name", "folder"), [("vocoders/mine", "vocoders/mine"), ("diffusers/author/sound", "diffusers/author/sound/vocoder")]
)
def test_vocoder_is_known_to_the_memory_manager(loaders, models, name, folder):
    generator = write_vocoder(loaders, models / folder)
    log_mel = torch.randn(1, 256, 8)

    (vocoder,) = loaders.LoadVocoder.execute(vocoder_name=name).args
    comfy.model_management.load_models_gpu([vocoder.patcher], force_full_load=True)

    assert vocoder.patcher in [entry.model for entry in comfy.model_management.current_loaded_models]
    with torch.inference_mode():
        torch.testing.assert_close(vocoder.patcher.model(log_mel), generator(log_mel))
    assert vocoder.name == name


@pytest.mark.parametrize(
    ("config", "message"),
    [({"num_mels": 80}, "num_mels is 80"), ({"upsample_rates": [16, 16]}, "make 256 samples a frame, but the spectrogram has 160")],
)
def test_a_vocoder_of_another_spectrogram_is_refused(loaders, models, config, message):
    write_vocoder(loaders, models / "vocoders" / "speech", **config)

    with pytest.raises(ValueError, match=f'LoadVocoder: vocoder_name is "vocoders/speech". .*{message}.*such as Auffusion'):
        loaders.LoadVocoder.execute(vocoder_name="vocoders/speech")


def play(loaders, vocoder):
    """The sound of a gray picture, as Spectrogram to Audio makes it."""
    audio = importlib.import_module(loaders.__package__ + ".audio")
    with torch.inference_mode():
        return audio.SpectrogramToAudio.execute(torch.full((1, 256, 16, 3), 0.5), vocoder).args[0]["waveform"]


def test_a_vocoder_with_a_silent_channel_under_weight_norm_plays(loaders, models):
    """Training leaves directions of zeros, and g v / |v| of them is NaN."""
    folder = models / "vocoders" / "mine"
    pairs = {}
    for name, weight in write_vocoder(loaders, folder).state_dict().items():
        if name.endswith(".weight"):
            weight[0] = 0.0
            pairs |= {name + "_v": weight, name + "_g": weight.flatten(1).norm(dim=1).reshape(-1, *[1] * (weight.ndim - 1))}
        else:
            pairs[name] = weight
    save_file(pairs, folder / "vocoder.safetensors")

    (vocoder,) = loaders.LoadVocoder.execute(vocoder_name="vocoders/mine").args

    assert play(loaders, vocoder).isfinite().all()


def test_a_sound_that_is_nan_is_laid_to_its_vocoder(loaders, models):
    folder = models / "vocoders" / "mine"
    weights = write_vocoder(loaders, folder).state_dict()
    weights["conv_pre.bias"][0] = float("nan")
    save_file(weights, folder / "vocoder.safetensors")

    (vocoder,) = loaders.LoadVocoder.execute(vocoder_name="vocoders/mine").args

    with pytest.raises(ValueError, match='LoadVocoder: vocoder_name is "vocoders/mine", and its sound is NaN .*Griffin-Lim needs none'):
        play(loaders, vocoder)


def test_a_replaced_vocoder_changes_the_fingerprint(loaders, models):
    write_vocoder(loaders, models / "vocoders" / "mine")
    before = loaders.LoadVocoder.fingerprint_inputs(vocoder_name="vocoders/mine")
    assert str(models) not in str(before), "saved files carry the fingerprint"

    os.utime(models / "vocoders" / "mine" / "vocoder.safetensors", (1, 1))

    assert before != loaders.LoadVocoder.fingerprint_inputs(vocoder_name="vocoders/mine")


def test_the_vocoders_folder_lists_weights_only(loaders):
    paths, extensions = folder_paths.folder_names_and_paths["vocoders"]

    assert os.path.join(folder_paths.models_dir, "vocoders") in paths
    assert ".safetensors" in extensions and ".json" not in extensions
