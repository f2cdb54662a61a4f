"""Picture -> waveform -> picture through non-negative least squares and fast Griffin-Lim."""

import pytest
import torch

from itsound_core.cycle import cycle_consistency
from itsound_core.griffin_lim import griffin_lim
from itsound_core.mel_inversion import mel_to_magnitude
from itsound_core.spectrogram import mel_filters, picture_to_mel, waveform_to_mel, waveform_to_picture


@pytest.fixture(scope="module")
def chord():
    """One second of three decaying notes with a little noise."""
    time = torch.arange(16000) / 16000
    notes = sum(torch.sin(2 * torch.pi * hertz * time) for hertz in (262.0, 660.0, 1568.0))
    return (0.2 * notes * torch.exp(-2 * time) + 1e-3 * torch.randn(16000, generator=torch.Generator().manual_seed(1)))[None]


@pytest.fixture(scope="module")
def drawing():
    """A disc, a thin line and a wall, on black."""
    y, x = torch.meshgrid(torch.arange(256), torch.arange(128), indexing="ij")
    picture = 0.7 * (((x - 40) ** 2 + (y - 150) ** 2) < 900).float()
    picture[60] = 0.6
    picture[20:240, 100:110] = 0.6
    return picture[None]


def test_magnitude_of_a_sound_explains_its_mel(chord):
    mel = waveform_to_mel(chord)
    magnitude = mel_to_magnitude(mel)
    assert magnitude.min() >= 0
    assert ((mel_filters() @ magnitude - mel).abs() / mel.clamp(min=1e-5)).mean() < 0.003


def test_a_sound_comes_back(chord):
    picture = waveform_to_picture(chord)
    cycle = cycle_consistency(picture, griffin_lim(picture_to_mel(picture)))
    assert cycle.error_db.item() < 1.1
    assert cycle.correlation.item() > 0.985


def test_a_drawing_comes_back_with_its_thin_line(drawing):
    cycle = cycle_consistency(drawing, griffin_lim(picture_to_mel(drawing)))
    assert cycle.correlation.item() > 0.85
    assert cycle.picture[0, 60, 75:95].mean() == pytest.approx(0.6, abs=0.08)


def test_iterations_and_momentum_pay(chord):
    picture = waveform_to_picture(chord)

    def error(**options):
        return cycle_consistency(picture, griffin_lim(picture_to_mel(picture), **options)).error_db.item()

    assert error() < 0.9 * error(momentum=0.0) < 0.9 * error(iterations=1)


def test_one_sample_for_each_hop_of_each_frame():
    assert griffin_lim(torch.rand(2, 256, 37), iterations=1).shape == (2, 37 * 160)


def test_silence_stays_silent():
    assert not griffin_lim(picture_to_mel(torch.zeros(1, 256, 32)), iterations=2).any()


def test_an_item_sounds_the_same_alone_and_in_a_batch(chord, drawing):
    mels = torch.cat([waveform_to_mel(chord)[..., :64], picture_to_mel(drawing)[..., :64]])
    torch.testing.assert_close(griffin_lim(mels, 4)[1:], griffin_lim(mels[1:], 4), rtol=0, atol=1e-4)


def test_the_seed_alone_decides(drawing):
    mel = picture_to_mel(drawing)[..., :32]
    first = griffin_lim(mel, 2, seed=1)
    torch.manual_seed(5)
    assert torch.equal(first, griffin_lim(mel, 2, seed=1))
    assert not torch.equal(first, griffin_lim(mel, 2, seed=2))


def test_every_step_is_reported_and_can_end_the_run():
    seen = []
    griffin_lim(torch.rand(1, 256, 16), 3, on_step=lambda step, steps: seen.append((step, steps)))
    assert seen == [(1, 3), (2, 3), (3, 3)]

    def cancel(step, steps):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        griffin_lim(torch.rand(1, 256, 16), 3, on_step=cancel)
