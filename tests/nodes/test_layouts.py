"""Every layout in which people have these models, at small size; the same at full size is in tests/full/."""

from __future__ import annotations

import json
import shutil
import sys
from types import ModuleType

import pytest
import torch
from diffusers import LatentConsistencyModelPipeline, UNet2DConditionModel
from diffusers_folders import edit_json, unet, write_folder
from safetensors.torch import load_file, save_file

pytest.importorskip("comfy.sd", reason="COMFYUI_PATH does not name a ComfyUI folder")

import comfy.sd  # noqa: E402
import folder_paths  # noqa: E402
from model_files import one_level_unet  # noqa: E402

WIDE = {"cross_attention_dim": 768, "text": {"hidden_size": 768, "num_attention_heads": 12}}
IN_CHECKPOINT = "model.diffusion_model."


@pytest.fixture
def lightning(monkeypatch):
    """The class that training left in the first .ckpt files of Stable Diffusion."""
    module = ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    checkpoint = vars(module)["ModelCheckpoint"] = type("ModelCheckpoint", (), {"__module__": module.__name__})
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    return checkpoint


@pytest.fixture
def random_unet():
    """`one_level_unet` with random weights."""
    generator = torch.Generator().manual_seed(3)
    return {name: 0.1 * torch.randn(weight.shape, generator=generator).half() for name, weight in one_level_unet().items()}


def assert_holds(model, weights):
    found = model.model.diffusion_model.state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name].half(), weights[name]) for name in weights)


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", ["picture.ckpt", "picture.safetensors"])
def test_a_single_file_checkpoint(load, models, lightning, random_unet, name):
    write_folder(models / "diffusers" / "wide", **WIDE)
    weights = {IN_CHECKPOINT + key: weight for key, weight in random_unet.items()}
    if name.endswith(".ckpt"):
        training = {"epoch": 1, "global_step": 470000, "callbacks": {lightning: {"best_model_score": None}}}
        torch.save(training | {"state_dict": weights}, models / "checkpoints" / name)
    else:
        save_file(weights, models / "checkpoints" / name)

    assert_holds(load(image=f"checkpoints/{name}", audio="diffusers/wide").image_model, random_unet)


@pytest.mark.parametrize("prefix", ["", IN_CHECKPOINT], ids=["bare names", "a checkpoint's names"])
@pytest.mark.parametrize("name", ["unet.safetensors", "unet.pt"])
def test_a_unet_alone(load, models, random_unet, prefix, name):
    write_folder(models / "diffusers" / "wide", **WIDE)
    write = save_file if name.endswith(".safetensors") else torch.save
    write({prefix + key: weight for key, weight in random_unet.items()}, models / "diffusion_models" / name)

    assert_holds(load(image="diffusers/wide", audio=f"diffusion_models/{name}").audio_model, random_unet)


@pytest.mark.parametrize("ending", ["fp16.safetensors", "bin", "fp16.bin"])
def test_a_folder_of_fp16_variants_or_pickles(load, models, ending):
    folder = models / "diffusers" / "picture"
    plain = load()
    for original in folder.glob("*/*.safetensors"):
        weights = {name: weight.half() if "fp16" in ending else weight for name, weight in load_file(original).items()}
        original.unlink()
        name = f"{original.stem}.{ending}"
        if ending.endswith("bin"):
            # some published pickles hold tensors that are not contiguous
            weights = {key: weight.t().contiguous().t() if weight.ndim == 2 else weight for key, weight in weights.items()}
            torch.save(weights, original.parent / (f"pytorch_{name}" if original.stem == "model" else name))
        else:
            save_file(weights, original.parent / name)

    loaded = load()

    context, latent = torch.randn(1, 77, 32), torch.randn(1, 4, 8, 8)
    tolerance = 2e-3 if "fp16" in ending else 0.0  # float16 has 11 bits
    with torch.inference_mode():
        for found, expected in (
            (denoised(loaded.image_model, latent, context), denoised(plain.image_model, latent, context)),
            (encoded(loaded.image_clip, "a bell"), encoded(plain.image_clip, "a bell")),
            (loaded.vae.decode(latent), plain.vae.decode(latent)),
        ):
            assert relative_error(found, expected) <= tolerance


def denoised(model, latent, context):
    return model.model.apply_model(latent, torch.tensor([1.0]), c_crossattn=context).float()


def encoded(clip, text):
    return clip.encode_from_tokens(clip.tokenize(text)).float()


def test_a_text_encoder_file_as_transformers_5_saves_it_gets_the_names_that_comfyui_knows(load, models, monkeypatch):
    """ComfyUI alone would find none of them and encode with whatever lies in memory. That the embeddings are right, tests/full/ shows."""
    source, own, seen = models / "diffusers" / "picture" / "text_encoder" / "model.safetensors", load().image_clip, []
    assert "embeddings.token_embedding.weight" in load_file(source)
    shutil.copy(source, models / "text_encoders" / "saved.safetensors")
    monkeypatch.setattr(comfy.sd, "load_text_encoder_state_dicts", lambda weights, **options: (seen.extend(weights[0]), own)[1])

    load(image_clip_name="saved.safetensors")

    assert seen and all(name.startswith("text_model.") for name in seen)


def test_a_folder_without_model_index_is_offered(loaders, models):
    (models / "diffusers" / "picture" / "model_index.json").unlink()

    assert "diffusers/picture" in loaders.LoadDualUNets.INPUT_TYPES()["required"]["image_model_name"][1]["options"]


def test_a_latent_consistency_model_is_told_its_guidance(load, models, caplog):
    """Against diffusers' UNet that is fed the embedding which its LCM pipeline makes of the same guidance scale."""
    folder = models / "diffusers" / "picture"
    shutil.rmtree(folder / "unet")
    unet(time_cond_proj_dim=16).save_pretrained(folder / "unet")
    edit_json(folder / "scheduler" / "scheduler_config.json", _class_name="LCMScheduler", original_inference_steps=50)
    reference = UNet2DConditionModel.from_pretrained(folder / "unet").eval()
    embedding = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, torch.tensor([8.5 - 1]), embedding_dim=16)
    noisy, context = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 32)

    with caplog.at_level("INFO"):
        native = load().image_model.model.diffusion_model

    with torch.inference_mode():
        for timestep in (torch.tensor([981]), torch.tensor([21])):
            expected = reference(noisy, timestep, context, timestep_cond=embedding).sample
            assert relative_error(native(noisy, timestep, context=context), expected) < 1e-5
            assert relative_error(reference(noisy, timestep, context).sample, expected) > 1e-3
    assert "told 8.5: set its cfg to 1" in caplog.text


def test_a_vocoder_of_half_precision_and_weight_norm(loaders, models):
    vocoder = sys.modules[loaders.load_vocoder.__module__]
    config = json.loads((loaders.embedded.VOCODER_FOLDER / "config.json").read_text())
    trained = vocoder.HiFiGAN(vocoder.HiFiGANConfig.from_dict(config))
    for layer in (trained.conv_pre, trained.conv_post):
        torch.nn.utils.parametrizations.weight_norm(layer)
    folder = models / "diffusers" / "picture" / "vocoder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    torch.save({"generator": trained.half().state_dict()}, folder / "vocoder.pt")

    (loaded,) = loaders.LoadVocoder.execute(vocoder_name="diffusers/picture").args

    log_mel = torch.randn(1, 256, 4)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.patcher.model(log_mel), trained.float()(log_mel), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("name", ["with spaces (v1.0) & more", "колокол 鐘 🔔", "back\\slash", "..dots.."])
def test_names_of_any_kind(load, loaders, models, random_unet, name):
    if sys.platform == "win32" and "\\" in name:
        pytest.skip("a backslash separates folders here")
    write_folder(models / "diffusers" / name, **WIDE)
    save_file(random_unet, models / "diffusion_models" / f"{name}.safetensors")
    image, audio = f"diffusers/{name}", f"diffusion_models/{name}.safetensors"

    choices = loaders.LoadDualUNets.INPUT_TYPES()["required"]["image_model_name"][1]["options"]
    assert image in choices and audio in choices
    assert_holds(load(image=image, audio=audio).audio_model, random_unet)


def test_a_name_saved_on_windows_is_offered_with_slashes(loaders, models, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_filename_list", lambda key: ["sub\\picture.safetensors"] if key == "checkpoints" else [])
    monkeypatch.setattr(loaders.os, "sep", "\\")

    assert "checkpoints/sub/picture.safetensors" in loaders.LoadDualUNets.INPUT_TYPES()["required"]["image_model_name"][1]["options"]


def test_loading_writes_nothing_into_a_read_only_models_folder(load, loaders, models):
    def state():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in models.rglob("*")}

    before = state()
    for path in models.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        load()
        loaders.LoadDualUNets.fingerprint_inputs(image_model_name="diffusers/picture", audio_model_name="diffusers/author/sound")
    finally:
        for path in models.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert state() == before
