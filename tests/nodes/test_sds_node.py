"""The SDS baseline as a node, on small random models and a short canvas."""

from __future__ import annotations

import contextlib
import copy
import gc
import importlib
import os
import re
import shutil
import subprocess
from functools import partial
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("comfy.samplers", reason="COMFYUI_PATH does not name a ComfyUI folder")

import comfy.latent_formats  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.model_sampling  # noqa: E402
import comfy.supported_models  # noqa: E402
import comfy.utils  # noqa: E402
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
def bridge(pack):
    """A module of the bridge by its name."""
    return lambda name: importlib.import_module(f"{pack.__name__}.bridge.{name}")


@pytest.fixture(scope="module")
def vae(pack):
    """The embedded VAE, loaded as a node loads it."""
    folder = importlib.import_module(pack.__name__ + ".itsound_core.embedded").IMAGE_FOLDER
    with torch.inference_mode():
        return importlib.import_module(pack.__name__ + ".bridge.vae_folder").load_vae(folder)


@pytest.fixture(scope="module")
def latent_models():
    with torch.inference_mode():
        return native_model(diffusers_unet(1)), native_model(diffusers_unet(2))


@pytest.fixture(scope="module")
def pixel_model(pack):
    pixels = importlib.import_module(pack.__name__ + ".bridge.unet_folder").Pixels
    torch.manual_seed(0)
    with torch.inference_mode():
        model = random_model(in_channels=3, out_channels=3)
        for parameter in model.model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    model.model.latent_format = pixels(64)
    return model


@pytest.fixture(scope="module")
def floyd(pack, tmp_path_factory):
    """Stage I; stage II has no part in this."""
    folders, folder = importlib.import_module(pack.__name__ + ".bridge.deepfloyd_folder"), tmp_path_factory.mktemp("floyd")
    tiny_deepfloyd.write_stage_1(folder, with_text_encoder=False)
    with torch.inference_mode():
        stage = folders.load_stage(folder, 1, torch.float32)
    return folders.DeepFloydIF(stage, stage, stage.scheduler)


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


def test_latents_can_be_the_canvas(module, vae, latent_models, output):
    given = {"canvas": "latents", "learning_rate": 0.1}
    image = distilled(module, vae, latent_models, iterations=4, **given)
    assert image.shape == (1, 256, 64, 3) and image.min() >= 0 and image.max() <= 1
    assert not torch.equal(image, distilled(module, vae, latent_models, iterations=4, **given, image_positive=conditioning(9)))
    distilled(module, vae, latent_models, iterations=2, **given, checkpoint_name="run")
    assert torch.equal(image, distilled(module, vae, latent_models, iterations=4, **given, checkpoint_name="run"))
    refused(module, vae, latent_models, "canvas differ", checkpoint_name="run", learning_rate=0.1)


def test_a_pixel_space_model_sees_squares(module, vae, latent_models, pixel_model):
    image, other = (
        distilled(module, vae, latent_models, pixel_model, seconds=2.56, iterations=2, image_positive=conditioning(seed)) for seed in (3, 9)
    )
    assert image.shape == (1, 256, 256, 3) and not torch.equal(image, other)


def test_deepfloyd_paints_too_and_its_variance_is_left_out(module, vae, latent_models, floyd):
    texts = torch.randn(2, 1, 77, tiny_deepfloyd.WIDTH, generator=torch.Generator().manual_seed(0))
    text = {f"image_{side}": [[embedding, {}]] for side, embedding in zip(SIDES, texts, strict=True)}
    image = distilled(module, vae, latent_models, floyd, seconds=2.56, iterations=2, **text)
    other = distilled(module, vae, latent_models, floyd, seconds=2.56, iterations=2, **(text | {"image_positive": text["image_negative"]}))
    assert image.shape == (1, 256, 256, 3) and not torch.equal(image, other)


def test_a_prior_s_noise_is_the_guided_noise_of_the_same_unet(bridge, latent_models):
    priors, unet = bridge("diffusion_prior"), diffusers_unet(1)
    noisy = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(0))
    found = {}

    def use(predict):
        prior = priors.model_prior(latent_models[0], predict, render=lambda *_: None)
        torch.testing.assert_close(prior.alphas_cumprod, STABLE_DIFFUSION.alphas_cumprod, rtol=1e-5, atol=1e-7)
        found["noise"] = prior.predict_noise(noisy, 400)
        return torch.zeros(1)

    with torch.inference_mode():
        guider = priors.guider_of(latent_models[0], conditioning(11), conditioning(12), 7.0)
        priors.with_predictor(guider, tuple(noisy.shape), use)
    with torch.no_grad():
        expected = guided(unet, embeddings(11), embeddings(12), 7.0)(noisy, torch.tensor(400))
    torch.testing.assert_close(found["noise"], expected, rtol=1e-3, atol=1e-4)


def test_a_run_that_was_stopped_goes_on_to_the_bit(module, vae, latent_models, output):
    whole = distilled(module, vae, latent_models, iterations=4)
    distilled(module, vae, latent_models, iterations=2, checkpoint_name="my run")
    assert (output / "sds" / "my run.pt").exists()
    assert torch.equal(whole, distilled(module, vae, latent_models, iterations=4, checkpoint_name="my run"))


def test_a_cancelled_run_keeps_what_it_has(module, bridge, vae, latent_models, output, monkeypatch):
    whole = distilled(module, vae, latent_models, iterations=4)
    run = bridge("distillation").Distillation
    step, left = run.step, iter([None] * 2)

    def step_or_cancel(self):
        if next(left, "over") == "over":
            raise comfy.model_management.InterruptProcessingException
        return step(self)

    with monkeypatch.context() as cancelling:
        cancelling.setattr(run, "step", step_or_cancel)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            distilled(module, vae, latent_models, iterations=4, checkpoint_name="run")
    kept = torch.load(output / "sds" / "run.pt", weights_only=True)
    assert kept["state"]["iteration"] == 2
    assert torch.equal(whole, distilled(module, vae, latent_models, iterations=4, checkpoint_name="run"))


@pytest.mark.parametrize("given", [{}, {"canvas": "latents", "learning_rate": 0.1}], ids=["network", "latents"])
def test_a_run_that_is_cancelled_in_the_middle_of_a_step_goes_on_as_if_it_had_not_been(module, vae, latent_models, output, given):
    """ComfyUI interrupts inside of a model's evaluation, when the step's noise was drawn already."""
    whole = distilled(module, vae, latent_models, iterations=4, **given)
    cancelled, calls = latent_models[1].clone(), iter(range(100))

    def interrupt_at_the_third(args):
        if next(calls) == 2:
            raise comfy.model_management.InterruptProcessingException
        return args["denoised"]

    cancelled.set_model_sampler_post_cfg_function(interrupt_at_the_third)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        distilled(module, vae, (latent_models[0], cancelled), iterations=4, checkpoint_name="run", **given)
    assert torch.load(output / "sds" / "run.pt", weights_only=True)["state"]["iteration"] == 2
    assert torch.equal(whole, distilled(module, vae, latent_models, iterations=4, checkpoint_name="run", **given))


@pytest.fixture
def small_disk(output):
    """A disk of a few MiB in the output folder's place; takes away what is free but for so many bytes."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(output)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")

    def fill(left):
        with open(output / "ballast", "wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(4096))
        os.truncate(output / "ballast", (output / "ballast").stat().st_size - left)

    yield fill
    subprocess.run(["umount", str(output)], check=True)


def block(folder, kind):
    """Something in the way of the checkpoint run."""
    if kind == "a file in the folder's place":
        (folder / "sds").write_bytes(b"")
    elif kind == "a folder in the file's place":
        (folder / "sds" / "run.pt").mkdir(parents=True)
    else:
        (folder / "sds").mkdir()
        (folder / "sds").chmod(0o500)


@pytest.mark.parametrize("kind", ["a file in the folder's place", "a folder in the file's place", "a read-only folder"])
def test_a_checkpoint_that_cannot_be_written_is_refused_before_the_first_iteration(module, vae, latent_models, output, kind):
    if kind == "a read-only folder" and os.geteuid() == 0:
        pytest.skip("root writes there too")
    block(output, kind)
    refused(
        module, vae, latent_models, "(run.pt cannot be written to output/sds .*leave it empty|run.pt cannot be read)", checkpoint_name="run"
    )


def test_a_full_disk_is_found_before_the_first_iteration(module, vae, latent_models, output, small_disk):
    small_disk(left=2**16)
    refused(
        module, vae, latent_models, "run.pt cannot be written to output/sds .No space left on device.. Make room", checkpoint_name="run"
    )
    assert not list((output / "sds").iterdir())


def run_out_of_disk(bridge, monkeypatch, spoil):
    """After the first step `spoil` is called, and every step's state is saved."""
    run, step = bridge("distillation").Distillation, bridge("distillation").Distillation.step

    def step_and_spoil(self):
        errors = step(self)
        if self.iteration == 1:
            spoil()
        return errors

    monkeypatch.setattr(run, "step", step_and_spoil)
    monkeypatch.setattr(bridge("sds_run"), "SAVE_EVERY", 0.0)


def test_a_disk_that_fills_up_on_the_way_takes_no_picture(module, bridge, vae, latent_models, small_disk, monkeypatch, caplog, output):
    whole, texts = distilled(module, vae, latent_models), []
    monkeypatch.setattr(module, "tell", lambda hidden, text: texts.append(text))
    run_out_of_disk(bridge, monkeypatch, lambda: small_disk(left=0))
    assert torch.equal(whole, distilled(module, vae, latent_models, checkpoint_name="run"))
    assert "The checkpoint run could not be saved: No space left on device." in texts[-1] and "could not be saved" in caplog.text
    assert not list((output / "sds").iterdir()), "no cut file is left to keep the disk full"


def test_a_checkpoint_that_cannot_be_saved_takes_no_picture_and_no_cancel(module, bridge, vae, latent_models, output, monkeypatch, caplog):
    whole = distilled(module, vae, latent_models)
    run_out_of_disk(
        bridge, monkeypatch, lambda: (shutil.rmtree(output / "sds", ignore_errors=True), block(output, "a file in the folder's place"))
    )
    assert torch.equal(whole, distilled(module, vae, latent_models, checkpoint_name="run"))
    assert "The checkpoint run could not be saved" in caplog.text

    (output / "sds").unlink()
    cancelled = latent_models[0].clone()

    def cancel(args):
        raise comfy.model_management.InterruptProcessingException

    cancelled.set_model_sampler_post_cfg_function(cancel)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        distilled(module, vae, (latent_models[0], latent_models[1]), cancelled, checkpoint_name="run")


def test_a_checkpoint_goes_with_its_models(module, vae, latent_models, output, pack, caplog):
    refuse = partial(refused, module, vae, checkpoint_name="run", iterations=4)
    image, audio = latent_models
    distilled(module, vae, latent_models, iterations=2, checkpoint_name="run")
    with torch.inference_mode():
        other, again, half = (
            native_model(diffusers_unet(7)),
            native_model(diffusers_unet(1)),
            native_model(diffusers_unet(1).bfloat16().float()),
        )
        lora = audio.clone()
        name = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_v.weight"
        lora.add_patches({name: ("diff", (torch.ones_like(lora.model_state_dict()[name]),))}, 0.5)
    words = "the checkpoint run is of other models: {}. Connect those it was made with and the same LoRA, or choose another checkpoint_name"
    refuse((other, audio), words.format("image_model has other weights"))
    refuse((other, lora), words.format("audio_model has other LoRA, image_model has other weights"))
    with torch.inference_mode():
        state = {key: value + 0.01 for key, value in vae.get_sd().items()}
        folder = importlib.import_module(pack.__name__ + ".itsound_core.embedded").VAE_FOLDER
        other_vae = importlib.import_module(pack.__name__ + ".bridge.vae_folder").load_vae(folder)
        other_vae.first_stage_model.load_state_dict(state)
    refused(module, other_vae, latent_models, words.format("vae has other weights"), checkpoint_name="run", iterations=4)
    for same in (again, half):
        assert distilled(module, vae, (same, audio), iterations=3, checkpoint_name="run") is not None

    old = torch.load(output / "sds" / "run.pt", weights_only=True)
    del old["models"]
    torch.save(old, output / "sds" / "run.pt")
    assert distilled(module, vae, (other, audio), iterations=4, checkpoint_name="run") is not None
    assert "the checkpoint run does not say by which models it was made" in caplog.text


def test_a_lora_is_the_same_before_and_after_it_was_loaded(bridge, latent_models):
    fingerprint = bridge("fingerprint").Fingerprint
    with torch.inference_mode():
        model = native_model(diffusers_unet(3))
        plain = fingerprint.of(model)
        name = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_v.weight"
        patched = model.clone()
        patched.add_patches({name: ("diff", (torch.ones_like(patched.model_state_dict()[name]),))}, 0.5)
        before = fingerprint.of(patched)
        comfy.model_management.load_models_gpu([patched], force_full_load=True)
        after = fingerprint.of(patched)
        assert before.difference(after) is None and plain.difference(after) == "LoRA" and plain.difference(fingerprint.of(model)) is None


def test_no_loaded_module_is_copied(module, vae, latent_models, monkeypatch):
    """Under dynamic VRAM a layer holds a handle that its copies share, and the first to go frees the memory of all."""
    freed = []

    class Handle:
        def __del__(self):
            freed.append(self)

        def __deepcopy__(self, memo):
            return memo.setdefault(id(self), Handle())

    layers = [layer for layer in vae.first_stage_model.modules() if isinstance(layer, torch.nn.Conv2d)]
    for layer in layers:
        layer._v = Handle()
    for canvas in ("network", "latents"):
        distilled(module, vae, latent_models, canvas=canvas, iterations=2)
    gc.collect()
    assert not freed
    for layer in layers:
        del layer._v


def test_a_schedule_on_apples_gpu_is_read_without_float64(bridge, latent_models, floyd):
    class OnAppleGpu(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            plain = [arg.as_subclass(torch.Tensor) if isinstance(arg, OnAppleGpu) else arg for arg in args]
            if func is torch.Tensor.double:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")
            return func(*plain, **(kwargs or {})) if func is torch.Tensor.cpu else super().__torch_function__(func, types, args, kwargs)

    priors, model = bridge("diffusion_prior"), latent_models[0].clone()
    sampling = copy.copy(model.get_model_object("model_sampling"))
    expected = priors.model_prior(model, lambda *_: None, lambda *_: None).alphas_cumprod
    sampling._buffers = sampling._buffers | {"sigmas": sampling.sigmas.as_subclass(OnAppleGpu)}
    model.add_object_patch("model_sampling", sampling)
    assert torch.equal(priors.model_prior(model, lambda *_: None, lambda *_: None).alphas_cumprod, expected)

    scheduler = floyd.stage_1.scheduler
    table = scheduler.alphas_cumprod
    scheduler.alphas_cumprod = table.as_subclass(OnAppleGpu)
    try:
        text = [[torch.zeros(1, 77, floyd.text_width), {}]]
        prior = priors.deepfloyd_prior(floyd, text, text, 1.0, lambda *_: None)
        assert torch.equal(prior.alphas_cumprod, table.double())
    finally:
        scheduler.alphas_cumprod = table


def test_a_checkpoint_of_another_run_is_refused_by_what_differs(module, vae, latent_models, output):
    refuse = partial(refused, module, vae, latent_models, checkpoint_name="run")
    two_others = {"audio_negative": conditioning(8), "image_negative": conditioning(9)}
    distilled(module, vae, latent_models, iterations=3, checkpoint_name="run")
    refuse("another run: lambda_sds, image_positive differ", lambda_sds=0.5, image_positive=conditioning(9))
    refuse("another run: seconds differ", seconds=1.28)
    refuse("another run: seconds, seed, audio_negative, image_negative differ. Set them", seconds=1.28, seed=6, **two_others)
    refuse("run is at iteration 3, beyond the 2 asked for", iterations=2)
    (output / "sds" / "run.pt").write_bytes(b"not a checkpoint")
    refuse("run.pt cannot be read: it is damaged, or not a checkpoint of this node. Delete it, or choose another checkpoint_name.$")


def test_a_checkpoint_from_before_prompts_were_recorded_one_by_one_goes_on_and_names_all_of_them(module, vae, latent_models, output):
    meant = distilled(module, vae, latent_models, iterations=4)
    distilled(module, vae, latent_models, iterations=2, checkpoint_name="run")
    kept = torch.load(output / "sds" / "run.pt", weights_only=True)
    assert len(kept.pop("prompts")) == 4
    torch.save(kept, output / "sds" / "run.pt")
    words = "another run: audio_positive, audio_negative, image_positive, image_negative differ"
    refused(module, vae, latent_models, words, checkpoint_name="run", image_positive=conditioning(9))
    assert torch.equal(meant, distilled(module, vae, latent_models, iterations=4, checkpoint_name="run"))


@pytest.mark.parametrize("side", ["audio", "image"])
def test_context_windows_that_overlap_by_their_whole_length_are_refused(module, vae, latent_models, side):
    windowed = [model.clone() for model in latent_models]
    windowed[side == "audio"].model_options["context_handler"] = SimpleNamespace(context_length=4, context_overlap=5, dim=3)
    refused(module, vae, windowed, f"{side}_model has context windows with context_overlap 5 and context_length 4")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("\u200b", "leaves a name empty"),
        (251 * "n", "too long"),
        ("a\0b", "Windows refuses it"),
        ("nul", "a device's name"),
        ("a:b", "':'"),
    ],
)
def test_a_name_that_a_file_system_refuses_is_refused_before_anything_is_loaded(module, vae, latent_models, output, name, words):
    refused(module, vae, latent_models, f"checkpoint_name is .*{words}", checkpoint_name=name)


def test_a_checkpoint_is_kept_in_a_folder_linked_to_another_disk(module, vae, latent_models, output, tmp_path):
    (tmp_path / "another disk").mkdir()
    (output / "sds").symlink_to(tmp_path / "another disk", target_is_directory=True)
    distilled(module, vae, latent_models, checkpoint_name="run")
    assert [path.name for path in (tmp_path / "another disk").iterdir()] == ["run.pt"]


@pytest.mark.parametrize("name", ["../run", "/tmp/run", "a/../../run"])
def test_a_checkpoint_stays_in_its_folder(module, vae, latent_models, output, name):
    with pytest.raises(ValueError, match="leads out of the folder"):
        distilled(module, vae, latent_models, checkpoint_name=name)


def refused(module, vae, latent_models, words, image_model=None, **given):
    """A run of these inputs ends with an error that says so, before any model is loaded."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match=words) as error:
        patch.setattr(comfy.model_management, "load_models_gpu", lambda *_, **__: pytest.fail("a model was loaded first"))
        distilled(module, vae, latent_models, image_model, **given)
    assert str(error.value).startswith("SDSBaseline: ")


def test_models_that_do_not_go_together_are_refused(module, vae, latent_models, pixel_model):
    refused(module, vae, (latent_models[0], pixel_model), "audio_model works on pixels")
    refused(module, vae, latent_models, "image_model works on other latents", random_model(comfy.supported_models.SDXL))
    flow = latent_models[0].clone()
    flow.add_object_patch(
        "model_sampling", type("Flow", (comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST), {})()
    )
    refused(module, vae, latent_models, "image_model works by flow matching", flow)


def test_numbers_that_leave_a_model_without_a_say_are_refused(module, vae, latent_models, pixel_model):
    refused(module, vae, latent_models, "crops is 0", crops=0)
    refused(module, vae, latent_models, "warm_start is 3 of 3 iterations", warm_start=3)
    refused(module, vae, latent_models, "canvas is latents, and image_model works on pixels", pixel_model, canvas="latents")
    refused(module, vae, latent_models, "64 columns wide, .* squares of 256. Set seconds to 2.56", pixel_model)


@pytest.mark.parametrize(
    "given",
    [
        {"iterations": 0},
        {"iterations": -5, "warm_start": -9},
        {"warm_start": -1},
        {"lambda_sds": float("nan")},
        {"lambda_sds": -0.1},
        {"image_cfg": float("inf")},
        {"audio_cfg": float("nan")},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"crops": -1},
        {"hidden": 1},
        {"seconds": 0.0},
        {"seconds": float("nan")},
        {"seed": -1},
        {"seed": 2**64},
    ],
    ids=str,
)
def test_a_number_past_its_widget_s_range_is_refused(module, vae, latent_models, given):
    """A link from another node brings any."""
    name, value = next(iter(given.items()))
    refused(module, vae, latent_models, f"{name} is {value}; it is a .*number from ", **given)


@pytest.mark.parametrize("socket", PROMPTS)
def test_text_that_is_empty_or_nan_is_refused(module, vae, latent_models, socket):
    refused(module, vae, latent_models, f"{socket} conditioning is empty. Encode a prompt", **{socket: []})
    spoilt = [[float("nan") * conditioning(1)[0][0], {}]]
    refused(module, vae, latent_models, f"{socket} conditioning is NaN or infinite.* in float32", **{socket: spoilt})


def test_the_largest_seed_works(module, vae, latent_models):
    assert distilled(module, vae, latent_models, canvas="latents", iterations=2, seed=2**64 - 1).isfinite().all()


@pytest.mark.parametrize("socket", PROMPTS)
def test_text_that_a_a_model_cannot_read_is_refused(module, vae, latent_models, floyd, socket):
    wide = {socket: [[torch.zeros(1, 77, 64), {}]]}
    refused(module, vae, latent_models, f"{socket} has embeddings 64 wide, {socket[:5]}_model reads 32", **wide)
    if socket.startswith("image"):
        refused(module, vae, latent_models, f"{socket} has embeddings 64 wide", floyd, seconds=2.56, **wide)
        short = {f"image_{side}": [[torch.zeros(1, 77, floyd.text_width), {}]] for side in SIDES}
        short[socket] = [[torch.zeros(1, 7, floyd.text_width), {}]]
        refused(module, vae, latent_models, f"{socket} has 7 tokens", floyd, seconds=2.56, **short)


def test_a_run_that_overflows_says_at_which_step_and_by_which_side_and_leaves_the_checkpoint(module, vae, latent_models, output):
    distilled(module, vae, latent_models, iterations=2, checkpoint_name="run")
    kept = (output / "sds" / "run.pt").read_bytes()
    overflows, steps = latent_models[0].clone(), iter([1.0, 1.0, float("nan")])
    overflows.set_model_sampler_post_cfg_function(lambda args: next(steps, 1.0) * args["denoised"])
    with pytest.raises(
        ValueError,
        match=r"NaN at iteration 5 .*picture nan, sound \d.*: image_model overflowed .*weight_dtype fp32.* checkpoint run is from before",
    ):
        distilled(module, vae, latent_models, overflows, iterations=8, checkpoint_name="run")
    assert (output / "sds" / "run.pt").read_bytes() == kept


def test_the_node_shows_the_canvas_and_each_side_s_error(module, bridge, vae, latent_models, monkeypatch):
    previews, texts = [], []
    monkeypatch.setattr(bridge("sds_run"), "SHOW_EVERY", 0.0)
    monkeypatch.setattr(bridge("sds_run"), "SHOW_SHARE", 0)
    monkeypatch.setattr(module, "tell", lambda hidden, text: texts.append(text))
    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", lambda bar, value, preview: previews.append(preview[1]))
    distilled(module, vae, latent_models)
    assert [preview.size for preview in previews] == 3 * [(64, 256)]
    told = [re.fullmatch(rf"{step} of 3, mean squared noise error: (.*)", text) for step, text in enumerate(texts[:3], 1)]
    sides = [re.sub(r" \d+\.\d{3}", "", match[1]) for match in told if match]
    assert sides == ["sound", "picture, sound", "picture, sound"]
    assert texts[3] == "3 iterations of a network 16 wide. The paper's: 40000 of a network 256 wide."


def test_the_encoder_s_gradient_in_bfloat16_is_that_in_float32_but_for_noise(bridge, vae):
    def gradient():
        pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
        latents = bridge("parameterization").vae_parts(vae, torch.device("cpu"), "encoder", "quant_conv")(pixels)
        return torch.autograd.grad((latents * torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))).sum(), pixels)[0]

    exact = gradient()
    with pytest.MonkeyPatch.context() as half:
        half.setattr(vae, "vae_dtype", torch.bfloat16)
        rounded = gradient()
    assert 0 < float((rounded - exact).norm() / exact.norm()) < 0.05
