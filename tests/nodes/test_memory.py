"""What a joint sample holds in memory: two UNets and the activations of one, accounted by the tensors alive on a CPU."""

from __future__ import annotations

import importlib

import pytest
import torch

pytest.importorskip("comfy.samplers", reason="COMFYUI_PATH does not name a ComfyUI folder")

import comfy.samplers  # noqa: E402
from accounting import Accounting  # noqa: E402
from tiny_models import conditioning, diffusers_unet, native_model  # noqa: E402

CANVAS = (1, 4, 32, 128)


@pytest.fixture
def models():
    return native_model(diffusers_unet(1)), native_model(diffusers_unet(2))


@pytest.fixture
def peak(pack, models):
    """Peak bytes of two steps at an audio weight, above the models'."""
    guider = importlib.import_module(pack.__name__ + ".bridge.guider")

    def sample(audio_weight):
        joint = guider.JointGuider(
            [
                guider.ModelExpert("test", name, model, conditioning(11), conditioning(12), 7.0, 1.0, weight)
                for name, model, weight in zip(("image", "audio"), models, (1 - audio_weight, audio_weight), strict=True)
            ]
        )
        sigmas = comfy.samplers.calculate_sigmas(models[0].get_model_object("model_sampling"), "ddim_uniform", 2)
        with torch.inference_mode(), Accounting() as accounting:
            joint.sample(torch.randn(CANVAS), torch.zeros(CANVAS), comfy.samplers.sampler_object("ddim"), sigmas, disable_pbar=True, seed=1)
        return accounting.peak

    return sample


def test_a_joint_sample_holds_the_activations_of_one_unet(peak, models, record_property):
    single, joint = max(peak(0.0), peak(1.0)), peak(0.5)
    record_property("joint over single", joint / single)
    print(f"activations of one model {single / 1e6:.1f} MB, of the joint sample {joint / 1e6:.1f} MB, ratio {joint / single:.3f}")
    assert joint < 1.05 * single
    weights = sum(weight.nbytes for weight in models[0].model.diffusion_model.parameters())
    assert weights > 0.05 * single, "a copy of a model's weights would go unnoticed"
