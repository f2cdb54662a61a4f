"""The SDS baseline as a node, on small random models and a short canvas."""

from __future__ import annotations

import importlib

import pytest
import torch

pytest.importorskip("comfy.samplers", reason="COMFYUI_PATH does not name a ComfyUI folder")

import comfy.latent_formats  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.model_sampling  # noqa: E402
import comfy.supported_models  # noqa: E402
import folder_paths  # noqa: E402
import tiny_deepfloyd  # noqa: E402
from tiny_models import conditioning, diffusers_unet, embeddings, native_model, random_model  # noqa: E402

from itsound_core.sampling import STABLE_DIFFUSION, guided  # noqa: E402

SIDES = ("positive", "negative")
PROMPTS = {"audio_positive": 1, "audio_negative": 2, "image_positive": 3, "image_negative": 4}


@pytest.fixture(scope="module")
def module(pack):
    return importlib.import_module(pack.__name__ + ".nodes.sds")


@pytest.fixture(scope="module")
def vae(pack):
    """The embedded VAE, loaded as a node loads it."""
    folder = importlib.import_module(pack.__name__ + ".itsound_core.embedded").IMAGE_FOLDER
    with torch.inference_mode():
        return importlib.import_module(pack.__name__ + ".nodes.diffusers_folder").load_vae(folder)


@pytest.fixture(scope="module")
def latent_models():
    with torch.inference_mode():
        return native_model(diffusers_unet(1)), native_model(diffusers_unet(2))


@pytest.fixture(scope="module")
def pixel_model(pack):
    pixels = importlib.import_module(pack.__name__ + ".nodes.diffusers_folder").Pixels
    torch.manual_seed(0)
    with torch.inference_mode():
        model = random_model(in_channels=3, out_channels=3)
        for parameter in model.model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    model.model.latent_format = pixels(64)
    return model


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    return tmp_path


@torch.inference_mode()
def distilled(module, vae, latent_models, image_model=None, **given):
    inputs = {"audio_model": latent_models[1], "vae": vae, "image_model": image_model or latent_models[0]}
    inputs |= {socket: conditioning(seed) for socket, seed in PROMPTS.items()}
    inputs |= {"iterations": 3, "warm_start": 1, "lambda_sds": 0.4, "image_cfg": 8.0, "audio_cfg": 4.0, "crops": 2, "learning_rate": 1e-2}
    inputs |= {"seed": 5, "checkpoint_name": "", "seconds": 0.64, "hidden": 16}
    (image,) = module.SDSBaseline.execute(**(inputs | given)).result
    return image


def test_the_canvas_is_a_gray_spectrogram_that_both_models_change(module, vae, latent_models):
    image = distilled(module, vae, latent_models)
    assert image.shape == (1, 256, 64, 3) and image.min() >= 0 and image.max() <= 1
    assert torch.equal(image[..., 0], image[..., 1])
    assert torch.equal(image, distilled(module, vae, latent_models))
    assert not torch.equal(image, distilled(module, vae, latent_models, lambda_sds=0.0))
    assert not torch.equal(image, distilled(module, vae, latent_models, audio_positive=conditioning(9)))


def test_a_pixel_space_model_sees_squares(module, vae, latent_models, pixel_model):
    runs = [
        distilled(module, vae, latent_models, pixel_model, seconds=2.56, iterations=2, **given)
        for given in ({}, {"image_positive": conditioning(9)}, {"warm_start": 2}, {"warm_start": 2, "image_positive": conditioning(9)})
    ]
    assert runs[0].shape == (1, 256, 256, 3)
    assert not torch.equal(runs[0], runs[1]) and torch.equal(runs[2], runs[3])


def test_deepfloyd_paints_too_and_its_variance_is_left_out(module, vae, latent_models, pack, tmp_path):
    folders = importlib.import_module(pack.__name__ + ".nodes.deepfloyd_folder")
    tiny_deepfloyd.write_stage_1(tmp_path, with_text_encoder=False)
    with torch.inference_mode():
        stage = folders.load_stage(tmp_path, 1, torch.float32)
    texts = torch.randn(2, 1, 77, tiny_deepfloyd.WIDTH, generator=torch.Generator().manual_seed(0))
    text = {f"image_{side}": [[embedding, {}]] for side, embedding in zip(SIDES, texts, strict=True)}
    floyd = folders.DeepFloydIF(stage, stage, stage.scheduler)  # stage II has no part in this
    image = distilled(module, vae, latent_models, floyd, seconds=2.56, iterations=2, **text)
    other = distilled(module, vae, latent_models, floyd, seconds=2.56, iterations=2, **(text | {"image_positive": text["image_negative"]}))
    assert image.shape == (1, 256, 256, 3) and not torch.equal(image, other)


def test_a_critic_s_noise_is_the_guided_noise_of_the_same_unet(module, latent_models):
    unet = diffusers_unet(1)
    noisy = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(0))
    found = {}

    def use(predict):
        critic = module._critic(latent_models[0], predict, sight=lambda *_: None)
        torch.testing.assert_close(critic.alphas_cumprod, STABLE_DIFFUSION.alphas_cumprod, rtol=1e-5, atol=1e-7)
        found["noise"] = critic.predict_noise(noisy, 400)
        return torch.zeros(1)

    with torch.inference_mode():
        guider = module._guider(latent_models[0], conditioning(11), conditioning(12), 7.0)
        module._with_predictor(guider, tuple(noisy.shape), use)
    with torch.no_grad():
        expected = guided(unet, embeddings(11), embeddings(12), 7.0)(noisy, torch.tensor(400))
    torch.testing.assert_close(found["noise"], expected, rtol=1e-3, atol=1e-4)


def test_a_run_that_was_stopped_goes_on_to_the_bit(module, vae, latent_models, output):
    whole = distilled(module, vae, latent_models, iterations=4)
    distilled(module, vae, latent_models, iterations=2, checkpoint_name="my run")
    assert (output / "sds" / "my run.pt").exists()
    assert torch.equal(whole, distilled(module, vae, latent_models, iterations=4, checkpoint_name="my run"))


def test_a_cancelled_run_keeps_what_it_has(module, vae, latent_models, output, monkeypatch):
    whole = distilled(module, vae, latent_models, iterations=4)
    step, left = module.Distillation.step, iter([None] * 2)

    def step_or_cancel(self):
        if next(left, "over") == "over":
            raise comfy.model_management.InterruptProcessingException
        return step(self)

    with monkeypatch.context() as cancelling:
        cancelling.setattr(module.Distillation, "step", step_or_cancel)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            distilled(module, vae, latent_models, iterations=4, checkpoint_name="run")
    kept = torch.load(output / "sds" / "run.pt", weights_only=True)
    assert kept["state"]["iteration"] == 2
    assert torch.equal(whole, distilled(module, vae, latent_models, iterations=4, checkpoint_name="run"))


def test_a_checkpoint_of_another_run_is_refused_by_what_differs(module, vae, latent_models, output):
    distilled(module, vae, latent_models, iterations=1, checkpoint_name="run")
    with pytest.raises(ValueError, match="another run: lambda_sds, prompts differ"):
        distilled(module, vae, latent_models, checkpoint_name="run", lambda_sds=0.5, image_positive=conditioning(9))
    (output / "sds" / "run.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="run.pt cannot be read"):
        distilled(module, vae, latent_models, checkpoint_name="run")


@pytest.mark.parametrize("name", ["../run", "/tmp/run", "a/../../run"])
def test_a_checkpoint_stays_in_its_folder(module, vae, latent_models, output, name):
    with pytest.raises(ValueError, match="leads out of the folder"):
        distilled(module, vae, latent_models, checkpoint_name=name)


def test_models_that_do_not_go_together_are_refused(module, vae, latent_models, pixel_model):
    with pytest.raises(ValueError, match="audio_model works on pixels"):
        distilled(module, vae, (latent_models[0], pixel_model))
    with pytest.raises(ValueError, match="image_model works on other latents"):
        distilled(module, vae, latent_models, random_model(comfy.supported_models.SDXL))
    flow = latent_models[0].clone()
    flow.add_object_patch(
        "model_sampling", type("Flow", (comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST), {})()
    )
    with pytest.raises(ValueError, match="image_model works by flow matching"):
        distilled(module, vae, latent_models, flow)
