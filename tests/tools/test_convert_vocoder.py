"""The vocoder's conversion: the same sound from a file that is no pickle."""

import json

import pytest
import torch
from torch import nn

from itsound_core.vocoder import HiFiGAN, HiFiGANConfig, load_vocoder
from tools.convert_vocoder import convert

CONFIG = {
    "resblock": "1",
    "upsample_rates": [10, 16],
    "upsample_kernel_sizes": [20, 31],
    "upsample_initial_channel": 8,
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3]],
    "num_mels": 256,
}


@pytest.fixture
def folder(tmp_path):
    vocoder = HiFiGAN(HiFiGANConfig.from_dict(CONFIG))
    nn.utils.parametrizations.weight_norm(vocoder.conv_pre)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    torch.save({"generator": vocoder.state_dict()}, tmp_path / "vocoder.pt")
    return tmp_path


def test_the_converted_vocoder_makes_the_same_sound_without_the_pickle(folder):
    log_mel = torch.randn(1, 256, 6)
    expected = load_vocoder(folder)(log_mel)

    assert convert(folder) == folder / "vocoder.safetensors"
    (folder / "vocoder.pt").unlink()

    assert torch.equal(load_vocoder(folder)(log_mel), expected)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "vocoder.safetensors"]


def test_a_file_that_is_there_is_not_overwritten(folder):
    convert(folder)
    with pytest.raises(ValueError, match="vocoder.safetensors is there already"):
        convert(folder)


def test_a_broken_pickle_leaves_no_file_behind(folder):
    (folder / "vocoder.pt").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="vocoder.pt cannot be read"):
        convert(folder)
    assert not (folder / "vocoder.safetensors").exists()
