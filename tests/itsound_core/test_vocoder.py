"""HiFi-GAN of any config of its family, and its folder: whole, truncated, mislabelled."""

import json
import math

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from itsound_core.spectrogram import waveform_to_mel
from itsound_core.vocoder import PIECE, HiFiGAN, HiFiGANConfig, load_vocoder, replace_magnitude

SMALL = {
    "resblock": "1",
    "upsample_rates": [5, 4, 2, 2, 2],
    "upsample_kernel_sizes": [16, 16, 8, 4, 4],
    "upsample_initial_channel": 64,
    "resblock_kernel_sizes": [3, 7],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5]],
    "num_mels": 256,
}
TYPE_2 = SMALL | {
    "resblock": "2",
    "upsample_rates": [10, 16],
    "upsample_kernel_sizes": [20, 31],
    "resblock_dilation_sizes": [[1, 2], [2, 6]],
}
FULL_SIZE = SMALL | {
    "upsample_initial_channel": 512,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5]] * 3,
}


def weight_normed(module, parametrized=False):
    norm = nn.utils.parametrizations.weight_norm if parametrized else nn.utils.weight_norm
    for child in [child for child in module.modules() if isinstance(child, (nn.Conv1d, nn.ConvTranspose1d))]:
        norm(child)
    return module


def reference(config, weights, log_mel):
    """HiFi-GAN written out from its paper, on folded weights."""

    def conv(x, name, dilation=1):
        weight = weights[name + ".weight"]
        return F.conv1d(x, weight, weights[name + ".bias"], dilation=dilation, padding=dilation * (weight.shape[2] - 1) // 2)

    kernels = len(config["resblock_kernel_sizes"])
    x = conv(log_mel, "conv_pre")
    for i, (rate, kernel) in enumerate(zip(config["upsample_rates"], config["upsample_kernel_sizes"], strict=True)):
        odd = (kernel - rate) % 2
        padding = (kernel - rate) // 2 + odd
        x = F.leaky_relu(x, 0.1)
        x = F.conv_transpose1d(x, weights[f"ups.{i}.weight"], weights[f"ups.{i}.bias"], rate, padding, output_padding=odd)
        outputs = []
        for j in range(kernels):
            y, block = x, f"resblocks.{i * kernels + j}"
            for k, dilation in enumerate(config["resblock_dilation_sizes"][j]):
                if config["resblock"] == "1":
                    z = conv(F.leaky_relu(y, 0.1), f"{block}.convs1.{k}", dilation)
                    y = y + conv(F.leaky_relu(z, 0.1), f"{block}.convs2.{k}")
                else:
                    y = y + conv(F.leaky_relu(y, 0.1), f"{block}.convs.{k}", dilation)
            outputs.append(y)
        x = sum(outputs) / kernels
    return torch.tanh(conv(F.leaky_relu(x, 0.01), "conv_post"))[:, 0]


def write(folder, config, state_dict, name="vocoder.pt"):
    (folder / "config.json").write_text(json.dumps(config))
    if name.endswith(".pt"):
        torch.save({"generator": state_dict}, folder / name)
    else:
        safetensors.torch.save_file(state_dict, folder / name)
    return folder


@pytest.fixture
def saved(tmp_path):
    return write(tmp_path, SMALL, HiFiGAN(HiFiGANConfig.from_dict(SMALL)).state_dict())


@pytest.mark.parametrize("config", [SMALL, TYPE_2], ids=["type 1", "type 2"])
@pytest.mark.parametrize("parametrized", [False, True], ids=["weight_g", "parametrizations"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
def test_weight_normed_files_are_folded_to_the_same_sound(tmp_path, config, parametrized):
    torch.manual_seed(0)
    trained = weight_normed(HiFiGAN(HiFiGANConfig.from_dict(config)), parametrized)
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            if name.endswith(("weight_g", "original0")):
                parameter.mul_(1.5)
    loaded = load_vocoder(write(tmp_path, config, trained.state_dict()))
    log_mel = torch.randn(2, 256, 9)
    waveform = loaded(log_mel)
    assert waveform.shape == (2, 9 * 160)
    torch.testing.assert_close(waveform, trained(log_mel).detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(waveform, reference(config, loaded.state_dict(), log_mel), rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
def test_a_full_size_file_loads(tmp_path):
    vocoder = weight_normed(HiFiGAN(HiFiGANConfig.from_dict(FULL_SIZE)))
    loaded = load_vocoder(write(tmp_path, FULL_SIZE | {"learning_rate": 2e-4}, vocoder.state_dict()))
    assert loaded.conv_pre.weight.shape == (512, 256, 7)
    with torch.inference_mode():
        assert loaded(torch.randn(1, 256, 3)).shape == (1, 480)


def test_half_precision_safetensors_load_as_float(tmp_path):
    half = HiFiGAN(HiFiGANConfig.from_dict(SMALL)).half().state_dict()
    loaded = load_vocoder(write(tmp_path, SMALL, half, "vocoder.safetensors"))
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}
    assert not loaded.training


def test_the_generator_trains():
    vocoder = HiFiGAN(HiFiGANConfig.from_dict(SMALL))
    vocoder(torch.randn(1, 256, 4)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in vocoder.parameters())


@pytest.mark.parametrize("config", [SMALL, TYPE_2], ids=["type 1", "type 2"])
def test_a_long_sound_made_in_pieces_is_the_sound_made_in_one(config):
    torch.manual_seed(0)
    vocoder = HiFiGAN(HiFiGANConfig.from_dict(config | {"upsample_initial_channel": 32})).double()
    log_mel = torch.randn(1, 256, 2 * PIECE + 9, dtype=torch.float64)
    steps = []
    with torch.inference_mode():
        waveform = vocoder(log_mel, lambda *step: steps.append(step))
        whole = reference(config, vocoder.state_dict(), log_mel)
    assert steps == [(1, 3), (2, 3), (3, 3)]
    torch.testing.assert_close(waveform, whole, rtol=0, atol=1e-12)


def test_the_memory_for_a_long_sound_does_not_grow_with_its_length():
    vocoder = HiFiGAN(HiFiGANConfig.from_dict(SMALL))
    assert vocoder.activation_bytes(512) < vocoder.activation_bytes(PIECE)
    assert vocoder.activation_bytes(360_000) == vocoder.activation_bytes(12_000) < 1.1 * vocoder.activation_bytes(PIECE)


def test_the_third_way_has_the_meant_magnitude_and_the_given_phase():
    tone = 0.3 * torch.sin(2 * torch.pi * 440 * torch.arange(16000) / 16000)[None]
    mel = waveform_to_mel(tone)
    rebuilt = replace_magnitude(0.1 * tone, mel)
    assert rebuilt.shape == tone.shape
    assert F.cosine_similarity(rebuilt, tone).item() > 0.99
    assert math.isclose(rebuilt.square().mean(), tone.square().mean(), rel_tol=0.1)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"num_mels": 80}, "num_mels is 80, but the spectrogram has 256"),
        ({"upsample_rates": [8, 8, 2, 2, 2]}, "512 samples a frame, but the spectrogram has 160"),
        ({"resblock": "3"}, 'resblock is "3"'),
        ({"upsample_kernel_sizes": [16, 16]}, "same length"),
        ({"upsample_kernel_sizes": [16, 16, 8, 4, 1]}, "no smaller"),
        ({"resblock_kernel_sizes": [3, 4]}, "odd numbers"),
        ({"resblock_dilation_sizes": [[1, 3, 5]]}, "same length"),
        ({"resblock_dilation_sizes": [1, 3]}, "resblock_dilation_sizes holds 1; a list is needed"),
        ({"upsample_initial_channel": 48}, "multiple of 32"),
        ({"upsample_initial_channel": "512"}, "upsample_initial_channel holds '512'; an integer is needed"),
    ],
)
def test_a_config_that_cannot_work_is_refused_by_key_and_value(saved, change, complaint):
    (saved / "config.json").write_text(json.dumps(SMALL | change))
    with pytest.raises(ValueError, match="config.json.*") as error:
        load_vocoder(saved)
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("{", "not JSON"), ("[]", "a JSON list"), ("{}", "the keys resblock, upsample_rates"), (None, "does not exist")],
)
def test_a_config_that_is_none_is_refused(saved, content, complaint):
    (saved / "config.json").unlink()
    if content is not None:
        (saved / "config.json").write_text(content)
    with pytest.raises(ValueError, match=f"config.json.*{complaint}"):
        load_vocoder(saved)


def test_missing_weights_are_refused(saved):
    (saved / "vocoder.pt").unlink()
    with pytest.raises(ValueError, match="neither vocoder.safetensors nor vocoder.pt"):
        load_vocoder(saved)


@pytest.mark.parametrize("name", ["vocoder.pt", "vocoder.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_weights_are_refused(tmp_path, name, share):
    folder = write(tmp_path, SMALL, HiFiGAN(HiFiGANConfig.from_dict(SMALL)).state_dict(), name)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=f"{name} cannot be read; it is truncated"):
        load_vocoder(folder)


@pytest.mark.parametrize("name", ["vocoder.pt", "vocoder.safetensors"])
@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\n", b"<!doctype html><title>Not found</title>"])
def test_a_page_or_pointer_instead_of_weights_is_refused(saved, name, content):
    (saved / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        load_vocoder(saved)


def test_a_pickle_that_would_run_code_is_refused(saved):
    torch.save({"generator": HiFiGAN(HiFiGANConfig.from_dict(SMALL))}, saved / "vocoder.pt")
    with pytest.raises(ValueError, match="vocoder.pt cannot be read"):
        load_vocoder(saved)


def test_a_discriminators_file_is_refused(saved):
    torch.save({"mpd": {}, "msd": {}}, saved / "vocoder.pt")
    with pytest.raises(ValueError, match="no weights under the key 'generator'.*mpd, msd"):
        load_vocoder(saved)


def test_weights_of_another_config_are_refused_briefly(saved):
    (saved / "config.json").write_text(json.dumps(SMALL | {"upsample_initial_channel": 32}))
    with pytest.raises(ValueError, match=r"of another shape: conv_pre.weight \(64, 256, 7\) instead of \(32, 256, 7\).* and \d+ more"):
        load_vocoder(saved)
    (saved / "config.json").write_text(json.dumps(TYPE_2 | {"upsample_rates": [10, 16]}))
    with pytest.raises(ValueError, match="missing: .*unknown: "):
        load_vocoder(saved)
