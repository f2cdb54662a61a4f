"""What runs on a graphics card, on tensors that only say they lie there: nothing mixes devices, needs float64, or waits for the card."""

from __future__ import annotations

import importlib
from functools import partial

import pytest
import torch

pytest.importorskip("comfy.samplers", reason="COMFYUI_PATH does not name a ComfyUI folder")

import comfy.model_management  # noqa: E402
import comfy.samplers  # noqa: E402
from elsewhere import CARD, OnCard, card, laid  # noqa: E402
from tiny_models import conditioning, random_model  # noqa: E402

from itsound_core.colorize import color_spectrogram, enlarge_color  # noqa: E402
from itsound_core.composition import Expert, compose  # noqa: E402
from itsound_core.griffin_lim import griffin_lim  # noqa: E402
from itsound_core.sds import DiffusionPrior, full_canvas, random_crops, surrogate  # noqa: E402
from itsound_core.spectrogram import waveform_to_picture  # noqa: E402
from itsound_core.views import HALVES_END_TO_END  # noqa: E402
from itsound_core.vocoder import HiFiGAN, HiFiGANConfig, replace_magnitude  # noqa: E402


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def same_on_the_card(function, *inputs):
    """Calls function with the inputs on the card, checks what comes out against the host's, and gives what the host had to read."""
    expected = function(*inputs)
    with card() as watched:
        result = function(*map(laid, inputs))
    assert result.device == CARD and torch.equal(result.values, expected)
    return watched.reads


# The stand-in itself


def test_the_stand_in_sees_mixed_devices_float64_and_reads():
    with card() as watched:
        here, there = torch.ones(2), torch.ones(2).to("cuda")
        with pytest.raises(AssertionError, match="mixes tensors"):
            torch.add(here, there)
        with pytest.raises(AssertionError, match="float64"):
            there.double()
        assert watched.reads == []
        assert float(there.sum()) == 2.0 and bool(there.any()) and there.cpu().tolist() == [1.0, 1.0]
    assert len(watched.reads) == 3


# The core


def test_griffin_lim_never_waits_for_the_card():
    assert same_on_the_card(partial(griffin_lim, iterations=4), random(1, 256, 32)) == []


def test_the_vocoders_phase_on_the_meant_magnitude_never_waits_for_the_card():
    assert same_on_the_card(replace_magnitude, random(1, 32 * 160) - 0.5, random(1, 256, 32)) == []


def test_a_spectrogram_of_sound_on_the_card_never_waits_for_it():
    assert same_on_the_card(waveform_to_picture, random(1, 32 * 160) - 0.5) == []


def test_colour_is_enlarged_on_the_card_and_projected_without_float64():
    assert same_on_the_card(enlarge_color, random(1, 3, 64, 8), random(1, 1, 64, 8), random(1, 1, 256, 32)) == []
    projected = same_on_the_card(lambda gray, color: color_spectrogram(gray, color).pixels, random(1, 1, 256, 32), random(1, 3, 256, 32))
    assert set(projected) == {"_to_copy"}  # once a picture, for the double precision that Apple's cards lack


def test_a_vocoder_on_the_card_never_waits_for_it():
    config = dict(resblock="1", upsample_rates=[10, 4, 4], upsample_kernel_sizes=[20, 8, 8], upsample_initial_channel=32, num_mels=256)
    vocoder = HiFiGAN(HiFiGANConfig.from_dict(config | dict(resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3, 5]])))
    mel = random(1, 256, 16)
    with torch.no_grad():
        expected = vocoder(mel)
        with card() as watched:
            for part in vocoder.modules():
                part._parameters.update({name: laid(weight.detach()) for name, weight in part._parameters.items() if weight is not None})
            waveform = vocoder(laid(mel))
    assert torch.equal(waveform.values, expected) and watched.reads == []


@pytest.mark.parametrize("count", [2, 3])
def test_the_composition_reads_one_number_a_step(count):
    experts = [Expert(lambda x, t: 0.5 * x, start=float(i)) for i in range(1, count)]
    experts.append(Expert(lambda x, t: 0.9 * x, view=HALVES_END_TO_END))
    assert len(same_on_the_card(partial(compose, experts), random(2, 4, 8, 8), torch.full((2,), 0.5))) == 1


# The guider


@pytest.fixture
def on_card(monkeypatch):
    """ComfyUI without its memory manager, and models whose UNet is a product with a number, as they are once loaded on the card."""
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda *_, **__: None)

    def model(factor):
        patcher = random_model()
        patcher.load_device = torch.device("cuda")  # without a number ComfyUI asks no driver
        sampling = patcher.get_model_object("model_sampling")
        sampling._buffers.update({name: laid(table) for name, table in sampling._buffers.items()})
        monkeypatch.setattr(type(patcher), "get_free_memory", lambda *_: 1e12)
        patcher.set_model_unet_function_wrapper(lambda apply, args: factor * args["input"])
        return patcher

    return model


def sample(guider, sampler, steps, **options):
    latents = torch.zeros(2, 4, 32, 8)
    levels = torch.linspace(14.0, 1.0, steps).tolist()
    with torch.no_grad():
        return guider.sample(
            random(*latents.shape),
            latents,
            comfy.samplers.sampler_object(sampler),
            torch.tensor([*levels, 0.0]),
            seed=0,
            disable_pbar=True,
            **options,
        )


def reads_and_kernels(build, sampler, steps, **options):
    with card() as watched:
        result = sample(build(), sampler, steps, **options)
        assert isinstance(result, OnCard) and result.isfinite().all()
    return torch.tensor([len(watched.reads), len(watched.kernels)])


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "dpmpp_2m_cfg_pp"])
def test_a_step_of_the_joint_guider_waits_once_more_and_starts_hardly_more_kernels_than_each_model_alone(pack, on_card, sampler, count):
    module = importlib.import_module(pack.__name__ + ".bridge.guider")

    def joint():
        sides = [("image", 0.9), ("audio", 1.0), ("added", 0.8)][:count]
        return module.JointGuider(
            [module.ModelExpert("test", name, on_card(0.9), conditioning(1), conditioning(2), 5.0, t, 1.0) for name, t in sides]
        )

    def alone():
        guider = comfy.samplers.CFGGuider(on_card(0.9))
        guider.set_conds(conditioning(1), conditioning(2))
        guider.set_cfg(5.0)
        return guider

    of_joint, of_one = ((reads_and_kernels(build, sampler, 12) - reads_and_kernels(build, sampler, 4)) / 8 for build in (joint, alone))
    print(f"{sampler}: reads and kernels a step, of {count} models {of_joint.tolist()}, of one alone {of_one.tolist()}")
    assert of_joint[0] - of_one[0] <= 1 and of_joint[1] <= count * of_one[1] + 10


# Score distillation


def test_score_distillation_on_the_card_never_waits_for_it():
    def loss(x):
        prior = DiffusionPrior(lambda noisy, timestep: 0.5 * noisy, torch.linspace(0.99, 0.01, 1000, dtype=torch.float64), full_canvas)
        return surrogate(prior, full_canvas(x, None), torch.Generator().manual_seed(1))[0]

    assert same_on_the_card(loss, random(2, 4, 8, 8)) == []


def test_crops_of_the_canvas_on_the_card_never_wait_for_it():
    render = random_crops(3, 16)
    assert same_on_the_card(lambda picture: render(picture, torch.Generator().manual_seed(1)), random(1, 1, 32, 64)) == []
