"""FactorizedColorize over each kind of model, and the loaders of the colour model and of DeepFloyd IF."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("comfy.samplers", reason="COMFYUI_PATH does not name a ComfyUI folder")
pytest.importorskip("diffusers")

import comfy.latent_formats  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.supported_models  # noqa: E402
import comfy.supported_models_base  # noqa: E402
import comfy.text_encoders.pixart_t5  # noqa: E402
import diffusers_folders  # noqa: E402
import folder_paths  # noqa: E402
import latent_preview  # noqa: E402
import tiny_deepfloyd  # noqa: E402
from comfy.ldm.chroma_radiance.model import ChromaRadianceParams  # noqa: E402
from diffusers_folders import edit_json, write_color_folder, write_folder  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from tiny_models import CONTEXT, conditioning, embeddings, random_model  # noqa: E402
from transformers import T5TokenizerFast  # noqa: E402

from itsound_core.colorize import split_gray  # noqa: E402
from itsound_core.sampling import ddim_step, guided  # noqa: E402

WIDTH = 64
TEXT = dict(positive=conditioning(1, pooled_output=None), negative=conditioning(2, pooled_output=None))  # as CLIPTextEncode writes it
SETTINGS = dict(seed=3, steps=5, cfg=3.0, start_step=1, sampler_name="ddim", scheduler="ddim_uniform")


@pytest.fixture(scope="module")
def nodes(pack):
    return importlib.import_module(pack.__name__ + ".nodes.colorize")


@pytest.fixture(scope="module")
def sampling(pack):
    return importlib.import_module(pack.__name__ + ".bridge.color_sampling")


@pytest.fixture(scope="module")
def folders(pack):
    """The loaders of a folder's parts."""
    unet, text, vae = (importlib.import_module(f"{pack.__name__}.bridge.{part}_folder") for part in ("unet", "text_encoder", "vae"))
    return SimpleNamespace(load_unet=unet.load_unet, load_text_encoder=text.load_text_encoder, load_vae=vae.load_vae)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """models/diffusers with a colour model, a latent model and both stages of DeepFloyd IF."""
    root = tmp_path_factory.mktemp("models") / "diffusers"
    write_color_folder(root / "quarter", cross_attention_dim=CONTEXT)
    write_color_folder(root / "whole", rows=256, cross_attention_dim=CONTEXT)
    write_folder(root / "latent")
    tiny_deepfloyd.write_stage_1(root / "stage-1")
    tiny_deepfloyd.write_stage_2(root / "stage-2")
    return root


@pytest.fixture(autouse=True)
def model_folders(models, monkeypatch):
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusers", ([str(models)], {"folder"}))


@pytest.fixture(scope="module")
def quarter(folders, models):
    return folders.load_unet(models / "quarter", {"dtype": torch.float32}, pixel_space=True)


@pytest.fixture(scope="module")
def latent(folders, models):
    """A latent model's inputs: MODEL and VAE."""
    return dict(model=folders.load_unet(models / "latent", {"dtype": torch.float32}), vae=folders.load_vae(models / "latent"))


@pytest.fixture(scope="module")
def deepfloyd(nodes, models):
    """LoadDeepFloydIF's outputs."""
    root = folder_paths.folder_names_and_paths["diffusers"]
    folder_paths.folder_names_and_paths["diffusers"] = ([str(models)], {"folder"})
    try:
        return nodes.LoadDeepFloydIF.execute("diffusers/stage-1", "diffusers/stage-2").args
    finally:
        folder_paths.folder_names_and_paths["diffusers"] = root


def spectrogram(batch=1, width=WIDTH, seed=5):
    """A gray IMAGE with silence in it."""
    gray = torch.rand(batch, 256, width, 1, generator=torch.Generator().manual_seed(seed))
    gray[:, :32] = 0
    return gray.expand(-1, -1, -1, 3)


def colorize(nodes, picture=None, **inputs):
    with torch.inference_mode():
        return nodes.FactorizedColorize.execute(**dict(spectrogram=spectrogram()) | TEXT | SETTINGS | inputs)[0]


def encode(clip, text):
    with torch.inference_mode():
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))


# The node ----------------------------------------------------------------------------------------------------------------------------


def test_the_sockets_are_those_promised(nodes):
    expected = {
        "FactorizedColorize": [
            *["spectrogram", "model", "positive", "negative", "seed", "steps", "cfg", "start_step", "sampler_name", "scheduler"],
            *["vae", "vae_interval", "noise_level", "view"],
        ],
        "LoadColorModel": ["color_model_name"],
        "LoadDeepFloydIF": ["stage_1_name", "stage_2_name", "weight_dtype", "clip"],
    }
    outputs = {"FactorizedColorize": ["IMAGE"], "LoadColorModel": ["MODEL", "CLIP"], "LoadDeepFloydIF": ["DEEPFLOYD_IF", "CLIP"]}
    for node in nodes.NODES:
        info = node.GET_NODE_INFO_V1()
        name = info["name"]
        assert [*info["input"].get("required", {}), *info["input"].get("optional", {})] == expected.pop(name)
        assert info["output"] == outputs[name]
    assert not expected
    inputs = nodes.FactorizedColorize.INPUT_TYPES()["required"]
    assert inputs["model"][0] == "MODEL,DEEPFLOYD_IF"
    defaults = {name: inputs[name][1]["default"] for name in ("steps", "cfg", "start_step", "sampler_name", "scheduler")}
    assert defaults == {"steps": 30, "cfg": 10.0, "start_step": 7, "sampler_name": "ddim", "scheduler": "ddim_uniform"}


def chroma_radiance():
    """A small random MODEL of ComfyUI's own pixel-space family: flow matching, patches of 16 pixels."""
    shape = dict(in_channels=3, out_channels=3, hidden_size=32, num_heads=2, axes_dim=[4, 6, 6], mlp_ratio=2.0, depth=1, patch_size=16)
    text = dict(depth_single_blocks=1, context_in_dim=CONTEXT, txt_ids_dims=[], vec_in_dim=None, use_sequential_txt_ids=False)
    guidance = dict(in_dim=64, hidden_dim=32, out_dim=32, n_layers=1, theta=10000, qkv_bias=True)
    nerf = dict(hidden_size=8, mlp_ratio=2, depth=1, max_freqs=4, tile_size=0, final_head_type="conv", embedder_dtype=torch.float32)
    config = shape | text | guidance | {f"nerf_{name}": value for name, value in nerf.items()} | {"use_x0": False}
    known = {field.name for field in dataclasses.fields(ChromaRadianceParams)}
    config = {name: value for name, value in config.items() if name in known}
    settings = comfy.supported_models.ChromaRadiance({"image_model": "chroma_radiance", "dtype": torch.float32, **config})
    model = settings.get_model({})
    generator = torch.Generator().manual_seed(0)
    for parameter in model.diffusion_model.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return comfy.model_patcher.ModelPatcher(model, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))


@pytest.fixture(params=["quarter-size pixels", "pixels", "Chroma Radiance", "latents", "DeepFloyd IF"])
def way(request, folders, models, quarter):
    """Model inputs of each way, and whether its text is T5's."""
    if request.param == "quarter-size pixels":
        return dict(model=quarter)
    if request.param == "pixels":
        return dict(model=folders.load_unet(models / "whole", {"dtype": torch.float32}, pixel_space=True))
    if request.param == "Chroma Radiance":
        return dict(model=chroma_radiance(), scheduler="simple")
    if request.param == "latents":
        return request.getfixturevalue("latent")
    floyd, clip = request.getfixturevalue("deepfloyd")
    return dict(model=floyd, positive=encode(clip, "a colorful photo of a castle"), negative=encode(clip, ""))


def test_every_way_keeps_the_gray_of_each_picture_of_a_batch_and_gives_it_colour(nodes, way):
    picture, fewer = spectrogram(batch=2, width=70), dict(steps=3)
    image = colorize(nodes, spectrogram=picture, **way | fewer)
    assert image.shape == (2, 256, 70, 3) and image.dtype == torch.float32 and image.min() >= 0 and image.max() <= 1
    assert (image.mean(dim=-1) - picture[..., 0]).abs().max() <= 1e-6
    assert (image - picture).abs().mean() > 0.01
    assert (image[:, :32] == 0).all(), "silence has no colour"
    assert not torch.equal(image[0], image[1])
    first = colorize(nodes, spectrogram=picture[:1], **way | fewer)
    assert torch.equal(first, colorize(nodes, spectrogram=picture[:1], **way | fewer)), "a seed gives one picture"
    assert not torch.equal(first, colorize(nodes, spectrogram=picture[:1], **way | fewer, seed=4))
    assert not torch.equal(first, colorize(nodes, spectrogram=picture[:1], **way | fewer, cfg=1.0)), "the prompt has a say"


def test_every_way_paints_a_square_canvas_as_it_is_seen(nodes, way):
    square = torch.cat([spectrogram(), spectrogram(seed=6)], dim=1)
    colored = colorize(nodes, spectrogram=square, view="two-row square", **way)
    assert colored.shape == square.shape
    assert (colored.mean(dim=-1) - square[..., 0]).abs().max() < 1e-3
    assert (colored - square).abs().max() > 0.01, "there is colour in it"
    with pytest.raises(ValueError, match="FactorizedColorize: spectrogram is 256 pixels high, but view two-row square has 512"):
        colorize(nodes, view="two-row square", **way)


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral"])
def test_the_largest_seed_paints_too(nodes, quarter, sampler):
    assert colorize(nodes, model=quarter, seed=2**64 - 1, sampler_name=sampler, steps=2, start_step=0).isfinite().all()


def test_a_coloured_png_saved_and_loaded_by_comfyui_sounds_as_the_gray_one(nodes, pack, quarter, tmp_path, monkeypatch):
    core = importlib.import_module("nodes")
    audio = importlib.import_module(pack.__name__ + ".nodes.audio")
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path))

    def saved_and_loaded(image):
        file = core.SaveImage().save_images(image)["ui"]["images"][0]["filename"]
        return core.LoadImage().load_image(file)[0]

    picture = spectrogram(width=96)
    colored, gray = saved_and_loaded(colorize(nodes, spectrogram=picture, model=quarter)), saved_and_loaded(picture)
    levels = (255 * colored.double()).round()
    assert torch.equal(levels.sum(dim=-1), (255 * gray.double()).round().sum(dim=-1))
    assert (levels.amax(dim=-1) - levels.amin(dim=-1)).mean() > 3, "in colour"

    heard = [audio.SpectrogramToAudio.execute(spectrogram=image)[0]["waveform"] for image in (colored, gray)]
    assert torch.equal(*heard)


def test_what_the_gamut_cost_and_what_was_not_used_are_told(nodes, quarter, deepfloyd, caplog):
    with caplog.at_level(logging.INFO):
        colorize(nodes, model=quarter)
    assert "% of the colour did not fit" in caplog.text and "came in colour" not in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        tinted = spectrogram() * torch.tensor([1.0, 0.8, 0.6])
        colorize(nodes, spectrogram=tinted, model=deepfloyd[0], positive=encode(deepfloyd[1], "castle"), negative=encode(deepfloyd[1], ""))
    assert "channel mean was kept" in caplog.text and "sampler_name and scheduler were not used" in caplog.text


@pytest.mark.parametrize("channels", [1, 4])
def test_gray_pictures_and_pictures_with_alpha_are_taken(nodes, quarter, channels):
    gray = spectrogram()[..., :1]
    picture = gray if channels == 1 else torch.cat([gray.expand(-1, -1, -1, 3), torch.rand_like(gray)], dim=-1)
    assert torch.equal(colorize(nodes, spectrogram=picture, model=quarter), colorize(nodes, model=quarter))


# Sampling ----------------------------------------------------------------------------------------------------------------------------


def request(sampling, **changes):
    settings = {name: SETTINGS[name] for name in ("seed", "steps", "cfg", "start_step")}
    return sampling.Request("FactorizedColorize", **(TEXT | settings | changes))


@pytest.mark.parametrize("steps, start_step", [(30, 7), (5, 0)])
def test_ddim_is_the_papers_loop_that_replaces_the_gray_of_every_noisy_picture(sampling, models, quarter, steps, start_step, monkeypatch):
    samples, sample = [], comfy.sample.sample_custom
    monkeypatch.setattr(comfy.sample, "sample_custom", lambda *args, **kwargs: samples.append(sample(*args, **kwargs)) or samples[0])
    asked = request(sampling, steps=steps, start_step=start_step)
    gray = spectrogram()[..., 0][:, None]
    with torch.inference_mode():
        sampling.model_color(gray, asked, quarter, "ddim", "ddim_uniform", None, 3)

    reference = diffusers_folders.UNet2DConditionModel.from_pretrained(models / "quarter" / "unet").eval()
    given = 2 * F.avg_pool2d(gray, 4) - 1
    noise = comfy.sample.prepare_noise(given.expand(-1, 3, -1, -1), asked.seed)
    alphas = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    timesteps = [1000 // steps * step + 1 for step in reversed(range(steps))][start_step:]
    predict = guided(reference, embeddings(1), embeddings(2), asked.cfg)
    levels = [float(alphas[t]) for t in timesteps]
    x = levels[0] ** 0.5 * given + (1 - levels[0]) ** 0.5 * noise
    with torch.inference_mode():
        for timestep, alpha, following in zip(timesteps, levels, [*levels[1:], 1.0], strict=True):
            x, _ = ddim_step(x, predict(x, torch.tensor(timestep)), alpha, following)
            x = split_gray(x)[1] + following**0.5 * given + (1 - following) ** 0.5 * split_gray(noise)[0]
    torch.testing.assert_close(samples[0], x, atol=1e-4 * float(x.abs().max()), rtol=0)


@pytest.mark.parametrize("sampler", ["ddim", "euler", "heun", "dpmpp_2m", "euler_cfg_pp", "lms"])
def test_with_any_sampler_the_gray_of_every_noisy_picture_is_the_equally_noised_spectrogram(sampling, quarter, sampler, monkeypatch):
    seen = []
    monkeypatch.setattr(latent_preview, "prepare_callback", lambda *_: lambda step, x0, x, total: seen.append(split_gray(x)[0].clone()))
    gray = spectrogram()[..., 0][:, None]
    asked = request(sampling)
    with torch.inference_mode():
        sampling.model_color(gray, asked, quarter, sampler, "ddim_uniform", None, 3)
    given = 2 * F.avg_pool2d(gray, 4) - 1
    noise = split_gray(comfy.sample.prepare_noise(given.expand(-1, 3, -1, -1), asked.seed))[0]
    sigmas = comfy.samplers.KSampler(quarter, asked.steps, torch.device("cpu"), sampler, "ddim_uniform").sigmas[1:-1]
    assert len(seen) == len(sigmas) == 4
    for found, sigma in zip(seen, sigmas, strict=True):
        torch.testing.assert_close(found, given + sigma * noise, atol=1e-4 * float(1 + sigma), rtol=0)


def test_with_a_flow_model_too_the_gray_of_every_noisy_picture_is_the_equally_noised_spectrogram(sampling, monkeypatch):
    seen = []
    monkeypatch.setattr(latent_preview, "prepare_callback", lambda *_: lambda step, x0, x, total: seen.append(split_gray(x)[0].clone()))
    model, gray, asked = chroma_radiance(), spectrogram()[..., 0][:, None], request(sampling)
    with torch.inference_mode():
        sampling.model_color(gray, asked, model, "euler", "simple", None, 3)
    noise = split_gray(comfy.sample.prepare_noise(gray.expand(-1, 3, -1, -1), asked.seed))[0]
    sigmas = comfy.samplers.KSampler(model, asked.steps, torch.device("cpu"), "euler", "simple").sigmas[1:-1]
    assert len(seen) == len(sigmas) == 4
    for found, sigma in zip(seen, sigmas, strict=True):
        torch.testing.assert_close(found, (1 - sigma) * (2 * gray - 1) + sigma * noise, atol=1e-5, rtol=0)


@pytest.mark.parametrize("interval, projections", [(1, 4), (3, 2), (9, 1)])
def test_a_latent_model_is_decoded_and_encoded_at_every_so_manyth_step_only(nodes, latent, interval, projections, monkeypatch):
    calls = []
    for name in ("encode", "decode"):
        method = getattr(latent["vae"], name)
        monkeypatch.setattr(latent["vae"], name, lambda x, name=name, method=method: calls.append(name) or method(x))
    colorize(nodes, **latent, vae_interval=interval)
    assert calls == ["encode"] + projections * ["decode", "encode"] + ["decode"]


def test_after_each_look_at_the_vae_a_steps_memory_is_kept_free_for_the_model(nodes, latent, monkeypatch):
    reserved, load = [], comfy.model_management.load_models_gpu
    monkeypatch.setattr(
        comfy.model_management,
        "load_models_gpu",
        lambda models, **memory: reserved.append((models, memory.get("memory_required", 0))) or load(models, **memory),
    )
    looks = []
    decode = latent["vae"].decode
    monkeypatch.setattr(latent["vae"], "decode", lambda x: looks.append(len(reserved)) or decode(x))
    colorize(nodes, **latent, vae_interval=3)

    step = latent["model"].memory_required([2, 4, 32, WIDTH // 8])
    again = [memory for models, memory in reserved if any(getattr(model, "is_clone", lambda _: False)(latent["model"]) for model in models)]
    assert step > 0 and len(looks) == 3 and len(again) == 3 and min(again) >= step


def test_the_gray_goes_to_the_sampling_device_once(nodes, sampling, quarter, monkeypatch):
    copies, projection = [], sampling.PixelProjection

    class Watched(torch.Tensor):
        def to(self, *args, **kwargs):
            copies.append(args)
            return super().to(*args, **kwargs).as_subclass(torch.Tensor)

    class Projection(projection):
        def __init__(self, *args):
            super().__init__(*args)
            self.given = self.given.as_subclass(Watched)

        def encode(self):
            return super().encode().as_subclass(torch.Tensor)

    monkeypatch.setattr(sampling, "PixelProjection", Projection)
    colorize(nodes, model=quarter)
    assert len(copies) == 1


def test_noise_level_sets_how_far_stage_2_goes_by_stage_1(nodes, deepfloyd):
    floyd, clip = deepfloyd
    settings = dict(model=floyd, positive=encode(clip, "a castle"), negative=encode(clip, ""), steps=2)
    paper = colorize(nodes, **settings)
    assert torch.equal(paper, colorize(nodes, **settings, noise_level=50))
    assert not torch.equal(paper, colorize(nodes, **settings, noise_level=0))
    for level in (-1, 1000):
        with pytest.raises(ValueError, match=f"FactorizedColorize: noise_level is {level}; it is a whole number from 0 to 999"):
            colorize(nodes, **settings, noise_level=level)


def test_the_estimate_of_a_latent_model_carries_the_spectrogram_where_it_is_projected(sampling, latent):
    gray = spectrogram()[..., 0][:, None]
    canvas = sampling.LatentProjection(latent["model"], gray, latent["vae"], torch.tensor([4.0, 2.0, 1.0, 0.0]), 2)
    with torch.inference_mode():
        denoised = torch.randn(1, 4, 32, 8, generator=torch.Generator().manual_seed(0))
        projected = canvas._project({"denoised": denoised, "sigma": torch.tensor([4.0])})
        color = split_gray(latent["vae"].decode(denoised / 0.18215).movedim(-1, 1))[1]
        room = torch.where(color > 0, 1 - gray, gray) / color.abs().clamp(min=1e-6)
        picture = gray + color * room.amin(dim=1, keepdim=True).clamp(max=1)
        expected = latent["vae"].encode(picture.movedim(1, -1)) * 0.18215
    torch.testing.assert_close(projected, expected, atol=1e-5, rtol=1e-5)
    assert canvas._project({"denoised": denoised, "sigma": torch.tensor([2.0])}) is denoised
    assert canvas._project({"denoised": denoised, "sigma": torch.tensor([1.5])}) is denoised


def test_deepfloyd_paints_each_picture_by_itself_and_can_be_cancelled_between_steps(nodes, deepfloyd, monkeypatch):
    floyd, clip = deepfloyd
    inputs = dict(model=floyd, positive=encode(clip, "a castle"), negative=encode(clip, ""))
    both = spectrogram(batch=2)
    image = colorize(nodes, spectrogram=both, **inputs)
    torch.testing.assert_close(image[:1], colorize(nodes, spectrogram=both[:1], **inputs), atol=1e-6, rtol=0)

    steps = []
    scheduler_step = floyd.stage_1.scheduler.step

    def step_then_cancel(*args, **kwargs):
        steps.append(1)
        comfy.model_management.interrupt_current_processing(len(steps) == 2)
        return scheduler_step(*args, **kwargs)

    monkeypatch.setattr(floyd.stage_1.scheduler, "step", step_then_cancel)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        colorize(nodes, **inputs)
    assert len(steps) == 2


# Bad input ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def unsampled(monkeypatch):
    """Fails the test if anything is sampled before the error."""
    monkeypatch.setattr(comfy.sample, "sample_custom", lambda *args, **kwargs: pytest.fail("sampled"))


def complain(nodes, words, **inputs):
    with pytest.raises(ValueError, match=words) as error:
        colorize(nodes, **inputs)
    assert str(error.value).startswith("FactorizedColorize: ")


def test_a_latent_model_without_its_vae_is_refused_and_so_is_a_pixel_model_with_one(nodes, quarter, latent, deepfloyd, unsampled):
    complain(nodes, "works on latents of 4 channels.*Connect its VAE.*LoadColorModel", model=latent["model"])
    complain(nodes, "works on pixels.*Disconnect vae", model=quarter, vae=latent["vae"])
    complain(nodes, "DeepFloyd IF.*Disconnect vae", model=deepfloyd[0], vae=latent["vae"])
    complain(nodes, "latents of 4 channels, model .* on 16", model=sixteen_channels(), vae=latent["vae"])


def sixteen_channels():
    model = random_model()
    model.model.latent_format = comfy.latent_formats.SD3()
    return model


def test_conditioning_that_the_model_cannot_read_is_refused(nodes, quarter, deepfloyd, unsampled):
    wide = [[torch.zeros(1, 7, 2 * CONTEXT), {}]]
    complain(nodes, f"positive has embeddings {2 * CONTEXT} wide, model reads {CONTEXT}", model=quarter, positive=wide)
    complain(nodes, "negative has embeddings", model=quarter, negative=wide)
    complain(nodes, "positive has embeddings", model=deepfloyd[0], positive=wide)
    for tokens in (12, 78):
        text = [[torch.zeros(1, tokens, tiny_deepfloyd.WIDTH), {}]]
        complain(nodes, f"positive has {tokens} tokens.*one prompt of 77", model=deepfloyd[0], positive=text)
    twice = 2 * [[torch.zeros(1, 77, tiny_deepfloyd.WIDTH), {}]]
    complain(nodes, "positive has 154 tokens .prompts: 2", model=deepfloyd[0], positive=twice)


def test_a_start_beyond_the_steps_and_pictures_that_are_no_spectrograms_are_refused(nodes, quarter, unsampled):
    complain(nodes, "start_step is 5 of 5 steps", model=quarter, start_step=5)
    complain(nodes, "spectrogram is 64 x 128 pixels", model=quarter, spectrogram=spectrogram()[:, :128])
    complain(nodes, "NaN or infinite", model=quarter, spectrogram=spectrogram() * float("nan"))


def test_a_scheduler_that_cannot_make_a_single_step_is_named_with_the_remedy(nodes, quarter, unsampled):
    one_step = dict(model=quarter, steps=1, start_step=0, scheduler="kl_optimal")
    complain(nodes, "at steps 1 the noise levels of scheduler kl_optimal are NaN. Set steps to 2 or more", **one_step)


def test_context_windows_that_overlap_by_their_whole_length_are_refused(nodes, latent, unsampled):
    windowed = latent["model"].clone()
    windowed.model_options["context_handler"] = SimpleNamespace(context_length=4, context_overlap=4, dim=3)
    complain(nodes, "model has context windows with context_overlap 4 and context_length 4", model=windowed, vae=latent["vae"])


def test_a_model_that_overflows_is_named_instead_of_saved_as_black(nodes, quarter):
    broken = quarter.clone()
    broken.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * float("nan"))
    complain(nodes, "overflowed in half precision", model=broken)


# Loaders -----------------------------------------------------------------------------------------------------------------------------


def test_the_embedded_colour_model_reads_prompts_with_the_embedded_image_models_encoder(nodes, pack, tmp_path, monkeypatch):
    embedded = importlib.import_module(pack.__name__ + ".itsound_core.embedded")
    reference = write_color_folder(tmp_path / "embedded-color", cross_attention_dim=128)
    monkeypatch.setattr(embedded, "COLOR_FOLDER", tmp_path / "embedded-color")
    model, clip = nodes.LoadColorModel.execute("embedded").args
    assert model.get_model_object("latent_format").spacial_downscale_ratio == 4
    image = colorize(nodes, model=model, positive=encode(clip, "castle"), negative=encode(clip, ""))
    assert image.shape == (1, 256, WIDTH, 3)
    pixels, text, timesteps = torch.randn(1, 3, 64, 16), torch.randn(1, 77, 128), torch.tensor([500])
    with torch.inference_mode():
        native = model.model.diffusion_model(pixels, timesteps, context=text)
        torch.testing.assert_close(native, reference(pixels, timesteps, text).sample, atol=1e-4, rtol=1e-4)


def test_a_colour_folder_of_ones_own_brings_its_text_encoder(nodes, models, tmp_path):
    diffusers_folders.text_encoder().save_pretrained(models / "quarter" / "text_encoder")
    diffusers_folders.write_tokenizer(models / "quarter" / "tokenizer")
    model, clip = nodes.LoadColorModel.execute("diffusers/quarter").args
    assert encode(clip, "a castle")[0][0].shape[-1] == model.model.model_config.unet_config["context_dim"]


@pytest.mark.parametrize(
    "name, words",
    [
        ("latent", "a latent-space model: in_channels is 4 instead of 3.*goes to FactorizedColorize with its VAE"),
        ("stage-1", "DeepFloyd IF .which LoadDeepFloydIF loads"),
    ],
)
def test_a_folder_that_is_no_colour_model_is_refused_by_what_it_is(nodes, name, words):
    with pytest.raises(ValueError, match=f'LoadColorModel: color_model_name is "diffusers/{name}".*{words}'):
        nodes.LoadColorModel.execute(f"diffusers/{name}")


def test_a_folder_that_is_gone_is_refused_by_those_that_are_there(nodes):
    with pytest.raises(ValueError, match='LoadColorModel: color_model_name is "diffusers/gone"; it is one of: embedded, .*quarter'):
        nodes.LoadColorModel.execute("diffusers/gone")


def test_deepfloyd_names_are_the_folders_under_diffusers(nodes):
    options = nodes.LoadDeepFloydIF.INPUT_TYPES()["required"]["stage_1_name"][1]["options"]
    assert {"diffusers/stage-1", "diffusers/stage-2"} <= set(options)


def test_deepfloyds_text_is_what_transformers_makes_of_77_lower_case_tokens(deepfloyd):
    clip = deepfloyd[1]
    folder = comfy.text_encoders.pixart_t5.__file__.replace("pixart_t5.py", "t5_tokenizer")
    tokenizer, reference = T5TokenizerFast.from_pretrained(folder), tiny_deepfloyd.text_encoder()
    for text in ("", "A Colorful photo of a CASTLE, at night"):
        tokens = tokenizer(text.lower(), padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        with torch.no_grad():
            expected = reference(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        torch.testing.assert_close(encode(clip, text)[0][0], expected, atol=1e-4, rtol=1e-4)


def test_a_prompt_beyond_77_tokens_is_cut_with_a_warning(deepfloyd, caplog):
    clip = deepfloyd[1]
    long, longer = encode(clip, "castle " * 76), encode(clip, "castle " * 76 + "dog " * 40)
    assert "77 tokens at most" in caplog.text
    assert longer[0][0].shape == (1, 77, tiny_deepfloyd.WIDTH)
    assert long[0][0].shape == longer[0][0].shape


def test_a_t5_whose_embeddings_have_the_encoders_name_alone_reads_the_same(nodes, deepfloyd, models, tmp_path, monkeypatch):
    """As safetensors' save_model leaves of two names for one tensor the first."""
    stages = shutil.copytree(models, tmp_path / "diffusers")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusers", ([str(stages)], {"folder"}))
    file = stages / "stage-1" / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    weights["encoder.embed_tokens.weight"] = weights.pop("shared.weight")
    save_file(weights, file)

    _, clip = nodes.LoadDeepFloydIF.execute("diffusers/stage-1", "diffusers/stage-2").args
    torch.testing.assert_close(encode(clip, "a castle")[0][0], encode(deepfloyd[1], "a castle")[0][0], atol=1e-5, rtol=1e-5)


def tiny_pixart_clip(encoder):
    """A CLIP as CLIPLoader makes for PixArt and Chroma, of the small T5's size."""
    config = {"d_model": tiny_deepfloyd.WIDTH, "d_ff": 64, "d_kv": 8, "num_heads": 4, "num_layers": 1}
    weights = {name: tensor for name, tensor in encoder.state_dict().items() if "embed_tokens" not in name}
    return comfy.sd.CLIP(
        comfy.supported_models_base.ClipTarget(comfy.text_encoders.pixart_t5.PixArtTokenizer, comfy.text_encoders.pixart_t5.PixArtT5XXL),
        state_dict=[weights],
        model_options={"t5xxl_model_config": config, "dtype": torch.float32},
    )


def test_a_clip_with_t5_reads_as_deepfloyds_own_does_and_stays_as_it_was(nodes, deepfloyd):
    clip = tiny_pixart_clip(tiny_deepfloyd.text_encoder())
    before = encode(clip, "a castle")[0][0]
    _, adapted = nodes.LoadDeepFloydIF.execute("diffusers/stage-1", "diffusers/stage-2", clip=clip).args
    for text in ("a castle", "", "a (castle:1.5)"):
        torch.testing.assert_close(encode(adapted, text)[0][0], encode(deepfloyd[1], text)[0][0], atol=1e-5, rtol=1e-5)
    assert torch.equal(encode(clip, "a castle")[0][0], before)


def test_stages_in_each_others_place_and_other_models_are_refused(nodes, folders, models):
    load = nodes.LoadDeepFloydIF.execute
    with pytest.raises(ValueError, match="stage_2_name .*is not stage II of DeepFloyd IF: in_channels is 3 instead of 6"):
        load("diffusers/stage-2", "diffusers/stage-1")
    with pytest.raises(ValueError, match="stage_1_name .*is not stage I of DeepFloyd IF: addition_embed_type is None"):
        load("diffusers/latent", "diffusers/stage-2")
    clip = folders.load_text_encoder(models / "latent")
    with pytest.raises(ValueError, match="clip holds no T5-XXL"):
        load("diffusers/stage-1", "diffusers/stage-2", clip=clip)
    edit_json(models / "stage-2" / "scheduler" / "scheduler_config.json", variance_type="fixed_small")
    try:
        with pytest.raises(ValueError, match="variance_type is 'fixed_small' instead of 'learned_range'"):
            load("diffusers/stage-1", "diffusers/stage-2")
    finally:
        edit_json(models / "stage-2" / "scheduler" / "scheduler_config.json", variance_type="learned_range")


@pytest.mark.parametrize("absurd", [{"mid_block_type": []}, {"resnet_time_scale_shift": 0}, {"norm_num_groups": 10**9}, {"dropout": 10**9}])
def test_a_config_that_diffusers_cannot_build_is_named(nodes, models, absurd):
    file = models / "stage-1" / "unet" / "config.json"
    whole = file.read_text()
    edit_json(file, **absurd)
    try:
        with pytest.raises(ValueError, match=r"LoadDeepFloydIF: stage_1_name .*unet.config\.json describes nothing.*again from the model"):
            nodes.LoadDeepFloydIF.execute("diffusers/stage-1", "diffusers/stage-2")
    finally:
        file.write_text(whole)


def test_the_text_encoder_of_stage_1_may_come_in_shards_and_is_only_missed_without_a_clip(nodes, models, tmp_path, monkeypatch):
    encoder = tiny_deepfloyd.write_stage_1(tmp_path / "sharded")
    assert encoder is not None
    (tmp_path / "sharded" / "text_encoder" / "model.safetensors").unlink()
    encoder.save_pretrained(tmp_path / "sharded" / "text_encoder", max_shard_size="1MB")
    assert (tmp_path / "sharded" / "text_encoder" / "model.safetensors.index.json").exists()
    tiny_deepfloyd.write_stage_1(tmp_path / "bare", with_text_encoder=False)
    tiny_deepfloyd.write_stage_2(tmp_path / "second")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusers", ([str(tmp_path)], {"folder"}))
    _, clip = nodes.LoadDeepFloydIF.execute("diffusers/sharded", "diffusers/second").args
    assert encode(clip, "a castle")[0][0].isfinite().all()
    with pytest.raises(ValueError, match="text_encoder.*is missing"):
        nodes.LoadDeepFloydIF.execute("diffusers/bare", "diffusers/second")
    nodes.LoadDeepFloydIF.execute("diffusers/bare", "diffusers/second", clip=clip)


def test_without_diffusers_the_loader_says_how_to_get_it(nodes, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ValueError, match="LoadDeepFloydIF: .*pip install diffusers"):
        nodes.LoadDeepFloydIF.execute("diffusers/stage-1", "diffusers/stage-2")


def test_the_unets_are_whole_and_in_the_number_format_that_was_asked_for(nodes):
    floyd, _ = nodes.LoadDeepFloydIF.execute("diffusers/stage-1", "diffusers/stage-2", weight_dtype="bf16").args
    for stage, reference in ((floyd.stage_1, tiny_deepfloyd.unet()), (floyd.stage_2, tiny_deepfloyd.unet(1, **tiny_deepfloyd.STAGE_2))):
        found = stage.unet
        assert not any(tensor.is_meta for tensor in (*found.parameters(), *found.buffers()))
        for name, tensor in reference.state_dict().items():
            assert torch.equal(found.state_dict()[name], tensor.bfloat16())
