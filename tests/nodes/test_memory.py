"""What a joint sample and an hour of sound hold in memory, accounted by the tensors alive on a CPU."""

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


# An hour of sound


def recording(seconds):
    """IMAGE and AUDIO, gray and in stereo at 44.1 kHz."""
    generator = torch.Generator().manual_seed(0)
    gray = torch.rand(1, 256, 100 * seconds, 1, generator=generator).expand(-1, -1, -1, 3)
    return gray, {"waveform": 0.2 * torch.randn(1, 2, 44100 * seconds, generator=generator), "sample_rate": 44100}


@pytest.mark.parametrize(
    ("name", "module", "most"), [("AudioToSpectrogram", "audio", 1.0), ("ImprintRecording", "imprint", 2.2), ("PlayImage", "player", 0.5)]
)
def test_an_hour_in_stereo_needs_little_beyond_itself(pack, tmp_path, monkeypatch, name, module, most):
    import folder_paths

    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    node = getattr(importlib.import_module(f"{pack.__name__}.nodes.{module}"), name)
    photo = torch.rand(1, 32, 64, 3, generator=torch.Generator().manual_seed(0))

    def peak(seconds):
        picture, sound = recording(seconds)
        given = {
            "AudioToSpectrogram": (sound, 0.0),
            "ImprintRecording": (photo, sound, 0.5, 0.0, 0.0, 0.0, 8000.0, "tile", False),
            "PlayImage": (picture, sound),
        }[name]
        with torch.inference_mode(), Accounting() as accounting:
            outputs = node.execute(*given).args or ()
        return accounting.peak, sum(_bytes(output) for output in outputs)

    (short, given_short), (long, given_long) = peak(45), peak(90)
    hour, outputs = ((after - before) * 80 / 2**30 for before, after in ((short, long), (given_short, given_long)))
    print(f"{name}: {hour:.2f} GiB for an hour, of which {outputs:.2f} are what it gives")
    assert hour < most


def _bytes(output):
    return (output["waveform"] if isinstance(output, dict) else output).untyped_storage().nbytes()
