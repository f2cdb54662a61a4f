"""Pictures, sounds and videos as files in memory: PNG, FLAC, and MP4 encoded frame by frame."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any, Literal, get_args

import av
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .progress import OnStep

AudioCodec = Literal["aac", "flac"]
AUDIO_CODECS: tuple[AudioCodec, ...] = get_args(AudioCodec)

AAC_BITS_PER_CHANNEL = 192_000
"""Bits a second. At 48 kHz a mel spectrogram changes by 0.1 dB where it is not dark; 16 kHz holds 96 kbit/s at most, and 0.4 dB."""
PIECE_SECONDS = 10
"""Seconds of a sound that are encoded at a time."""
FLAC_OPTIONS = {"bits_per_raw_sample": "24"}
TICKS = 1000
"""Units of a video's clock in a frame, so that the last frame can end with the sound."""
LARGEST_SIDE = 16384
"""Of an H.264 frame."""
VIDEO_OPTIONS = {
    "crf": "18",
    "preset": "veryfast",  # of a picture that stands still slower ones make no smaller files
    "bf": "0",  # without B-frames the last frame shown is the last one stored, the only one whose length the file can name
}
BT709_LIMITED = 1
"""The number in H.264 both of BT.709's colours and of the range 16 to 235: what players take a video to be that does not say."""


class _Watched(io.BytesIO):
    """A file in memory that calls `on_write` before each write, which may raise and so end the writing."""

    def __init__(self, on_write: Callable[[], None]) -> None:
        super().__init__()
        self._on_write = on_write

    def write(self, data: Any, /) -> int:
        self._on_write()
        return super().write(data)


def encode_png(pixels: Tensor, texts: Mapping[str, str], xmp: str | None = None, on_step: OnStep | None = None) -> bytes:
    """PNG of pixels (H, W, C) in 0..1, of 1, 3 or 4 channels, the last of four being alpha, with texts and an XMP packet.

    Levels are rounded, so the file differs from `pixels` by half a level at most, a picture read from a PNG is stored unchanged, and
    the channel mean of a coloured spectrogram is what a gray one would be stored as (`colorize.color_spectrogram`). How many pieces the
    file takes is not known beforehand: on_step is called with (0, 1) before each, and with (1, 1) at the end.
    """
    on_step = on_step or (lambda *_: None)
    levels = torch.empty(*pixels.shape[:2], max(3, pixels.shape[2]), dtype=torch.uint8)
    for row, level in zip(pixels, levels, strict=True):  # of an hour, all of them in float are a gigabyte
        level.copy_((row * 255.0).round())
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    if xmp:
        info.add_itxt("XML:com.adobe.xmp", xmp)
    image = Image.fromarray(levels.numpy())
    del levels  # Pillow has its own copy
    buffer = _Watched(lambda: on_step(0, 1))
    image.save(buffer, "png", pnginfo=info, compress_level=4)
    on_step(1, 1)
    return buffer.getvalue()


def encode_flac(samples: Tensor, rate: int, tags: Mapping[str, str], on_step: OnStep | None = None) -> bytes:
    """FLAC of 24 bits of samples (1 or 2 channels, T) in -1..1; what is louder is clipped. on_step is called after each ten seconds."""
    buffer = io.BytesIO()
    pieces = samples.split(PIECE_SECONDS * rate, dim=-1)
    with av.open(buffer, mode="w", format="flac") as container:
        container.metadata.update(tags)
        stream = _audio_stream(container, "flac", rate, len(samples))
        for index, piece in enumerate(pieces):
            container.mux(stream.encode(_audio_frame(piece, rate, index * PIECE_SECONDS * rate)))
            if on_step:
                on_step(index + 1, len(pieces))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def encode_mp4(
    frames: Iterable[Tensor], fps: Fraction, samples: Tensor, rate: int, tags: Mapping[str, str], audio_codec: AudioCodec = "aac"
) -> io.BytesIO:
    """MP4 of uint8 frames (H, W, 3), H and W even, and samples (1 or 2 channels, T) in -1..1, as long as the sound to 1/1000 of a frame.

    `frames` are as many as it takes to show the sound to its end. They are encoded as they come, each with its stretch of the sound:
    memory holds no more than the encoder's few frames and the file.
    """
    frames = iter(frames)
    first = next(frames)
    end = Fraction(samples.shape[1], rate)
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mp4", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update(tags)
        video = container.add_stream("h264", rate=fps, options=VIDEO_OPTIONS)
        video.height, video.width = first.shape[:2]
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = 1 / (fps * TICKS)
        for name in ("colorspace", "color_primaries", "color_trc", "color_range"):
            setattr(video.codec_context, name, BT709_LIMITED)
        audio = _audio_stream(container, audio_codec, rate, len(samples))

        def mux(packets: Iterable[av.Packet]) -> None:
            for packet in packets:
                packet.duration = max(1, min(TICKS, int(end * fps * TICKS) - packet.pts))
                container.mux(packet)

        for index, pixels in enumerate(itertools.chain([first], frames)):
            frame = av.VideoFrame.from_numpy_buffer(pixels.numpy(), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            frame.pts, frame.time_base = index * TICKS, video.codec_context.time_base
            mux(video.encode(frame))
            start, stop = (round(Fraction(place * rate) / fps) for place in (index, index + 1))
            if start < samples.shape[1]:
                container.mux(audio.encode(_audio_frame(samples[:, start:stop], rate, start)))
        mux(video.encode(None))
        container.mux(audio.encode(None))
    buffer.seek(0)
    return buffer


def _audio_stream(container: av.container.OutputContainer, codec: AudioCodec, rate: int, channels: int) -> av.AudioStream:
    stream = container.add_stream(codec, rate=rate, layout=_layout(channels), options=FLAC_OPTIONS if codec == "flac" else {})
    if codec == "flac":
        stream.codec_context.format = "s32"
    else:
        stream.bit_rate = AAC_BITS_PER_CHANNEL * channels
    return stream


def _audio_frame(samples: Tensor, rate: int, start: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples.clamp(-1.0, 1.0).contiguous().numpy(), format="fltp", layout=_layout(len(samples)))
    frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
    return frame


def _layout(channels: int) -> str:
    return "mono" if channels == 1 else "stereo"
