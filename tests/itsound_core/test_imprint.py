"""The imprint baseline: METHOD's formula on any picture and any spectrogram."""

import pytest
import torch

from itsound_core.imprint import fit_to, imprint

SPECTROGRAM = torch.full((1, 256, 1024), 0.8)


def test_the_formula_on_a_picture_of_the_same_shape():
    image = torch.rand(1, 3, 256, 1024, generator=torch.Generator().manual_seed(0))
    expected = SPECTROGRAM * (1 - 0.3 * (1 - image).mean(1))
    torch.testing.assert_close(imprint(image, SPECTROGRAM, rho=0.3), expected)


@pytest.mark.parametrize("fit", ["cover", "contain", "stretch"])
@pytest.mark.parametrize("size", [(64, 64), (700, 300), (3, 900), (1, 1)])
def test_black_darkens_by_rho_and_white_not_at_all(fit, size):
    assert torch.equal(imprint(torch.ones(1, 3, *size), SPECTROGRAM, fit=fit), SPECTROGRAM)
    assert imprint(torch.zeros(1, 3, *size), SPECTROGRAM, fit=fit)[0, 128, 512] == pytest.approx(0.4)


def square_on_square():
    image = torch.zeros(1, 256, 256)
    image[:, 96:160, 96:160] = 1.0
    return image


def extent(fitted):
    rows, columns = (fitted[0] > 0.5).nonzero(as_tuple=True)
    return (rows.max() - rows.min() + 1).item(), (columns.max() - columns.min() + 1).item()


def test_only_stretch_distorts():
    assert extent(fit_to(square_on_square(), 256, 1024, "contain")) == (64, 64)
    assert extent(fit_to(square_on_square(), 256, 1024, "cover")) == (256, 256)
    assert extent(fit_to(square_on_square(), 256, 1024, "stretch")) == (64, 256)


def test_contain_leaves_the_rest_of_the_spectrogram_alone():
    result = imprint(torch.zeros(1, 3, 256, 256), SPECTROGRAM, fit="contain")
    assert torch.equal(result[..., :384], SPECTROGRAM[..., :384])
    assert torch.equal(result[..., 640:], SPECTROGRAM[..., 640:])
    assert result[..., 384:640].max() == pytest.approx(0.4)


@pytest.mark.parametrize("channels", [2, 4])
def test_what_is_transparent_darkens_nothing(channels):
    image = torch.zeros(1, channels, 256, 1024)
    image[:, -1, :, 512:] = 1.0
    result = imprint(image, SPECTROGRAM)
    assert result[0, :, :512].min() == pytest.approx(0.8)
    assert result[0, :, 512:].max() == pytest.approx(0.4)


def test_gray_is_the_channel_mean_of_any_number_of_channels():
    for channels in (1, 3, 5):
        image = torch.ones(1, channels, 8, 8)
        image[:, 0] = 0.0
        assert imprint(image, SPECTROGRAM, rho=1.0)[0, 0, 0] == pytest.approx(0.8 * (1 - 1 / channels))


def test_one_picture_or_one_spectrogram_serves_a_batch():
    assert imprint(torch.rand(1, 3, 8, 8), SPECTROGRAM.expand(3, -1, -1)).shape == (3, 256, 1024)
    assert imprint(torch.rand(3, 3, 8, 8), SPECTROGRAM).shape == (3, 256, 1024)
    with pytest.raises(ValueError, match="2 images cannot be imprinted on 3 spectrograms"):
        imprint(torch.rand(2, 3, 8, 8), SPECTROGRAM.expand(3, -1, -1))
