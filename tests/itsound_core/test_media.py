"""Files in memory: what is decoded is what was encoded, as long as it was, and memory does not grow with the length."""

from __future__ import annotations

import io
import math
import weakref
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from itsound_core.media import encode_flac, encode_mp4, encode_png


def noise(seconds: float, rate: int, channels: int = 1) -> torch.Tensor:
    return 0.2 * torch.randn(channels, round(seconds * rate), generator=torch.Generator().manual_seed(0))


def black(count: int, height: int = 32, width: int = 64) -> list[torch.Tensor]:
    return [torch.zeros(height, width, 3, dtype=torch.uint8) for _ in range(count)]


def decode_sound(file: io.BytesIO) -> np.ndarray:
    file.seek(0)
    with av.open(file) as container:
        channels = container.streams.audio[0].channels
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    if frames[0].dtype == np.int32:  # FLAC: channels beside each other
        return np.concatenate(frames, axis=1).reshape(-1, channels).T / 2.0**31
    return np.concatenate(frames, axis=1)


@pytest.mark.parametrize(("seconds", "fps"), [(1.01, 10), (2.5, 10), (0.013, 25), (1.0, 60), (1.3, Fraction(2997, 100))])
@pytest.mark.parametrize("codec", ["aac", "flac"])
def test_a_video_is_as_long_as_its_sound(seconds, fps, codec):
    samples, fps = noise(seconds, 48000), Fraction(fps)
    file = encode_mp4(black(-int(-seconds * fps // 1)), fps, samples, 48000, {}, codec)
    with av.open(file) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert float(video.duration * video.time_base) == pytest.approx(seconds, abs=1e-3 / fps)
        assert float(audio.duration * audio.time_base) == pytest.approx(seconds, abs=1e-4)
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert times == pytest.approx([index / fps for index in range(len(times))], abs=1e-4)


@pytest.mark.parametrize("channels", [1, 2])
def test_flac_in_a_video_keeps_24_bits(channels):
    samples = noise(1.0, 16000, channels)
    sound = decode_sound(encode_mp4(black(25), Fraction(25), samples, 16000, {}, "flac"))
    assert sound.shape == samples.shape
    assert np.abs(sound - samples.numpy()).max() <= 2.0**-23


def test_aac_in_a_video_is_in_step_and_close():
    time = torch.arange(48000) / 48000
    samples = sum(0.1 * torch.sin(2 * math.pi * hertz * time) for hertz in (330, 1234, 4000))[None]
    sound = torch.from_numpy(decode_sound(encode_mp4(black(25), Fraction(25), samples, 48000, {})))[:, :48000]
    error = (sound - samples)[:, 2048:-2048]
    assert error.pow(2).mean() < 1e-4 * samples.pow(2).mean()


def test_sound_and_picture_lie_beside_each_other_in_the_file():
    """A player that streams needs both at once; the file is written in that order."""
    with av.open(encode_mp4(black(100), Fraction(10), noise(10.0, 48000), 48000, {})) as container:
        places = {"video": [], "audio": []}
        for packet in container.demux():
            if packet.dts is not None:
                places[packet.stream.type].append((float(packet.dts * packet.time_base), packet.pos))
    for kind, other in (("video", "audio"), ("audio", "video")):
        for second in range(1, 8):
            first = next(pos for time, pos in places[kind] if time >= second)
            assert first < next(pos for time, pos in places[other] if time >= second + 2)


def test_colours_come_back_as_they_were_and_are_declared():
    picture = torch.zeros(64, 64, 3, dtype=torch.uint8)
    picture[:, :32], picture[:, 32:] = torch.tensor([200, 60, 40]), torch.tensor([30, 90, 210])
    with av.open(encode_mp4([picture] * 3, Fraction(10), noise(0.3, 48000), 48000, {})) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (1, 1), "BT.709 in limited range"
        decoded = frame.to_ndarray(format="rgb24")
    assert np.abs(decoded[:, [8, 56]].astype(int) - picture[:, [8, 56]].numpy()).max() < 6


def test_memory_does_not_grow_with_the_length_of_a_video():
    """Of 200 frames drawn, never more than three are alive at once."""
    alive, most, count = weakref.WeakSet(), 0, 200

    def frames():
        nonlocal most
        for _ in range(count):
            frame = torch.zeros(32, 64, 3, dtype=torch.uint8)
            alive.add(frame)
            most = max(most, len(alive))
            yield frame
            del frame

    encode_mp4(frames(), Fraction(25), noise(count / 25, 8000), 8000, {})
    assert most <= 3


def test_a_png_read_and_stored_again_is_the_same_and_alpha_stays():
    levels = torch.arange(256).repeat(3, 1).T.reshape(16, 16, 3)
    file = Image.open(io.BytesIO(encode_png(levels / 255.0, {"Title": "t", "Comment": "城"}, "<x/>")))
    assert np.array_equal(np.asarray(file), levels.numpy())
    assert np.asarray(Image.open(io.BytesIO(encode_png(torch.full((2, 2, 3), 10.7 / 255), {})))).min() == 11
    assert file.info["Title"] == "t" and file.info["Comment"] == "城" and file.info["XML:com.adobe.xmp"] == "<x/>"
    assert Image.open(io.BytesIO(encode_png(torch.rand(4, 4, 4), {}))).mode == "RGBA"
    assert Image.open(io.BytesIO(encode_png(torch.rand(4, 4, 1), {}))).mode == "RGB"


def test_a_flac_keeps_24_bits_and_its_tags_and_clips_what_is_too_loud():
    samples = noise(0.5, 44100, 2)
    samples[0, 0] = 3.0
    data = encode_flac(samples, 44100, {"title": "a castle", "comment": "城 🏰"})
    sound, rate = soundfile.read(io.BytesIO(data), always_2d=True)
    assert rate == 44100 and sound.shape == (22050, 2)
    assert np.abs(sound.T - samples.clamp(-1, 1).numpy()).max() <= 2.0**-23
    with av.open(io.BytesIO(data)) as container:
        assert container.metadata["title"] == "a castle" and container.metadata["comment"] == "城 🏰"
