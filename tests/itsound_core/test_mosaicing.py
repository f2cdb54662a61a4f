"""A picture played by a recording: which places are found, how they are joined, and how loud they become."""

import itertools
import math

import pytest
import torch

from itsound_core import mosaicing as module
from itsound_core.cycle import change_level, cycle_consistency, level_db
from itsound_core.mosaicing import mosaic, path, rearrange, shape
from itsound_core.resampling import resample
from itsound_core.spectrogram import normalize_peak, waveform_to_picture

RATE = 16000


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def melody(seconds: float = 3.0, rate: int = RATE) -> torch.Tensor:
    """A tone of another pitch every quarter of a second, (T,)."""
    t = torch.arange(round(seconds * rate)) / rate
    pitch = 220.0 * 2.0 ** (torch.randperm(12, generator=torch.Generator().manual_seed(0)) / 4)[(4 * t).long() % 12]
    envelope = (-8 * (t % 0.25)).exp()
    harmonics = sum((2 * math.pi * k * pitch * t).sin() / k for k in range(1, 6))
    return normalize_peak((envelope * torch.as_tensor(harmonics))[None].float() + 1e-3 * noise(1, len(t)))[0]


# The path ------------------------------------------------------------------------------------------------------------------------------


def test_the_path_is_the_cheapest_of_all():
    picture, recording = noise(3, 6), noise(3, 4, seed=1)
    distances = (picture[:, :, None] - recording[:, None]).square().sum(0)  # (6, 4)
    price = module.JUMP * 3 * float((distances.mean(1) - distances.amin(1)).mean())

    def cost(places):
        jumps = sum(after != (before + 1) % 4 for before, after in itertools.pairwise(places))
        return float(distances[range(6), places].sum()) + price * jumps

    found = path(picture, recording, 3).tolist()
    assert cost(found) == pytest.approx(min(map(cost, itertools.product(range(4), repeat=6))), rel=1e-5)


def test_pieces_of_a_recording_are_found_where_they_were_taken_from_in_any_blocks(monkeypatch):
    recording = noise(20, 90)
    expected = torch.cat([torch.arange(40, 70), torch.arange(5, 30), torch.arange(60, 90), torch.arange(0, 15)])
    assert torch.equal(path(recording[:, expected], recording, 5), expected)
    monkeypatch.setattr(module, "BLOCK_BYTES", 1)
    assert torch.equal(path(recording[:, expected], recording, 5), expected)


def test_a_longer_coherence_jumps_less_and_none_at_all_without_one():
    picture, recording = noise(20, 200), noise(20, 90, seed=1)
    jumps = [int((path(picture, recording, c).diff() % 90 != 1).sum()) for c in (1, 5, 20, 0)]
    assert jumps == sorted(jumps, reverse=True) and jumps[0] > jumps[1] > jumps[2] > jumps[3] == 0


# The sound -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [16000, 44100, 47999])
def test_a_recording_in_its_own_order_is_itself(rate):
    waveform = noise(2, 2 * rate)
    assert torch.equal(rearrange(waveform, rate, torch.arange(200)), waveform)


def test_after_the_end_of_a_loop_it_begins_again_without_a_seam_whatever_its_length():
    t = torch.arange(15950)  # no whole number of columns: ten turns of a wave
    loop = (2 * math.pi * 10 * t / len(t)).sin()[None]
    places = torch.arange(100).repeat(3)[:280]
    assert (rearrange(loop, RATE, places) - loop.repeat(1, 3)[:, : 280 * 160]).abs().max() < 1e-4


def test_a_jump_is_faded_where_the_waves_meet():
    t = torch.arange(2 * RATE) / RATE
    tone = (2 * math.pi * 310 * t).sin()[None]
    joined = rearrange(tone, RATE, torch.cat([torch.arange(50), torch.arange(103, 150), torch.arange(20, 60)]))
    # Louder or quieter at no moment, and no step but the tone's own.
    loudness = joined.unfold(-1, 160, 160).square().mean(-1).sqrt()
    assert loudness.min() > 0.68 and loudness.max() < 0.73
    assert joined.diff().abs().max() < 1.05 * tone.diff().abs().max()


def test_jumps_from_column_to_column_and_silence_play_too():
    for waveform in (noise(1, RATE), torch.zeros(1, RATE)):
        assert rearrange(waveform, RATE, torch.tensor([3, 90, 5, 5, 5, 70])).isfinite().all()


def test_a_sound_becomes_as_loud_as_the_picture_and_keeps_its_wave_where_it_is_already():
    sound = melody()
    picture = waveform_to_picture(sound[None])[0]
    darker = picture.clone()
    darker[:, 100:200] -= 0.2  # 29 dB
    shaped = shape(sound[None], sound, RATE, darker.clamp(min=0))
    assert float(cycle_consistency(darker.clamp(min=0)[None], shaped).error_db) < 1.5
    same = slice(0, 90 * 160)
    noise_power = (shaped[0, same] - sound[same]).square().mean() / sound[same].square().mean()
    assert 10 * float(noise_power.log10()) < -20


def test_likeness_0_changes_no_loudness():
    sound = melody(1.0)
    assert torch.allclose(shape(sound[None], sound, RATE, torch.rand(256, 100), likeness=0.0)[0], sound, atol=1e-5)


def test_nothing_is_made_louder_than_the_largest_gain_nor_beyond_8_khz():
    rate = 44100
    sound = 1e-4 * noise(1, rate)
    shaped = shape(sound, sound[0], rate, torch.ones(256, 100))
    gain = torch.fft.rfft(shaped[0]).abs() / torch.fft.rfft(sound[0]).abs().clamp(min=1e-9)
    assert 20 * float(gain[1000:7000].median().log10()) == pytest.approx(30.0, abs=1.0)
    assert 20 * float(gain[9000:].median().log10()) == pytest.approx(0.0, abs=0.5)


def test_the_whole_keeps_rate_channels_and_proportions_and_shows_the_picture():
    rate = 44100
    mono = melody(3.0, rate)
    stereo = torch.stack([mono, 0.25 * mono])
    recording = waveform_to_picture(normalize_peak(resample(mono[None], rate, RATE)))[0]
    picture = torch.cat([recording[:, 150:250], recording[:, 20:100], torch.zeros(256, 20)], dim=1)
    calls = []
    sound = mosaic(picture, stereo, stereo.mean(0), rate, 30, on_step=lambda done, steps: calls.append(done / steps))
    assert sound.shape == (2, 2 * rate) and sound.abs().max() <= 1.0
    assert torch.allclose(sound[1], 0.25 * sound[0], atol=1e-5)
    assert sound[:, -4410:].abs().max() < 1e-3
    assert calls == sorted(calls) and calls[-1] == 1.0
    heard, shown = resample(sound.mean(0)[None], rate, RATE)[:, : 170 * 160], picture[None, :, :170]
    assert float(cycle_consistency(shown, change_level(heard, -level_db(shown, heard))).correlation) > 0.93


@pytest.mark.parametrize("rate", [8000, 11025])
def test_a_recording_of_fewer_bands_plays_what_it_holds(rate):
    mono = melody(2.0, rate)
    recording = waveform_to_picture(normalize_peak(resample(mono[None], rate, RATE)))[0]
    sound = mosaic(recording[:, 50:150], mono[None], mono, rate, 30)
    heard, shown = resample(sound, rate, RATE), recording[None, :, 50:150]
    assert sound.shape == (1, rate) and float(cycle_consistency(shown, change_level(heard, -level_db(shown, heard))).correlation) > 0.93
