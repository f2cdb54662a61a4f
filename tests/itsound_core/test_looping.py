"""The join of a loop: what is heard over it is what the picture shows there."""

import pytest
import torch

from itsound_core.griffin_lim import griffin_lim
from itsound_core.looping import close_loop, wrap
from itsound_core.spectrogram import AUFFUSION, picture_to_mel, waveform_to_picture

LEAD = 32


@pytest.fixture(scope="module")
def turn():
    """Two seconds out of the middle of a chord whose notes do not fit into them (1, 256, 200)."""
    time = torch.arange(4 * 16000) / 16000
    notes = [0.2 * torch.sin(2 * torch.pi * hertz * time) for hertz in (220.3, 331.7, 441.9, 1200.1)]
    return waveform_to_picture(torch.stack(notes).sum(0)[None])[..., 100:300]


def error_db(waveform, picture, columns):
    """Mean difference between the picture and the spectrogram of two turns of its sound, in these columns."""
    heard = waveform_to_picture(torch.cat([waveform, waveform], dim=-1))
    meant = torch.cat([picture, picture], dim=-1)
    return float((heard - meant).abs()[..., columns].mean() * 255 * AUFFUSION.decibels_per_level)


def test_over_the_join_the_sound_is_as_near_to_the_picture_as_inside(turn):
    join, inside = slice(200 - 8, 200 + 8), slice(50, 150)
    once = griffin_lim(picture_to_mel(turn))
    looped = close_loop(griffin_lim(picture_to_mel(wrap(turn, LEAD))), LEAD * AUFFUSION.hop_length)
    assert looped.shape == once.shape
    assert error_db(looped, turn, join) < 1.2 * error_db(looped, turn, inside)
    assert error_db(once, turn, join) > 4 * error_db(once, turn, inside)


def test_a_sound_that_goes_round_by_itself_stays_as_it_is():
    """As a vocoder's, to which a wrapped picture is just a longer one."""
    around = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0)).repeat(1, 3)[:, 4000 - 640 : 8000 + 640]
    assert torch.allclose(close_loop(around, 640), around[:, 640:-640], atol=1e-5)


def test_the_sound_of_the_next_turn_fades_out_at_constant_power():
    around = torch.randn(1, 20000, generator=torch.Generator().manual_seed(1))
    turn = close_loop(around, 5000)
    assert torch.allclose(turn[:, 0], around[:, -5000], atol=2e-3)
    assert torch.equal(turn[:, 5000:], around[:, 10000:15000])
    for part in turn[:, :5000].split(1000, dim=1):
        assert part.square().mean() == pytest.approx(1.0, abs=0.15)


def test_silence_stays_silent():
    assert torch.equal(close_loop(torch.zeros(1, 3000), 500), torch.zeros(1, 2000))
