"""Riffusion's spectrogram, held against the official way (torchaudio) and against its own inverse; Auffusion's as it was, to the bit."""

import math

import pytest
import torch
import torch.nn.functional as F
import torchaudio

from itsound_core import spectrogram
from itsound_core.cycle import cycle_consistency, level_db
from itsound_core.griffin_lim import griffin_lim
from itsound_core.imprint import Area, imprint
from itsound_core.looping import close_loop, wrap
from itsound_core.playhead import spectrogram_seconds
from itsound_core.spectrogram import AUFFUSION, RIFFUSION, istft, mel_filters, picture_to_mel, stft, waveform_to_picture
from itsound_core.views import FORMATS, VIEWS, canvas_height


@pytest.fixture(scope="module")
def chord():
    """64 frames (0.63 s) of three decaying notes with a little noise, at 44.1 kHz."""
    time = torch.arange(RIFFUSION.samples(64)) / RIFFUSION.sample_rate
    notes = sum(torch.sin(2 * torch.pi * hertz * time) for hertz in (262.0, 660.0, 3136.0))
    return (0.2 * notes * torch.exp(-2 * time) + 1e-3 * torch.randn(len(time), generator=torch.Generator().manual_seed(1)))[None]


def test_auffusions_picture_is_what_it_always_was_to_the_bit():
    sound = 0.3 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    padded = F.pad(sound[:, None], (944, 944), mode="reflect")[:, 0]
    spectrum = torch.stft(padded, 2048, 160, 1024, torch.hann_window(1024), center=False, return_complex=True)
    mel = mel_filters() @ torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-9)
    nepers = math.log(200.0) - math.log(1e-5)
    assert torch.equal(waveform_to_picture(sound), ((mel.clamp(min=1e-5).log() - math.log(1e-5)) / nepers).clamp(0, 1).flip(-2))
    picture = waveform_to_picture(sound)
    assert torch.equal(picture_to_mel(picture), (picture.flip(-2) * nepers + math.log(1e-5)).exp())


def test_a_picture_is_the_official_one(chord):
    official = torchaudio.transforms.Spectrogram(n_fft=17640, win_length=4410, hop_length=441, power=None)(chord).abs()
    mel = torchaudio.transforms.MelScale(512, 44100, 0.0, 10000.0, n_stft=8821, norm=None, mel_scale="htk")(official)
    expected = 1.0 - (mel / mel.max()) ** 0.25
    picture = waveform_to_picture(chord, RIFFUSION)
    assert picture.shape == (1, 512, 64)
    torch.testing.assert_close(picture, expected.flip(-2), rtol=0, atol=1e-3)


def test_istft_inverts_a_centred_stft_with_an_odd_hop_to_the_edges(chord):
    assert RIFFUSION.hop_length % 2 == 1
    torch.testing.assert_close(istft(stft(chord, RIFFUSION), RIFFUSION), chord, rtol=0, atol=1e-5)


def test_512_columns_are_5_11_seconds_a_hundred_a_second():
    assert RIFFUSION.seconds(512) == pytest.approx(5.11) and RIFFUSION.samples(512) == 225351
    assert RIFFUSION.frames(5.12) == 512 and RIFFUSION.frames_of(225351) == 512
    assert spectrogram_seconds(512, 512, fmt=RIFFUSION) == pytest.approx(5.11) and spectrogram_seconds(512, 512) is None


def test_a_sound_comes_back(chord):
    picture = waveform_to_picture(chord, RIFFUSION)
    waveform = griffin_lim(picture_to_mel(picture, RIFFUSION), 32, fmt=RIFFUSION)
    assert waveform.shape == chord.shape
    cycle = cycle_consistency(picture, waveform, RIFFUSION)
    assert cycle.correlation.item() > 0.98
    assert 0 < cycle.error_db.item() < 4.0
    assert cycle.band_error_db.shape == (1, 512)


def test_white_is_silence_and_silence_stays_silent():
    assert waveform_to_picture(torch.zeros(1, RIFFUSION.samples(24)), RIFFUSION).eq(1.0).all()
    faint = torch.full((1, RIFFUSION.samples(24)), 2.0**-18)
    assert waveform_to_picture(faint, RIFFUSION).eq(1.0).all()
    assert not griffin_lim(picture_to_mel(torch.ones(1, 512, 24), RIFFUSION), 2, fmt=RIFFUSION).any()
    assert (RIFFUSION.silence, AUFFUSION.silence) == (1.0, 0.0)


def test_loudness_is_free(chord):
    picture = waveform_to_picture(chord, RIFFUSION)
    assert picture.amin() == 0.0
    torch.testing.assert_close(waveform_to_picture(0.01 * chord, RIFFUSION), picture, rtol=0, atol=1e-4)
    assert level_db(picture, 0.01 * chord, RIFFUSION).tolist() == [0.0]


def test_each_item_of_a_batch_has_its_own_loudest_point(chord):
    both = waveform_to_picture(torch.cat([chord, 0.1 * chord]), RIFFUSION)
    torch.testing.assert_close(both[1], both[0], rtol=0, atol=1e-4)


def test_in_pieces_the_picture_is_the_same(chord, monkeypatch):
    expected = waveform_to_picture(chord, RIFFUSION)
    monkeypatch.setattr(spectrogram, "FRAMES_AT_A_TIME", 100)
    seen = []
    torch.testing.assert_close(
        waveform_to_picture(chord, RIFFUSION, lambda done, count: seen.append((done, count))), expected, rtol=0, atol=1e-4
    )
    assert len(seen) > 4 and seen[-1] == (len(seen), len(seen))


def test_too_short_a_waveform_is_refused_and_the_shortest_is_not():
    assert RIFFUSION.shortest == 22 and AUFFUSION.shortest == 6
    assert waveform_to_picture(torch.ones(1, RIFFUSION.samples(22)), RIFFUSION).shape[-1] == 22
    with pytest.raises(ValueError, match="8820 samples"):
        waveform_to_picture(torch.ones(1, 8820), RIFFUSION)


def test_a_turn_of_a_loop_is_a_hop_for_each_column():
    picture = torch.rand(1, 512, 40)
    wrapped = wrap(picture, 8, RIFFUSION.centred)
    sound = torch.rand(1, RIFFUSION.samples(wrapped.shape[-1]))
    assert close_loop(sound, 8 * RIFFUSION.hop_length).shape[-1] == 40 * RIFFUSION.hop_length


def test_an_imprinted_picture_is_seen_as_it_is_and_its_bright_parts_quieten():
    loud = torch.full((1, 512, 64), 0.25)
    image = torch.zeros(1, 3, 512, 64)
    image[..., :32] = 1.0
    seen = imprint(image, loud, 0.5, area=Area(high_hz=RIFFUSION.f_max, fmt=RIFFUSION))
    torch.testing.assert_close(seen[..., 2:30], torch.full((1, 512, 28), 0.625), rtol=0, atol=1e-3)
    torch.testing.assert_close(seen[..., 34:], loud[..., 34:], rtol=0, atol=1e-3)
    inverted = imprint(image, loud, 0.5, area=Area(high_hz=RIFFUSION.f_max, fmt=RIFFUSION), invert=True)
    torch.testing.assert_close(inverted.flip(-1)[..., 2:30], seen[..., 2:30], rtol=0, atol=1e-3)


def test_every_view_has_a_format_and_its_height():
    assert VIEWS.keys() == FORMATS.keys()
    assert [canvas_height(name) for name in VIEWS] == [256, 512, 512]
    assert canvas_height("Riffusion") == 512 and FORMATS["Riffusion"] is RIFFUSION
