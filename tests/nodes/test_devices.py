"""What ComfyUI runs on a graphics card, on tensors that only say they lie there: the guider, and what nodes are given with --gpu-only."""

from __future__ import annotations

import importlib

import pytest
import torch

pytest.importorskip("comfy.samplers", reason="COMFYUI_PATH does not name a ComfyUI folder")

import comfy.model_management  # noqa: E402
import comfy.samplers  # noqa: E402
from elsewhere import OnCard, card, laid, same_on_the_card  # noqa: E402
from tiny_models import conditioning, random_model  # noqa: E402


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


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


# Nodes whose pictures and sounds lie on the card, as with --gpu-only

GIVEN = {
    "ImprintBaseline": ("imprint", dict(rho=0.5, start=0.05, seconds=0.2)),
    "ImprintRecording": ("imprint", dict(rho=0.5, start=0.0, seconds=0.0, low_hz=0.0, high_hz=8000.0, fit="tile", invert=False)),
    "SpectrogramToAudio": ("audio", dict(iterations=2)),
    "AudioToSpectrogram": ("audio", dict(seconds=0.0)),
    "TrimCanvas": ("audio", dict(columns=8)),
    "CycleConsistency": ("audio", dict()),
    "RenormalizeSpectrogram": ("picture", dict(colormap="fire")),
    "ViewCanvas": ("picture", dict(view="two-row square", inverse=True)),
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_node_takes_pictures_and_sounds_that_lie_on_the_card(pack, name):
    family, values = GIVEN[name]
    node = getattr(importlib.import_module(f"{pack.__name__}.nodes.{family}"), name)
    sockets = {socket.id for socket in node.define_schema().inputs}

    def run(image, spectrogram, waveform):
        audio = {"waveform": waveform, "sample_rate": 16000}
        given = {"image": image, "spectrogram": spectrogram, "canvas": spectrogram, "audio": audio}
        return node.PREPARE_CLASS_CLONE(None).execute(**values | {key: one for key, one in given.items() if key in sockets}).args

    same_on_the_card(run, random(1, 40, 30, 4), random(1, 256, 64, 3), random(1, 2, 64 * 160) - 0.5, anywhere=True)
