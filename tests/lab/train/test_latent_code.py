"""The linear code of the embedded models: exact on what it can hold, and shown by the stock preview as what it is."""

import numpy as np
import pytest
import torch

from lab.train import latent_code  # noqa: E402


@pytest.fixture(scope="module")
def code() -> latent_code.LatentCode:
    rng = np.random.default_rng(0)
    ramps = rng.uniform(0.1, 0.4, size=(500, 1, 1)) + rng.normal(size=(500, 2, 1)) @ np.linspace(-0.2, 0.2, 8)[None]
    return latent_code.fit((ramps[:, :1].transpose(0, 2, 1) + ramps[:, 1:] + rng.normal(0, 0.01, (500, 8, 8))).reshape(500, 64))[0]


def test_decoding_undoes_what_a_latent_holds(code):
    latents = torch.randn(2, 4, 4, 6) * 0.05
    torch.testing.assert_close(code.encode(code.decode(latents)), latents, atol=1e-5, rtol=0)


def test_a_uniform_picture_survives_at_every_brightness(code):
    for level in (0, 77, 255):
        picture = torch.full((1, 16, 32), level, dtype=torch.uint8)
        torch.testing.assert_close(code.decode(code.encode(picture)), picture / 255, atol=1e-5, rtol=0)


def test_the_stock_preview_shows_a_uniform_picture_as_a_gray_that_rises_with_it(code):
    pictures = torch.tensor([0.2, 0.8]).view(2, 1, 1).expand(2, 8, 8)
    rgb = code.encode(pictures).flatten(1).numpy() @ latent_code.SD15_LATENT_TO_RGB
    np.testing.assert_allclose(rgb, rgb[:, :1].repeat(3, axis=1), atol=1e-4)
    assert rgb[0, 0] < rgb[1, 0]


def test_brightness_has_unit_deviation():
    patches = np.random.default_rng(0).uniform(size=(4000, 1)).repeat(64, axis=1) + np.random.default_rng(1).normal(0, 0.05, (4000, 64))
    code, _ = latent_code.fit(patches)
    latents = code.encode(torch.from_numpy(patches).view(-1, 8, 8)).flatten(1).numpy()
    assert (latents @ latent_code.preview_rotation())[:, 0].std() == pytest.approx(1.0, rel=1e-4)


def test_a_saved_code_is_the_same_code(code, tmp_path):
    code.save(tmp_path / "code.npz")
    again = latent_code.LatentCode.load(tmp_path / "code.npz")
    picture = torch.rand(1, 16, 16)
    assert torch.equal(again.encode(picture), code.encode(picture))
