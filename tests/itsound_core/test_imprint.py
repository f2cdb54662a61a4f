"""Imprint: METHOD's formula on any picture and any spectrogram, and on recordings, which stay as they are wherever the picture is not."""

import pytest
import torch

import itsound_core.imprint as module
from itsound_core.cycle import cycle_consistency
from itsound_core.imprint import Area, darkness, fit_to, imprint, imprint_recording
from itsound_core.resampling import resample
from itsound_core.spectrogram import normalize_peak, waveform_to_picture

SPECTROGRAM = torch.full((1, 256, 1024), 0.8)


def test_the_formula_on_a_picture_of_the_same_shape():
    image = torch.rand(1, 3, 256, 1024, generator=torch.Generator().manual_seed(0))
    expected = SPECTROGRAM * (1 - 0.3 * (1 - image).mean(1))
    torch.testing.assert_close(imprint(image, SPECTROGRAM, rho=0.3), expected)


@pytest.mark.parametrize("fit", ["cover", "contain", "stretch", "tile"])
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


def test_tiles_are_whole_pictures_from_left_to_right_and_the_last_is_cut():
    tiled = fit_to(square_on_square(), 128, 300, "tile")
    assert torch.equal(tiled[..., :128], fit_to(square_on_square(), 128, 128, "stretch"))
    assert torch.equal(tiled[..., 128:256], tiled[..., :128])
    assert torch.equal(tiled[..., 256:], tiled[..., :44])


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


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_inverted_the_bright_parts_darken_and_the_transparent_ones_still_do_not(channels):
    image = torch.rand(1, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    alpha = image[:, 3] if channels == 4 else 1.0
    torch.testing.assert_close(darkness(image, invert=True), image[:, :3].mean(1) * alpha)
    torch.testing.assert_close(darkness(image) + darkness(image, invert=True), alpha * torch.ones(1, 8, 8))


def test_an_area_confines_the_picture_in_time_and_frequency():
    result = imprint(torch.zeros(1, 3, 64, 64), SPECTROGRAM, rho=1.0, fit="stretch", area=Area(2.0, 3.0, 1000.0, 4000.0))
    rows, columns = (result[0] < 0.79).nonzero(as_tuple=True)
    assert (columns.min(), columns.max() + 1) == (200, 500)
    octaves_above_1_khz = 27 / torch.log(torch.tensor(6.4)) * torch.log(torch.tensor(4.0))  # Slaney's mels from 1000 to 4000 Hz
    assert len(rows.unique()) == pytest.approx(octaves_above_1_khz.item() * 257 / 45.25, abs=1)
    assert result[0, rows.unique()][:, 200:500].eq(0).all()


def test_the_whole_area_is_the_spectrogram_and_twice_the_hertz_twice_as_high_on_a_linear_scale():
    assert Area().rows == 256
    assert Area(high_hz=16000.0, scale="linear").rows == pytest.approx(2 * 256, abs=1)


# Recordings --------------------------------------------------------------------------------------------------------------------------

RATES = [8000, 16000, 22050, 44100]
BLACK = torch.zeros(3, 32, 32)


def noise(seconds: float, rate: int = 16000, channels: int = 1, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(channels, round(seconds * rate), generator=torch.Generator().manual_seed(seed))


def photo(seed: int = 0) -> torch.Tensor:
    """A picture (3, 64, 64) of large light and dark shapes."""
    coarse = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (64, 96), mode="bicubic").clamp(0, 1)[0]


@pytest.mark.parametrize("rate", RATES)
def test_every_sample_outside_of_the_picture_is_the_recordings_own(rate):
    recording = noise(1.5, rate, channels=2)
    area = Area(0.4, 0.7, 200.0, 3000.0)
    result = imprint_recording(BLACK, recording, rate, rho=1.0, area=area)
    first, last = area.span(recording.shape[1], rate)
    assert (first, last) == (round(0.4 * rate), round(1.1 * rate))
    assert torch.equal(result[:, :first], recording[:, :first]) and torch.equal(result[:, last:], recording[:, last:])
    inside = slice(first + rate // 10, last - rate // 10)
    assert (result - recording)[:, inside].square().mean() > 0.1 * recording[:, inside].square().mean()


def test_the_picture_fades_at_its_borders_so_that_nothing_clicks():
    recording, area = noise(1.5), Area(0.4, 0.7)
    change = (imprint_recording(BLACK, recording, 16000, rho=1.0, area=area) - recording)[0]
    first, last = area.span(recording.shape[1], 16000)
    typical = change[first + 1600 : last - 1600].square().mean().sqrt()
    for border in (slice(first, first + 80), slice(last - 80, last)):  # 5 ms
        assert change[border].abs().max() < 0.1 * typical


@pytest.mark.parametrize("changes_nothing", [{"rho": 0.0}, {"image": torch.ones(3, 8, 8)}, {"image": torch.zeros(4, 8, 8)}])
def test_a_picture_that_darkens_nothing_leaves_the_recording_as_it_is(changes_nothing):
    recording = noise(0.8, 44100, channels=2)
    assert torch.equal(
        imprint_recording(**{"image": photo(), "waveform": recording, "rate": 44100, "rho": 1.0} | changes_nothing), recording
    )


@pytest.mark.parametrize("piece", [1, 17, 10_000])
def test_in_pieces_of_any_length_the_result_is_the_same(piece, monkeypatch):
    recording, area = noise(1.2), Area(0.1, 0.9)
    expected = imprint_recording(photo(), recording, 16000, 0.8, area=area)
    monkeypatch.setattr(module, "PIECE", piece)
    torch.testing.assert_close(imprint_recording(photo(), recording, 16000, 0.8, area=area), expected, rtol=0, atol=1e-6)


def test_each_channel_is_treated_as_if_it_were_alone():
    recording = torch.cat([noise(0.8), 0.01 * noise(0.8, seed=1), torch.zeros(1, 12800)])
    together = imprint_recording(photo(), recording, 16000, 0.8)
    for channel, result in zip(recording, together, strict=True):
        assert torch.equal(imprint_recording(photo(), channel[None], 16000, 0.8)[0], result)
    assert together[2].eq(0).all()


def test_a_quieter_recording_gives_the_same_result_quieter():
    recording = noise(0.8)
    assert torch.equal(imprint_recording(photo(), recording / 64, 16000, 0.8), imprint_recording(photo(), recording, 16000, 0.8) / 64)


@pytest.mark.parametrize("rate", RATES[1:])
def test_the_spectrogram_of_the_result_is_the_spectrogram_imprinted(rate):
    """Both ways to the same picture: the recording imprinted, then seen; and seen, then imprinted."""
    recording = normalize_peak(noise(2.0, rate))
    meant = imprint(photo()[None], waveform_to_picture(resample(recording, rate, 16000)), 0.6)
    heard = resample(imprint_recording(photo(), recording, rate, 0.6), rate, 16000)
    cycle = cycle_consistency(meant, heard)
    assert cycle.correlation.item() > 0.97
    assert cycle.error_db.item() < 2.5
    plain = cycle_consistency(meant, resample(recording, rate, 16000))
    assert plain.correlation.item() < 0.5 and plain.error_db.item() > 15


BANDS = [(100.0, 1800.0), (2200.0, 5600.0), (6400.0, 9500.0), (10500.0, 20000.0)]


def band_level(waveform: torch.Tensor, rate: int, low: float, high: float) -> float:
    """Decibels of the frequencies from low to high Hz."""
    power = torch.fft.rfft(waveform[0].double()).abs().square()
    hertz = torch.linspace(0, rate / 2, len(power))
    return 10 * power[(hertz > low) & (hertz < high)].mean().log10().item()


@pytest.mark.parametrize(
    ("scale", "image", "darkened"),
    [
        ("mel", BLACK, (2000.0, 10000.0)),
        ("linear", torch.cat([BLACK, torch.ones_like(BLACK)], dim=1), (6000.0, 10000.0)),  # the upper half of 2 to 10 kHz
    ],
)
def test_only_the_bands_under_the_picture_are_quietened(scale, image, darkened):
    rate, recording = 44100, noise(1.5, 44100)
    result = imprint_recording(image, recording, rate, 0.8, "stretch", Area(0.0, 0.0, 2000.0, 10000.0, scale))
    low, high = darkened
    change = {band: band_level(result, rate, *band) - band_level(recording, rate, *band) for band in BANDS}
    for band, decibels in change.items():
        if band[0] >= low and band[1] <= high:
            assert decibels < -30, (band, decibels)
        else:
            assert abs(decibels) < 0.3, (band, decibels)


def test_over_the_whole_recording_the_picture_reaches_both_of_its_ends():
    recording = normalize_peak(noise(1.0))
    result = imprint_recording(BLACK, recording, 16000, 0.8)
    for end in (slice(0, 800), slice(-800, None)):  # 50 ms
        assert result[:, end].square().mean() < 1e-3 * recording[:, end].square().mean()


def test_progress_counts_the_pieces_of_all_channels_and_may_end_the_work(monkeypatch):
    monkeypatch.setattr(module, "PIECE", 50)
    told = []
    imprint_recording(photo(), noise(1.0, channels=2), 16000, on_step=lambda *step: told.append(step))
    assert told == [(done, 6) for done in range(1, 7)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        imprint_recording(photo(), noise(1.0), 16000, on_step=stop)
